from __future__ import annotations

import pytest

from mcp_server_claude import network_addresses


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:8000", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
        ("a-b.example_1.com.", "a-b.example_1.com."),
        ("", ""),
        ("[::1]evil", ""),
        ("[::1]:80evil", ""),
        ("[zz]", ""),
        ("[1.2.3]", ""),
        ("localhost#", ""),
        ("localhost?", ""),
        ("localhost/", ""),
        ("localhost\\", ""),
        ("user@localhost", ""),
        ("localhost:80:80", ""),
        ("local host", ""),
        ("ｌocalhost", ""),
    ],
)
def test_a_host_header_is_parsed_strictly(header: str, host: str) -> None:
    assert network_addresses.parse_host_header(header) == host


@pytest.mark.parametrize(
    ("url", "is_accepted"),
    [
        ("https://login.example/realms/team", True),
        ("http://localhost:8080/", True),
        ("http://user:secret@127.0.0.1/", True),
        ("http://[::1]evil/", False),
        ("http://[::1", False),
        ("http://", False),
        ("ftp://login.example", False),
        ("//login.example", False),
        ("https://login.example:port/", False),
    ],
)
def test_only_well_formed_http_urls_are_split(url: str, *, is_accepted: bool) -> None:
    assert (network_addresses.split_http_url(url) is not None) is is_accepted


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_hosts_are_recognised(host: str) -> None:
    assert network_addresses.is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.evil.example", "10.0.0.1", "::", "0.0.0.0", "", "127.0.0.1.evil"])  # noqa: S104
def test_other_hosts_are_not_loopback(host: str) -> None:
    assert not network_addresses.is_loopback(host)

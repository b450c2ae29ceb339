"""Host names, IP addresses and URLs: the questions that several parts of the server ask about them."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

HOST_HEADER = re.compile(r"(?P<host>\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._~-]{1,255})(?::[0-9]{0,5})?", re.ASCII)
"""A Host header: a name, an IPv4 address or a bracketed IPv6 address, and a port (RFC 9110, section 7.2)."""
USERINFO = re.compile(r"//[^/?#\s]*@")


def is_ip_address(host: str) -> bool:
    """True for an IPv4 or IPv6 address without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """True if only this machine can reach the host: `localhost` or a loopback address, without brackets."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parse_host_header(value: str) -> str:
    """The host of a Host header in lower case, IPv6 in brackets; empty if the header is malformed."""
    match = HOST_HEADER.fullmatch(value)
    if match is None:
        return ""
    host = match["host"].lower()
    return host if not host.startswith("[") or is_ip_address(host[1:-1]) else ""


def bracket_ipv6(host: str) -> str:
    """The host in lower case as it is written in a URL."""
    return f"[{host}]".lower() if ":" in host and not host.startswith("[") else host.lower()


def is_same_origin(origin: str, host: str) -> bool:
    """True if an Origin is that of the Host. The scheme is not compared: a proxy may terminate TLS."""
    return origin.lower() in {f"http://{host}".lower(), f"https://{host}".lower()}


def split_http_url(url: str) -> SplitResult | None:
    """The parts of an http or https URL; None if it has another scheme, no host, or a malformed host or port.

    `urlsplit` alone accepts `http://[::1]evil/` and `http://localhost#@evil/`, which clients read in other ways.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return None
    authority = parts.netloc.rpartition("@")[2]
    return parts if parts.scheme in {"http", "https"} and host and parse_host_header(authority) else None


def without_userinfo(text: str, replacement: str = "//") -> str:
    """The text with the user name and password of every URL replaced."""
    return USERINFO.sub(replacement, text)

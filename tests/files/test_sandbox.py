"""What a caller could name to read what it may not. Permission bits prove nothing here: the tests may run as root."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import (
    FilePolicy,
    build_attachments,
    glob_files,
    grep_files,
    list_directory,
)
from support.file_tree import CANARY, INSIDE_TEXT, FileTree, blocks_json, read_tool_text, run_with_timeout
from support.quick_run import examples
from support.symbolic_links import needs_links

HOSTILE = {
    "up": "../outside/canary.txt",
    "up from within": "src/../../outside/canary.txt",
    "up with dots": "./././../outside/canary.txt",
    "up through a file": "a.txt/../../outside/canary.txt",
    "up through nothing": "no/such/../../../outside/canary.txt",
    "up and up": "../" * 60 + "etc/passwd",
    "absolute": "{outside}/canary.txt",
    "absolute by way of the root": "{root}/../outside/canary.txt",
    "two slashes": "//etc/passwd",
    "the root's name as a prefix": "{root}-evil/canary.txt",
    "/etc": "/etc/passwd",
    "a link out": "out",
    "a relative link out": "out-relative",
    "a link to a link out": "out-chain",
    "a link to a prefix": "out-evil",
    "through a directory link": "out-dir/canary.txt",
    "through a link up": "up/outside/canary.txt",
    "through a link to /": "whole/etc/passwd",
    "through two links": "in-dir/../up/canary.txt",
    "a link to itself": "loop",
    "links in a circle": "loop-a",
    "a link to nothing": "dangling",
    "a pipe": "pipe",
    "a link to a pipe": "to-pipe",
    "a socket": "socket",
    "a device": "device",
    "a link to a device": "to-zero",
    "/dev/zero": "/dev/zero",
    "/dev/stdin": "/dev/stdin",
    "our environment": "/proc/self/environ",
    "a link to our environment": "to-environ",
    "our descriptors": "/proc/self/fd/0",
    "/proc's root": "/proc/self/root/etc/passwd",
    "/proc's directory": "/proc/self/cwd/../outside/canary.txt",
    "a directory": "src",
    "an empty directory": "empty",
    "the root": ".",
    "the root with a slash": "{root}/",
    "no name": "",
    "a blank name": " \t",
    "a zero": "a.txt\0.png",
    "half a pair": "a\ud800.txt",
    "a long component": "x" * 300,
    "a long path": "x/" * 2_500,
    "a deep path": "x/" * 1_900,
    "a file as a directory": "a.txt/b",
    "a new line": "a.txt\n",
    "an escape": "\x1b[2Ja.txt",
    "the home directory": "~/canary.txt",
    "somebody's home": "~root/.profile",
    "percent-encoded": "%2e%2e/outside/canary.txt",
    "backslashes": "..\\outside\\canary.txt",
    "wide dots": "\uff0e\uff0e/outside/canary.txt",
    "a secret": ".env",
    "a shouted secret": ".ENV",
    "a secret after dots": "src/../.env",
    "a link to a secret": "notes.txt",
    "a key": "keys/server.pem",
    "a private key": "id_rsa",
    "credentials": "credentials.json",
    "a secret directory": ".ssh/config",
    "git's credentials": ".git/config",
    "an invisible character in a secret's name": ".e\u200bnv",
    "an empty file": "nothing.txt",
    "a blank file": "blank.txt",
    "a program": "program",
    "noise": "noise",
    "a file URL": "file:///etc/passwd",
    "a file URL without slashes": "FILE:/etc/passwd",
    "http": "http://example.com/a.pdf",
    "ftp": "ftp://example.com/a.pdf",
    "javascript": "javascript:alert(1)",
    "credentials in a URL": "https://user:hunter2@example.com/a.pdf",
    "an at sign in a URL": "https://example.com@{outside}/a.pdf",
    "this machine": "https://localhost/a.pdf",
    "this machine by number": "https://127.0.0.1:8080/a.pdf",
    "this machine by its other number": "https://[::1]/a.pdf",
    "the cloud's metadata": "https://169.254.169.254/latest/meta-data",
    "a host within": "https://intranet/a.pdf",
    "no host": "https:///a.pdf",
    "a URL with a space": "https://example.com/a b.pdf",
    "a URL with a line": "https://example.com/a\nb.pdf",
    "a URL with a bad port": "https://example.com:99999/a.pdf",
    "a broken IPv6 URL": "https://[::1/a.pdf",
    "a long URL": "https://example.com/" + "a" * 3_000,
    "data without base64": "data:text/plain,hello",
    "data that is no base64": "data:text/plain;base64,@@@@",
    "data with spaces": "data:text/plain;base64,aGVs bG8=",
    "data without padding": "data:text/plain;base64,aGk",
    "empty data": "data:text/plain;base64,",
    "data of another type": "data:image/png;base64,aGVsbG8=",
    "data of no type": "data:;base64,aGVsbG8=",
    "data of a type not taken": "data:application/zip;base64,UEsDBA==",
    "data that is not a URI": "data:" + "x" * 2_000,
    "a glob up": "../*",
    "a glob up and down": "../**/*",
    "a glob that turns": "src/*/../../../outside/*",
    "a glob of everything": "/**/*",
    "a glob of /etc": "/etc/*",
    "a glob through a link": "out-dir/*",
    "a glob through a link up": "up/*.txt",
    "a glob of secrets": "keys/*",
    "a glob of hidden files": ".*",
    "a glob into git": ".git/*",
    "a glob of links out": "out*",
    "a glob of pipes": "pip?",
    "stars": "*" * 400,
    "stars among letters": "*a" * 200 + "b",
    "many double stars": "**/" * 100 + "b",
    "many alternatives": "{a,b}" * 12,
    "an open bracket": "[" * 200,
    "nested braces": "{" * 100 + "a,b" + "}" * 100,
    "a glob with a zero": "*\0",
    "a glob with half a pair": "*\udfff",
}


def fill_in(name: str, tree: FileTree) -> str:
    return name.replace("{root}", str(tree.root)).replace("{outside}", str(tree.outside))


def test_there_are_at_least_forty_hostile_names() -> None:
    assert len(HOSTILE) >= 40


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_name_is_rejected_at_once_and_without_information(unchanged_tree: FileTree, name: str) -> None:
    tree, name = unchanged_tree, fill_in(name, unchanged_tree)

    with pytest.raises(RequestError) as refused:
        tree.attach(name)

    message = str(refused.value)
    assert CANARY not in message
    assert "hunter2" not in message
    assert len(name) <= 120 or not any(name[n : n + 120] in message for n in range(len(name) - 119))
    assert message.replace(" ", "").isprintable()
    assert len(message) < 1_200


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_the_file_tools_reveal_no_more(unchanged_tree: FileTree, name: str) -> None:
    tree, name = unchanged_tree, fill_in(name, unchanged_tree)
    for tool in (
        lambda: list_directory(name, tree.rules),
        lambda: read_tool_text(name, tree.rules),
        lambda: glob_files("**", name, tree.rules),
        lambda: glob_files(name, "", tree.rules),
        lambda: grep_files("c4n4ry|root:", name, tree.rules),
    ):
        try:
            message = run_with_timeout(tool)
        except RequestError as refused:
            message = str(refused)
        assert CANARY not in message
        assert "root:x:0" not in message
        assert "outside:" not in message


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "name",
    [
        *("a.txt", "./a.txt", "src//a.py", "src/../a.txt"),
        *(
            pytest.param(link, marks=needs_links)
            for link in ("in", "in-dir/b.py", "in-absolute", "in-around", "link-20")
        ),
    ],
)
def test_links_and_detours_inside_the_root_are_followed(tree: FileTree, name: str) -> None:
    assert INSIDE_TEXT in tree.attached_texts(name)[-1]


@needs_links
def test_more_links_than_the_system_would_follow_are_not_followed(tree: FileTree) -> None:
    with pytest.raises(RequestError, match="too many"):
        tree.attach("link-59")


@pytest.mark.parametrize(
    "name",
    [
        "/proc/self/environ",
        "/proc/self/mem",
        "/proc/1/environ",
        "/proc/self/root/proc/self/environ",
        "/proc/kmsg",
        "/dev/fd/0",
        "/dev/zero",
        "/dev/tty",
        "/dev/null",
        "/sys/kernel/notes",
        "/etc/shadow",
        "/sys",
    ],
)
def test_virtual_file_systems_are_not_read_even_with_the_whole_system_as_root(name: str) -> None:
    rules = FilePolicy(roots=(Path("/"),))
    with pytest.raises(RequestError):
        run_with_timeout(lambda: build_attachments([name], rules, images=True, pdf=True, model="m"))


def test_with_no_root_nothing_is_read_and_the_setting_is_named(tree: FileTree) -> None:
    for name in ("a.txt", str(tree.root / "a.txt"), "*", "~/a.txt"):
        with pytest.raises(RequestError, match="MCP_CLAUDE_ROOTS"):
            tree.attach(name, roots=())


def test_a_root_that_is_missing_or_becomes_a_link_is_reported(tree: FileTree) -> None:
    missing = tree.root.parent / "gone"
    for name in ("a.txt", "*.txt"):
        with pytest.raises(RequestError):
            tree.attach(name, roots=(missing,))


@needs_links
def test_only_allowed_names_are_read(tree: FileTree) -> None:
    (tree.root / ".env").write_text("DEBUG=1")
    (tree.root / ".env.local").write_text(CANARY)
    (tree.root / ".env.example").write_text("DEBUG=")

    assert "DEBUG=1" in blocks_json(tree.attach(".env", "notes.txt", allow_secret_names=(".env",)).blocks)
    assert "DEBUG=" in blocks_json(tree.attach(".env.example").blocks)
    assert CANARY in blocks_json(tree.attach("keys/server.pem", allow_secret_names=("keys/*.pem",)).blocks)
    with pytest.raises(RequestError, match="MCP_CLAUDE_ALLOW_FILES"):
        tree.attach(".env.local", allow_secret_names=(".env",))


SECRET_NAMES = (
    *(".mcp.json", "claude_desktop_config.json", ".cursor/mcp.json", ".vscode/mcp.json", ".codex/auth.json"),
    *("auth.json", ".gemini/oauth_creds.json", "x-firebase-adminsdk-1.json", ".secrets", "k8s-secret.yaml"),
    *(".dev.vars", ".vault_pass", ".huggingface/token", ".kaggle/kaggle.json", "private_key.txt", "wg0.conf"),
    *("deploy_key", "x.asc", "x.gpg", "api_key.txt", "passwords.txt", ".zhistory", ".config/chromium/Default/Cookies"),
    *("BraveSoftware/Brave-Browser/Default/Login Data", "Default/Cookies", "Default/Login Data", ".databrickscfg"),
    *(".snowsql/config", "pip.conf", ".bundle/config", "htpasswd", ".secrets/token", "apiKeys.json", "PrivateKey.txt"),
    *("my-passwords.csv", "db.password", "prod.secrets", "vault_password.txt", ".fish_history", ".viminfo"),
    *(".wrangler/config/default.toml", ".windsurf/mcp_config.json", "cline_mcp_settings.json", "terraform.rc"),
    *("access-token", "refresh_token.json", "recovery-codes.txt", ".config/github-copilot/apps.json", "x.agekey"),
    *("wpa_supplicant.conf", "office.nmconnection", "wp-config.php", ".m2/settings-security.xml", "chap-secrets"),
    *("Cookies\u200b", "ＡＰＩ_ＫＥＹ.txt"),
    *(("PASSWORDS.TXT ",) if sys.platform != "win32" else ()),  # which trims it, so that it is never opened
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_used_for_secrets_is_rejected_with_the_setting_that_allows_it(tree: FileTree, name: str) -> None:
    path = tree.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CANARY)
    with pytest.raises(RequestError, match=r"may contain a secret\. .* MCP_CLAUDE_ALLOW_FILES"):
        tree.attach(name)
    with pytest.raises(RequestError):
        tree.attach(f"{path.parent.relative_to(tree.root)}/*{path.name[1:]}")
    assert CANARY in blocks_json(tree.attach(name, allow_secret_names=("*",)).blocks)


@pytest.mark.parametrize(
    "name",
    [
        *("credentials.py", "src/secrets.ts", "id_rsa.pub", "keynote.md", "environment.txt", "secretary.txt"),
        *("design-tokens.json", "tokenizer.json", "password_reset.html", "monkey.txt", "api.json", "history.txt"),
        *("HISTORY.md", "key_value.yaml", "compass.txt", "settings.json", "config.toml", "cookies.py", "x.conf"),
        *("author.json", "hockey.csv", "keyboard.toml", "secretPlans/notes.txt"),
    ],
)
def test_names_that_only_resemble_secrets_are_read(tree: FileTree, name: str) -> None:
    path = tree.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("nothing to hide")
    assert tree.attached_texts(name)


PIECES = [
    *(
        "..",
        ".",
        "/",
        "//",
        "a.txt",
        "src",
        "a.py",
        "in",
        "in-dir",
        "out",
        "out-dir",
        "up",
        "whole",
        "loop",
        "notes.txt",
    ),
    *(
        "canary.txt",
        "outside",
        "root",
        "root-evil",
        "{root}",
        "{outside}",
        "*",
        "**",
        "?",
        "[a-z]*",
        "{a,..}",
        "~",
        "~root",
    ),
    *(
        "proc",
        "self",
        "cwd",
        "environ",
        "dev",
        "fd",
        "0",
        ".env",
        ".git",
        "\0",
        "\ud800",
        "%2e",
        "\\",
        ":",
        "C:",
        "#image",
    ),
    *("https://", "http://", "file:", "data:", "text/plain;base64,", "example.com", "file_", "é", "\u202e", " "),
]


@pytest.mark.parametrize("walks", [True, False])
@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=9).map("/".join)
    | st.lists(st.sampled_from(PIECES), max_size=9).map("".join)
)
def test_any_name_is_rejected_or_yields_a_file_of_the_root(
    unchanged_tree: FileTree, monkeypatch: pytest.MonkeyPatch, *, walks: bool, name: str
) -> None:
    tree = unchanged_tree
    monkeypatch.setattr("mcp_server_claude.files.sandbox.HAS_OPENAT", walks)
    try:
        blocks = build_attachments([fill_in(name, tree)], tree.rules, images=True, pdf=True, model="m").blocks
    except RequestError as refused:
        assert CANARY not in str(refused)  # noqa: PT017 - any other outcome is fine too
        return
    for block in blocks:
        if block["type"] != "text":
            assert json.dumps(block["source"]).startswith(('{"type": "url"', '{"type": "file"'))
        elif 'path="data:' not in str(block["text"]):
            inner = str(block["text"]).partition("\n")[2].rpartition("\n")[0]
            assert INSIDE_TEXT in inner
            assert CANARY not in inner


@needs_links
def test_an_unknown_name_is_rejected_with_the_nearest_one(tree: FileTree) -> None:
    for name, nearest in {
        "src/a.pyy": "src/a.py",
        "scr/b.py": "src/b.py",
        **({"A.TXT": "a.txt"} if not (tree.root / "A.TXT").exists() else {}),
        "in-dri/a.py": "in-dir/a.py",
        f"{tree.root}/src/aa.py": "src/a.py",
    }.items():
        with pytest.raises(RequestError, match="nearest") as refused:
            tree.attach(name)
        assert f'"{nearest}"' in str(refused.value)
    with pytest.raises(RequestError) as refused:
        tree.attach("zzz")
    assert str(tree.root) in str(refused.value)


def test_suggestions_never_name_secrets_or_files_outside_the_roots(tree: FileTree) -> None:
    for name in (".enw", "id_rsaa", "out-dir/canary.tx", "keys/server.pen", "../outside/canary.tx"):
        with pytest.raises(RequestError) as refused:
            tree.attach(name)
        assert not {'".env"', '"id_rsa"', '"keys/server.pem"', "canary.txt"} & set(str(refused.value).split())


def test_limits_hold_before_anything_is_read(tree: FileTree) -> None:
    big = tree.root / "big.txt"
    with big.open("wb") as file:
        file.truncate(1 << 40)  # a terabyte of nothing
    with pytest.raises(RequestError, match=r"30\.0 MB"):
        tree.attach("big.txt")
    with pytest.raises(RequestError, match=r"30\.0 MB"):
        tree.attach("big.*")
    for n in range(4):
        (tree.root / f"half-{n}.txt").write_text("x" * 400)
    with pytest.raises(RequestError, match="together"):
        tree.attach("half-*.txt", max_total_bytes=1_500)
    with pytest.raises(RequestError, match="as they are sent"):
        tree.attach("half-*.txt", max_total_bytes=1_700)
    with pytest.raises(RequestError, match="characters of text"):
        tree.attach("half-*.txt", max_text_chars=1_000)
    with pytest.raises(RequestError, match="matches 4 files; at most 3"):
        tree.attach("half-*.txt", max_files=3)
    with pytest.raises(RequestError, match="at most 3"):
        tree.attach("half-0.txt", "half-1.txt", "a.txt", "src/a.py", max_files=3)
    with pytest.raises(RequestError, match="5 files; at most 4"):
        tree.attach("half-*.txt", "a.txt", max_files=4)
    with pytest.raises(RequestError, match=r"The data: URI has 3\.0 kB; at most 999 bytes"):
        tree.attach("data:text/plain;base64," + "YWFh" * 1_000, max_file_bytes=999)


def test_a_hard_link_is_a_file_of_its_own(tree: FileTree) -> None:
    os.link(tree.root / "a.txt", tree.root / "again.txt")
    assert len(tree.attached_texts("a.txt", "again.txt")) == 2


@needs_links
def test_rules_may_name_a_root_by_a_link(tree: FileTree) -> None:
    alias = tree.root.parent / "alias"
    alias.symlink_to("root")
    rules = replace(tree.rules, roots=(alias,))
    for name in ("a.txt", f"{alias}/a.txt", f"{tree.root}/a.txt"):
        assert INSIDE_TEXT in blocks_json(build_attachments([name], rules, images=True, pdf=True, model="m").blocks)

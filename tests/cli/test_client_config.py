"""What `mcp-server-claude config` prints: configurations that work when they are pasted."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from mcp_server_claude import __version__
from mcp_server_claude.cli import client_config, command_line, json_members
from mcp_server_claude.cli.client_config_files import config_path, write_config
from mcp_server_claude.errors import RequestError
from mcp_server_claude.settings_sources import is_placeholder
from support.mcp_session import FAKE_KEY, server_environment
from support.server_command import server_command

if TYPE_CHECKING:
    from mcp_server_claude.cli.client_config import Client

ROOT = Path(__file__).parents[2]
AWKWARD = ('/home/Anne O\'Neil/my "tools" $HOME/mcp-server-claude', "-m", "a b")
each_client = pytest.mark.parametrize("client", client_config.CLIENTS)


def entry_of(configuration: object) -> dict[str, object]:
    """The one server in a client's configuration."""
    held = cast("dict[str, dict[str, dict[str, object]]]", configuration)
    servers = held.get("mcpServers") or held.get("servers") or held.get("context_servers") or held["mcp_servers"]
    assert list(servers) == ["claude"]
    return servers["claude"]


def key_in(entry: dict[str, object]) -> str:
    if entry.get("env_vars") == ["MCP_CLAUDE_API_KEY"]:  # Codex hands the variable on
        return "${MCP_CLAUDE_API_KEY}"
    environment = cast("dict[str, str]", entry["env"])
    assert set(environment) <= {"MCP_CLAUDE_API_KEY", "MCP_CLAUDE_DETACH_AFTER_S"}
    return environment["MCP_CLAUDE_API_KEY"]


def loaded(client: Client, text: str) -> object:
    return tomllib.loads(text) if client == "codex" else json.loads(text)


def config(*arguments: str) -> str:
    command = server_command("config", *arguments)
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


@each_client
def test_with_json_only_the_file_of_the_client_is_printed(client: Client) -> None:
    assert loaded(client, config(client, "--json")) == client_config.client_configuration(
        client, command_line.server_command()
    )


@each_client
def test_the_command_in_a_configuration_exists_and_is_the_own_one(client: Client) -> None:
    entry = entry_of(loaded(client, config(client, "--json")))
    command = [str(entry["command"]), *cast("list[str]", entry["args"])]

    assert Path(command[0]).is_absolute()
    answer = subprocess.run([*command, "--version"], check=True, capture_output=True, encoding="utf-8").stdout
    assert answer == f"mcp-server-claude {__version__}\n"


@each_client
def test_a_key_that_was_not_filled_in_is_treated_as_unset(client: Client) -> None:
    assert is_placeholder(key_in(entry_of(client_config.client_configuration(client, ["/x"]))))


@each_client
def test_a_path_with_spaces_and_quotes_survives_json(client: Client) -> None:
    entry = entry_of(loaded(client, client_config.config_json(client, AWKWARD)))
    assert (entry["command"], *cast("list[str]", entry["args"])) == AWKWARD


@pytest.mark.parametrize("client", ["claude-code", "inspector"])
def test_a_path_with_spaces_and_quotes_survives_a_shell(client: Client) -> None:
    lines = [
        passage.text for passage in client_config.config_snippets(client, AWKWARD) if "In a shell" in passage.location
    ]

    assert lines
    for line in lines:
        words = shlex.split(line)
        start = words.index(AWKWARD[0])
        assert tuple(words[start : start + len(AWKWARD)]) == AWKWARD


def test_a_command_for_windows_is_quoted_by_its_rules() -> None:
    assert command_line.shell_line(["a", "C:\\Program Files\\x.exe"], windows=True) == 'a "C:\\Program Files\\x.exe"'


def test_without_a_client_all_clients_are_listed_and_the_name_of_the_key_is_explained() -> None:
    printed = config()

    for name in client_config.CLIENT_NAMES.values():
        assert f"{name}\n" in printed
    assert "claude mcp add claude -e 'MCP_CLAUDE_API_KEY=<your Anthropic API key>' -- " in printed
    assert client_config.KEY_VARIABLE_NOTE in printed


@each_client
def test_a_server_with_a_key_in_the_keyring_is_configured_by_the_name_of_the_key(client: Client) -> None:
    configuration = client_config.client_configuration(client, ["/x"], "work")
    text = client_config.format_configuration(client, configuration)
    assert loaded(client, text) == configuration
    assert "MCP_CLAUDE_API_KEY" not in text
    assert cast("dict[str, str]", entry_of(configuration)["env"])["MCP_CLAUDE_KEYRING"] == "work"
    snippets = client_config.config_snippets(client, ["/x"], "work")
    assert all("MCP_CLAUDE_KEYRING" in each.text for each in snippets)
    assert not any("MCP_CLAUDE_API_KEY" in each.text + each.location for each in snippets)


@pytest.mark.parametrize("client", ["codex", "vscode"])
def test_the_keyring_of_the_shell_is_written_into_a_file_that_had_a_key(client: Client, tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path), "CODEX_HOME": str(tmp_path), "MCP_CLAUDE_DATA_DIR": str(tmp_path)}
    path = config_path(client, home=tmp_path, directory=tmp_path, environ=environ)
    write_config(client, path, client_config.client_configuration(client, ["/x"]))
    command = server_command("config", client, "--write")
    environ |= {"MCP_CLAUDE_KEYRING": "work", "MCP_CLAUDE_API_KEY": ""}
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", env=environ, cwd=tmp_path)
    assert "It takes the key work from the keyring of the system." in done.stdout
    assert "Set in this shell: MCP_CLAUDE_DATA_DIR. " in done.stdout
    entry = entry_of(loaded(client, path.read_text(encoding="utf-8")))
    assert cast("dict[str, str]", entry["env"])["MCP_CLAUDE_KEYRING"] == "work"


def test_settings_of_the_shell_that_a_client_would_lack_are_named(tmp_path: Path) -> None:
    """A gateway's address in the shell, and a client from the dock: it would send the key to another address."""
    environ = server_environment(data_dir=tmp_path, base_url="http://127.0.0.1:9", api_key=FAKE_KEY)
    command = server_command("config", "claude-desktop")
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", env=environ).stdout
    assert "Set in this shell: MCP_CLAUDE_BASE_URL, MCP_CLAUDE_DATA_DIR. " in printed
    assert FAKE_KEY not in printed
    as_json = subprocess.run([*command, "--json"], check=True, capture_output=True, encoding="utf-8", env=environ)
    assert json.loads(as_json.stdout) == json.loads(config("claude-desktop", "--json"))


def test_claude_code_loads_the_tools_at_once_and_reads_the_key_from_the_environment() -> None:
    entry = entry_of(client_config.client_configuration("claude-code", ["/x"]))
    assert entry["alwaysLoad"] is True
    assert key_in(entry) == "${MCP_CLAUDE_API_KEY}"


def test_vs_code_prompts_for_the_key_and_hides_it() -> None:
    configuration = client_config.client_configuration("vscode", ["/x"])
    (prompt,) = cast("list[dict[str, object]]", configuration["inputs"])

    assert (prompt["type"], prompt["password"]) == ("promptString", True)
    assert key_in(entry_of(configuration)) == f"${{input:{prompt['id']}}}"


def test_the_example_is_what_config_prints_with_a_placeholder_for_the_path() -> None:
    example: object = json.loads((ROOT / "claude_desktop_config.example.json").read_text(encoding="utf-8"))

    assert example == client_config.client_configuration("claude-desktop", [client_config.EXAMPLE_COMMAND])
    assert is_placeholder(key_in(entry_of(example)))


def test_only_claude_desktop_detaches_calls_before_its_own_timeout() -> None:
    for client in client_config.CLIENTS:
        detaches = "MCP_CLAUDE_DETACH_AFTER_S" in client_config.config_json(client, ["server"])
        assert detaches is (client == "claude-desktop")


@pytest.mark.parametrize(("client", "name"), [("codex", "tool_timeout_sec"), ("cline", "timeout")])
def test_clients_with_a_timeout_of_a_minute_get_one_of_an_hour(client: Client, name: str) -> None:
    assert entry_of(client_config.client_configuration(client, ["/x"]))[name] == 3600
    assert entry_of(client_config.http_configuration(client, "http://h/mcp"))[name] == 3600


def test_without_the_console_script_the_interpreter_starts_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/nowhere")  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert command_line.server_command() == ("/nowhere/python", "-m", "mcp_server_claude")


@each_client
def test_a_configuration_is_added_to_an_existing_file_with_a_backup(client: Client, tmp_path: Path) -> None:
    if client == "inspector":
        with pytest.raises(RequestError, match="no file of a fixed name"):
            config_path(client, home=tmp_path, directory=tmp_path, environ={})
        return
    path = config_path(client, home=tmp_path, directory=tmp_path, environ={})
    configuration = client_config.client_configuration(client, ["/x"])
    first = write_config(client, path, configuration)
    assert (first.backup, first.has_changed) == (None, True)
    assert loaded(client, path.read_text(encoding="utf-8")) == configuration
    assert not write_config(client, path, configuration).has_changed

    other = '# mine\n[mcp_servers.other]\ncommand = "y"' if client == "codex" else '{"theme": "dark"}'
    path.write_text(other, encoding="utf-8")
    path.chmod(0o640)
    second = write_config(client, path, configuration)
    assert second.backup is not None
    assert second.backup.read_text(encoding="utf-8") == other
    text = path.read_text(encoding="utf-8")
    assert other in text if client == "codex" else json.loads(text) == {"theme": "dark"} | configuration
    assert sys.platform == "win32" or path.stat().st_mode & 0o777 == 0o640
    assert not list(path.parent.glob(f".{path.name}.*"))


def test_writing_again_keeps_the_key_and_the_token_that_replaced_a_placeholder(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    local = client_config.client_configuration("zed", ["/x"])
    remote = client_config.http_configuration("zed", "http://h/mcp")
    for configuration, placeholder in (
        (local, client_config.KEY_PLACEHOLDER),
        (remote, client_config.TOKEN_PLACEHOLDER),
    ):
        write_config("zed", path, configuration)
        filled = path.read_text(encoding="utf-8").replace(placeholder, "mine")
        path.write_text(filled, encoding="utf-8")
        assert not write_config("zed", path, configuration).has_changed
        assert path.read_text(encoding="utf-8") == filled


def test_writing_again_keeps_what_somebody_added_to_the_entry_and_changes_the_command(tmp_path: Path) -> None:
    """A budget, a key in the file itself, a tool that needs no confirmation, a longer limit: these are choices."""
    path = tmp_path / "mcp.json"
    fields = {
        "env": {"MCP_CLAUDE_API_KEY": FAKE_KEY, "MCP_CLAUDE_BUDGET_USD_PER_DAY": "5"},
        "timeout": 60,
        "disabled": True,
    }
    path.write_text(json.dumps({"mcpServers": {"claude": {"command": "/old", "args": ["-x"]} | fields}}), "utf-8")
    assert write_config("cline", path, client_config.client_configuration("cline", ["/new"])).has_changed
    assert json.loads(path.read_text("utf-8"))["mcpServers"]["claude"] == {"command": "/new", "args": []} | fields

    remote = client_config.http_configuration("cline", "http://h/mcp")
    write_config("cline", path, remote)  # the other transport has nothing of it
    assert json.loads(path.read_text("utf-8")) == remote


def test_comments_indentation_and_ends_of_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    before = '// Zed settings\r\n{\r\n\t"theme": "dark", // not "light"\r\n\t"ui_font_size": 16,\r\n}\r\n'
    path.write_bytes(before.encode())
    configuration = client_config.client_configuration("zed", ["/x"])
    written = write_config("zed", path, configuration)
    assert written.backup is not None
    assert written.backup.read_bytes() == before.encode()
    after = path.read_bytes().decode()
    assert after.startswith(before[: before.index("\r\n}")] + '\r\n\t"context_servers": {\r\n\t\t"claude": {\r\n')
    assert json_members.parse_jsonc(after) == {"theme": "dark", "ui_font_size": 16} | configuration
    assert after.count("\n") == after.count("\r\n")
    assert not write_config("zed", path, configuration).has_changed


def test_comments_within_the_entry_of_this_server_stay_where_only_other_members_change(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    before = """{
  "mcpServers": {
    "claude": {
      // the build of today
      "command": "/old",
      "args": [],
      "env": {
        "MCP_CLAUDE_BUDGET_USD_PER_DAY": "5" // as agreed
      }
    }
  }
}
"""
    path.write_text(before, encoding="utf-8")
    configuration = client_config.client_configuration("cursor", ["/new"])
    assert write_config("cursor", path, configuration).has_changed
    after = path.read_text(encoding="utf-8")
    added = {line for line in after.splitlines() if line not in before.splitlines()}
    assert "      // the build of today\n" in after
    assert '"MCP_CLAUDE_BUDGET_USD_PER_DAY": "5", // as agreed\n' in after
    assert '      "command": "/new",' in added
    environment = cast("dict[str, str]", entry_of(configuration)["env"])
    environment["MCP_CLAUDE_BUDGET_USD_PER_DAY"] = "5"
    assert json_members.parse_jsonc(after) == configuration
    assert not write_config("cursor", path, configuration).has_changed


def test_codex_gets_another_command_and_keeps_the_rest_of_its_table(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    before = (
        'model = "m" # mine\n\n[mcp_servers.claude] # ours\ncommand = "/o#\\"ld"  # here\nargs = []\n'
        'env_vars = ["HTTPS_PROXY"]\n\n[mcp_servers.claude.env]\n'
        'MCP_CLAUDE_BUDGET_USD_PER_DAY = "5"\n\n[other]\ncommand = "x"\n'
    )
    path.write_text(before, encoding="utf-8")
    configuration = client_config.client_configuration("codex", ["/new"])
    assert write_config("codex", path, configuration).has_changed
    text = path.read_text(encoding="utf-8")
    loaded_file = tomllib.loads(text)
    assert loaded_file["mcp_servers"]["claude"] == {
        "command": "/new",
        "args": [],
        "env_vars": ["HTTPS_PROXY", "MCP_CLAUDE_API_KEY"],
        "tool_timeout_sec": 3600,
        "env": {"MCP_CLAUDE_BUDGET_USD_PER_DAY": "5"},
    }
    assert loaded_file["other"] == {"command": "x"}
    kept = ('model = "m" # mine', "[mcp_servers.claude] # ours", '\ncommand = "/new"  # here\n', "\nargs = []\n")
    assert all(each in text for each in kept)
    assert not write_config("codex", path, configuration).has_changed


@pytest.mark.parametrize(
    ("client", "text", "reason"),
    [
        ("zed", "[]", "it does not contain a JSON object"),
        ("zed", '{"context_servers": 3}', "'context_servers' in it has the wrong type"),
        ("zed", '{\n  "theme": dark\n}', "line 2 column 12"),
        ("zed", '{"theme": "dark"', "line 1 column 17"),
        ("zed", "// only a comment", "Expecting value"),
        ("codex", "mcp_servers = 3", "'mcp_servers' in it has the wrong type"),
        ("codex", "[broken", "Expected ']' at the end of a table declaration"),
        ("codex", 'mcp_servers = { x = { command = "y" } }', "is written in another way"),
        ("codex", 'mcp_servers.claude = { command = "y" }', "is written in another way"),
        ("codex", '[mcp_servers.claude]\ncommand = """y\nz"""', "is written in another way"),
        ("codex", '[mcp_servers.claude]\nurl = "http://h/mcp"', "is written in another way"),
    ],
)
def test_a_file_that_cannot_be_changed_says_why_and_is_unchanged(
    client: Client, text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "settings"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=r"To add this server by hand: .*config (zed|codex)") as failure:
        write_config(client, path, client_config.client_configuration(client, ["/x"]))
    assert reason in str(failure.value)
    assert path.read_text(encoding="utf-8") == text
    assert [each.name for each in tmp_path.iterdir()] == ["settings"]


def test_an_input_that_is_asked_for_already_is_not_asked_for_twice(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    own = {"id": client_config.VSCODE_INPUT_ID, "type": "promptString", "description": "Our key"}
    path.write_text(json.dumps({"inputs": [own], "servers": {}}), encoding="utf-8")
    write_config("vscode", path, client_config.client_configuration("vscode", ["/x"]))
    assert json.loads(path.read_text(encoding="utf-8"))["inputs"] == [own]


def test_comments_between_the_inputs_of_vs_code_stay(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    before = '{\n  "inputs": [\n    // for the tracker\n    {"id": "tracker"} // a token\n  ],\n  "servers": {}\n}\n'
    path.write_text(before, encoding="utf-8")
    write_config("vscode", path, client_config.client_configuration("vscode", ["/x"]))
    after = path.read_text(encoding="utf-8")
    assert "    // for the tracker\n" in after
    assert "// a token\n" in after
    held = cast("dict[str, list[dict[str, object]]]", json_members.parse_jsonc(after))
    assert [each["id"] for each in held["inputs"]] == ["tracker", client_config.VSCODE_INPUT_ID]


def test_configuration_files_are_in_the_directories_of_each_system() -> None:
    def path(client: Client, platform: str, **environ: str) -> str:
        found = config_path(client, home=Path("/h"), directory=Path("/p"), platform=platform, environ=environ)
        return found.as_posix()

    assert path("claude-desktop", "darwin") == "/h/Library/Application Support/Claude/claude_desktop_config.json"
    assert path("claude-desktop", "win32", APPDATA="/a") == "/a/Claude/claude_desktop_config.json"
    assert path("claude-desktop", "linux") == "/h/.config/Claude/claude_desktop_config.json"
    assert path("claude-code", "linux") == "/p/.mcp.json"
    assert path("codex", "linux", CODEX_HOME="/c") == "/c/config.toml"
    assert path("zed", "linux", XDG_CONFIG_HOME="/x") == "/x/zed/settings.json"
    assert path("zed", "darwin", XDG_CONFIG_HOME="/x") == "/h/.config/zed/settings.json"
    assert path("zed", "win32", APPDATA="/a") == "/a/Zed/settings.json"
    assert path("gemini", "linux", GEMINI_CLI_HOME="/g") == "/g/.gemini/settings.json"
    assert path("cline", "linux") == "/h/.cline/data/settings/cline_mcp_settings.json"
    assert path("cline", "linux", CLINE_DIR="/l") == "/l/data/settings/cline_mcp_settings.json"
    assert path("cline", "linux", CLINE_DATA_DIR="/d") == "/d/settings/cline_mcp_settings.json"
    assert path("cline", "linux", CLINE_MCP_SETTINGS_PATH="/m.json") == "/m.json"


@each_client
def test_over_http_a_client_gets_the_url_and_a_token(client: Client) -> None:
    if client == "claude-desktop":
        with pytest.raises(RequestError, match="connectors"):
            client_config.http_configuration(client, "http://h/mcp")
        return
    entry = entry_of(client_config.http_configuration(client, "http://h/mcp"))
    assert "http://h/mcp" in entry.values()
    if client == "codex":  # it takes the token from a variable
        assert entry["bearer_token_env_var"] == "MCP_CLAUDE_TOKEN"
    else:
        assert entry["headers"] == {"Authorization": f"Bearer {client_config.TOKEN_PLACEHOLDER}"}


def test_write_changes_the_file_of_the_project(tmp_path: Path) -> None:
    done = subprocess.run(
        server_command("config", "claude-code", "--write"),
        check=True,
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
    )
    assert done.stdout.startswith(f"Wrote {tmp_path / '.mcp.json'}. Restart Claude Code.")
    assert "It takes the key from MCP_CLAUDE_API_KEY in your environment." in done.stdout
    assert entry_of(json.loads((tmp_path / ".mcp.json").read_text()))["type"] == "stdio"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--json", "--write"), "choose one of them."),
        (("--url", "claude.example.com"), "use an address such as https://"),
        (("--url", "ftp://claude.example.com"), "use an address such as https://"),
    ],
)
def test_options_that_would_write_something_else_are_refused(
    options: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        server_command("config", "claude-code", *options),
        check=False,
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, complaint in done.stderr) == (2, "", True)
    assert not list(tmp_path.iterdir())

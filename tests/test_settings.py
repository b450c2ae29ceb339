from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_server_claude.settings import Settings
from mcp_server_claude.settings_sources import config_file, variable_name


def write_config(tmp_path: Path, patch: pytest.MonkeyPatch, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text)
    patch.setenv("MCP_CLAUDE_CONFIG", str(file))
    return file


def test_without_settings_everything_has_a_default_and_there_is_no_problem() -> None:
    settings = Settings.load()
    assert settings.problems == ()
    assert settings.api_key is None
    assert {settings.source_of(name) for name in Settings.model_fields} == {"default"}


def test_the_environment_outranks_the_file_and_the_file_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config(tmp_path, monkeypatch, 'model = "haiku"\nprogress = "text"\nheartbeat_s = 3\n')
    monkeypatch.setenv("MCP_CLAUDE_MODEL", "opus")
    settings = Settings.load()
    assert (settings.model, settings.progress, settings.heartbeat_s, settings.footer) == ("opus", "text", 3.0, True)
    sources = [settings.source_of(name) for name in ("model", "progress", "footer")]
    assert sources == ["MCP_CLAUDE_MODEL", str(file), "default"]
    assert settings.problems == ()


def test_the_file_is_looked_up_in_the_configuration_of_the_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MCP_CLAUDE_CONFIG", raising=False)
    assert config_file().parts[-2:] == ("mcp-server-claude", "config.toml")
    monkeypatch.setenv("MCP_CLAUDE_CONFIG", str(tmp_path / "mine.toml"))
    assert config_file() == tmp_path / "mine.toml"
    monkeypatch.setenv("MCP_CLAUDE_CONFIG", "~/mine.toml")
    assert config_file() == Path.home() / "mine.toml"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROGRESS", "loud-secret"),
        ("HEARTBEAT_S", "often-secret"),
        ("HEARTBEAT_S", "1e9"),
        ("PROGRESS_INTERVAL_S", "nan"),
        ("FOOTER", "perhaps-secret"),
        ("MODELS_WAIT_S", "-1"),
        ("LOG_LEVEL", "verbose-secret"),
    ],
)
def test_one_wrong_value_is_reported_without_the_value_and_affects_no_other_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MCP_CLAUDE_{name}", value)
    monkeypatch.setenv("MCP_CLAUDE_MODEL", "opus")
    settings = Settings.load()
    (problem,) = settings.problems
    assert problem.startswith(f"MCP_CLAUDE_{name}: {name.lower()} must be ")
    assert "secret" not in problem
    assert settings.model == "opus"
    assert getattr(settings, name.lower()) == getattr(Settings(), name.lower())


@pytest.mark.parametrize(
    "name", ["MODEL", "FALLBACK_MODEL", "KEYRING", "PUBLIC_URL", "OIDC_SCOPE", "OIDC_AUDIENCE", "ALLOWED_HOSTS"]
)
def test_an_api_key_in_another_setting_is_rejected_and_not_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-ant-api03-in-the-wrong-place-0123456789"
    monkeypatch.setenv(f"MCP_CLAUDE_{name}", key)
    settings = Settings.load()
    (problem,) = settings.problems
    assert problem.startswith(f"MCP_CLAUDE_{name}: ")
    assert "MCP_CLAUDE_API_KEY" in problem
    assert key not in problem
    assert key not in repr(settings)
    assert getattr(settings, name.lower()) == getattr(Settings(), name.lower())


def test_an_unknown_setting_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, monkeypatch, 'modle = "opus"\nfooter = false\n')
    monkeypatch.setenv("MCP_CLAUDE_MODLE", "opus")
    settings = Settings.load()
    assert settings.problems == (
        "config.toml has no setting named 'modle'.",
        "There is no setting MCP_CLAUDE_MODLE.",
    )
    assert settings.footer is False


@pytest.mark.parametrize("text", ["model = ", "\x00", "[table\n", 'model = "a"\nmodel = "b"\n'])
def test_an_unreadable_file_is_reported_and_the_server_starts(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config(tmp_path, monkeypatch, text)
    (problem,) = Settings.load().problems
    assert problem.startswith(f"{file} could not be read")


@pytest.mark.parametrize("text", ["model = 7\n", "model = ['opus']\n", "[model]\nname = 'opus'\n", "footer = {}\n"])
def test_a_file_may_hold_values_of_any_kind(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(tmp_path, monkeypatch, text)
    settings = Settings.load()
    assert len(settings.problems) == 1
    assert (settings.model, settings.footer) == ("sonnet", True)


def test_a_directory_in_place_of_the_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_CLAUDE_CONFIG", str(tmp_path))
    settings = Settings.load()
    assert settings.problems == (f"{tmp_path} could not be read (IsADirectoryError).",)
    assert settings.model == "sonnet"


@pytest.mark.parametrize("name", ["/nonexistent/settings.toml", "~nobody-of-that-name/settings.toml", "x" * 5_000])
def test_a_named_file_that_does_not_exist_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_CLAUDE_CONFIG", name)
    (problem,) = Settings.load().problems
    assert str(Path(name))[:100] in problem
    assert len(problem) < 300


def test_the_null_device_is_a_file_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_CLAUDE_CONFIG", os.devnull)
    assert Settings.load().problems == ()


def test_spaces_and_quotes_around_a_value_are_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there where a file of variables is read by docker, systemd or a client."""
    values = {"DEADLINE_S": '"60"', "BYTES_TIMEOUT_S": " '30' ", "DATA_DIR": f'"{tmp_path}"', "LOG_LEVEL": "DEBUG\n"}
    for name, value in values.items():
        monkeypatch.setenv(f"MCP_CLAUDE_{name}", value)
    settings = Settings.load()
    assert settings.problems == ()
    assert (settings.deadline_s, settings.bytes_timeout_s) == (60, 30)
    assert (settings.data_dir, settings.log_level) == (tmp_path, "debug")


@pytest.mark.parametrize("value", ["", "  ", '""', "' '"])
def test_a_value_of_nothing_but_spaces_and_quotes_is_not_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings.load().data_dir
    monkeypatch.setenv("MCP_CLAUDE_DATA_DIR", value)
    assert (Settings.load().data_dir, Settings.load().problems) == (default, ())


def test_the_data_directory_may_begin_with_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_CLAUDE_DATA_DIR", "~/claude")
    assert Settings.load().data_dir == Path.home() / "claude"


@pytest.mark.parametrize("value", ["${KEY}", "${KEY:-}", "<key>", "your-api-key", "your-key-here", "sk-ant-..."])
def test_a_placeholder_that_was_not_filled_in_is_not_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASE_URL", "MODEL"):
        monkeypatch.setenv(f"MCP_CLAUDE_{name}", value)
    settings = Settings.load()
    assert settings.problems == ()
    assert (settings.api_key, settings.base_url, settings.model) == (None, "", "")


@given(st.from_regex(r"sk-ant-[A-Za-z0-9]{20,40}", fullmatch=True))
def test_a_key_is_never_printed(key: str) -> None:
    settings = Settings.model_validate({"api_key": key})
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == key
    assert key not in repr(settings) + str(settings) + settings.model_dump_json() + str(settings.model_dump())


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().model = "opus"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_is_described_in_a_sentence(name: str) -> None:
    described = Settings.model_fields[name].description or ""
    assert len(described) > 20
    assert described.endswith((".", ").")), described
    assert variable_name(name) == f"MCP_CLAUDE_{name.upper()}"

"""What `mcp-server-claude doctor` finds, by its real command, and what it never shows."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

import anyio
import pytest

from mcp_server_claude.anthropic_api.models import ModelCatalog
from mcp_server_claude.anthropic_api.models.model_list_cache import bundled_catalog
from mcp_server_claude.cli import doctor
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import Pace, Simulator
from mcp_server_claude.store import Store, clock_jumps, request_ledger
from support.mcp_session import ledger_rows
from support.server_command import server_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path

KEY = "sk-ant-fake-7d81c3"
FULL_SPEED = Pace(ttft_s=0, tokens_per_s=0)


class Visit:
    """The doctor's visit to a machine on which nothing is set but what a test sets."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def environment(self, **given: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "MCP_"))}
        return clean | {"HOME": str(self.home), "MCP_CLAUDE_DATA_DIR": str(self.home / "data"), **given}

    async def __call__(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """The exit code, and everything it printed."""
        command = server_command("doctor", *arguments)
        done = await anyio.run_process(command, check=False, env=self.environment(**environment))
        return done.returncode, (done.stdout + done.stderr).decode()


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    return Visit(tmp_path)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The same machine, for what needs no process."""
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "MCP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MCP_CLAUDE_DATA_DIR", str(tmp_path / "data"))
    return monkeypatch


def assert_that_whatever_is_wrong_has_a_hint(printed: str) -> None:
    lines = printed.splitlines()
    for number, each in enumerate(lines):
        assert each[0] not in "✗!" or lines[number + 1].startswith("            → ")


def line(printed: str, name: str) -> str:
    """The finding of that name, with the hint below it."""
    lines = printed.splitlines()
    at = next(number for number, each in enumerate(lines) if each[2:].startswith(name))
    return "\n".join(lines[at : at + 2])


@pytest.mark.anyio
async def test_as_many_models_are_counted_as_the_list_of_models_has(visit: Visit) -> None:
    async with Simulator(pace=FULL_SPEED, key=KEY) as simulator:
        variables = {"MCP_CLAUDE_API_KEY": KEY, "MCP_CLAUDE_BASE_URL": simulator.url, "MCP_CLAUDE_MODELS_WAIT_S": "60"}
        _, printed = await visit(**variables)
        command = server_command("models", "--json")
        listed = await anyio.run_process(command, env=visit.environment(**variables))
    models = json.loads(listed.stdout)
    assert f"listed {len(models)} models in" in line(printed, "API")


@pytest.mark.anyio
async def test_every_line_has_a_check_mark_where_all_is_well(visit: Visit) -> None:
    async with Simulator(pace=FULL_SPEED, key=KEY) as simulator:
        code, printed = await visit(MCP_CLAUDE_API_KEY=KEY, MCP_CLAUDE_BASE_URL=simulator.url)

    assert code == 0
    assert {each[0] for each in printed.splitlines()} == {"✓"}
    assert "from MCP_CLAUDE_API_KEY" in line(printed, "key")
    assert simulator.url in line(printed, "base URL")
    assert str(visit.home / "data" / "store.db") in line(printed, "ledger")
    assert "answers over stdio in" in line(printed, "server")
    assert "accepted the key and listed" in line(printed, "API")
    assert "(for sonnet)" in line(printed, "model")
    assert "per million tokens" in line(printed, "price")


@pytest.mark.anyio
async def test_a_ping_is_a_complete_call_whose_cost_is_printed_and_recorded_in_the_ledger(visit: Visit) -> None:
    async with Simulator(pace=FULL_SPEED, key=KEY) as simulator:
        code, printed = await visit("--ping", MCP_CLAUDE_API_KEY=KEY, MCP_CLAUDE_BASE_URL=simulator.url)
        assert len(message_requests(simulator)) == 1

    assert code == 0
    assert re.search(
        r"claude-sonnet-\S+ answered in \S+ s for <?\$0\.\d+: \d+ tokens in, \d+ out", line(printed, "ping")
    )
    (entry,) = ledger_rows(visit.home / "data")
    assert (entry["tool"], entry["source"]) == ("doctor", "shell")


@pytest.mark.anyio
async def test_a_failed_ping_has_a_hint_and_is_not_sent_offline(visit: Visit) -> None:
    settings = {"MCP_CLAUDE_API_KEY": KEY, "MCP_CLAUDE_BASE_URL": "http://127.0.0.1:9", "MCP_CLAUDE_RETRY_FOR_S": "0"}
    code, printed = await visit("--ping", **settings)
    assert code == 1
    assert line(printed, "ping").startswith("✗ ping")
    assert_that_whatever_is_wrong_has_a_hint(printed)
    assert (await visit("--ping", "--offline", **settings))[0] == 2


@pytest.mark.anyio
async def test_a_missing_key_fails_with_the_setting_to_set(visit: Visit) -> None:
    code, printed = await visit("--offline")

    assert code == 1
    assert line(printed, "key").startswith("✗ key       There is no API key.\n            → Set MCP_CLAUDE_API_KEY")


@pytest.mark.anyio
async def test_a_key_that_the_api_rejects_fails(visit: Visit) -> None:
    async with Simulator(pace=FULL_SPEED, key="sk-ant-another") as simulator:
        code, printed = await visit(MCP_CLAUDE_API_KEY=KEY, MCP_CLAUDE_BASE_URL=simulator.url)

    assert code == 1
    assert line(printed, "API").startswith("✗ API")
    assert "Check that the key is whole" in line(printed, "API")
    assert KEY not in printed


@pytest.mark.anyio
async def test_an_api_that_cannot_be_reached_fails(visit: Visit) -> None:
    code, printed = await visit(MCP_CLAUDE_API_KEY=KEY, MCP_CLAUDE_BASE_URL="http://127.0.0.1:9")

    assert code == 1
    assert line(printed, "API").startswith("✗ API")
    assert "Check the network" in line(printed, "API")
    assert_that_whatever_is_wrong_has_a_hint(printed)


@pytest.mark.anyio
async def test_a_gateway_without_a_list_of_models_is_only_a_warning(visit: Visit) -> None:
    async with Simulator(pace=FULL_SPEED, models="missing") as simulator:
        code, printed = await visit(MCP_CLAUDE_API_KEY=KEY, MCP_CLAUDE_BASE_URL=simulator.url)

    assert code == 0
    assert line(printed, "API").startswith("! API")


@pytest.mark.anyio
async def test_offline_nothing_is_sent(visit: Visit) -> None:
    async with Simulator(pace=FULL_SPEED) as simulator:
        code, printed = await visit("--offline", MCP_CLAUDE_API_KEY=KEY, MCP_CLAUDE_BASE_URL=simulator.url)
        assert simulator.requests == []

    assert code == 0
    assert "API " not in printed.replace("API key", "")


@pytest.mark.anyio
async def test_a_key_with_a_line_break_is_reported_and_never_shown(visit: Visit) -> None:
    code, printed = await visit(MCP_CLAUDE_API_KEY="sk-ant-secret\nsecret-tail")

    assert code == 1
    assert line(printed, "key").startswith("✗ key       MCP_CLAUDE_API_KEY contains a line break")
    assert "secret" not in printed
    assert "tail" not in printed


@pytest.mark.parametrize("variable", ["MCP_CLAUDE_API_KEY", "ANTHROPIC_API_KEY"])
@pytest.mark.parametrize(
    "key", ["sk-ant-secret\ntail", "sk-ant-secret tail", "sk-ant-secret\x1btail", "sk-ant-sécret-tail"]
)
def test_a_malformed_key_is_reported_and_never_shown(clean: pytest.MonkeyPatch, variable: str, key: str) -> None:
    clean.setenv(variable, key)
    (finding,), credential = doctor.check_credentials(Settings.load())

    assert credential is None
    assert finding.ok is False
    assert "tail" not in str(finding)


@pytest.mark.anyio
async def test_the_server_of_a_team_is_checked_for_its_users_and_missing_settings(visit: Visit) -> None:
    variables = {"MCP_CLAUDE_PUBLIC_URL": "https://claude.example", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    _, printed = await visit("--offline", MCP_CLAUDE_API_KEY=KEY, **variables)
    assert "! users" in line(printed, "users")
    assert "user add NAME --operator" in line(printed, "users")
    assert "[otel] is installed" in line(printed, "telemetry")
    assert "sign-in" not in printed

    await anyio.run_process(server_command("user", "add", "ada"), env=visit.environment())
    _, printed = await visit("--offline", MCP_CLAUDE_API_KEY=KEY)
    assert "1 (no operators): no user can see the usage of all users." in line(printed, "users")


@pytest.mark.anyio
async def test_an_identity_provider_without_keys_fails(visit: Visit) -> None:
    provider = {"MCP_CLAUDE_OIDC_ISSUER": "http://127.0.0.1:9", "MCP_CLAUDE_PUBLIC_URL": "https://claude.example"}
    async with Simulator(pace=FULL_SPEED, key=KEY) as simulator:
        given = {"MCP_CLAUDE_API_KEY": KEY, "MCP_CLAUDE_BASE_URL": simulator.url}
        code, printed = await visit(**given, **provider)
        assert code == 1
        assert "✗ sign-in   http://127.0.0.1:9 does not provide its keys" in line(printed, "sign-in")
        code, printed = await visit(**given, MCP_CLAUDE_OIDC_ISSUER="https://login.example")
        assert "MCP_CLAUDE_OIDC_ISSUER requires MCP_CLAUDE_PUBLIC_URL" in line(printed, "sign-in")


@pytest.mark.anyio
async def test_no_part_of_a_key_is_shown(visit: Visit) -> None:
    async with Simulator(pace=FULL_SPEED, key="sk-ant-another") as simulator:
        url = simulator.url.replace("//", "//me:hunter2@")
        _, printed = await visit(MCP_CLAUDE_API_KEY="gateway-secret", MCP_CLAUDE_BASE_URL=url)

    assert line(printed, "API").startswith("✗ API")
    assert "secret" not in printed
    assert "gateway-" not in printed
    assert "hunter" not in printed


def test_a_password_in_the_base_url_is_not_shown(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("MCP_CLAUDE_API_KEY", KEY)
    clean.setenv("MCP_CLAUDE_BASE_URL", "https://me:hunter2@gateway.example/claude?token=hunter3")
    (_, base_url), _ = doctor.check_credentials(Settings.load())

    assert base_url.text == "https://gateway.example/claude"


@pytest.mark.parametrize("url", ["api.anthropic.com", "http://[::1"])
def test_an_invalid_base_url_fails(clean: pytest.MonkeyPatch, url: str) -> None:
    clean.setenv("MCP_CLAUDE_API_KEY", KEY)
    clean.setenv("MCP_CLAUDE_BASE_URL", url)
    findings, _ = doctor.check_credentials(Settings.load())

    assert (findings[-1].name, findings[-1].ok) == ("base URL", False)
    assert findings[-1].hint


def test_an_unencrypted_connection_is_a_warning(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("MCP_CLAUDE_API_KEY", KEY)
    clean.setenv("MCP_CLAUDE_BASE_URL", "http://gateway.example")
    (_, base_url), _ = doctor.check_credentials(Settings.load())

    assert (base_url.ok, base_url.hint) == (None, "Use https://.")


@pytest.mark.anyio
async def test_a_ledger_in_memory_is_a_warning(tmp_path: Path) -> None:
    await anyio.Path(tmp_path / "data").write_text("a file where the directory should be")
    finding = await doctor.check_ledger(Settings(data_dir=tmp_path / "data"))

    assert finding.ok is None
    assert finding.text.startswith("The ledger is kept in memory: ")
    assert "MCP_CLAUDE_DATA_DIR" in finding.hint


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.anyio
async def test_a_ledger_directory_that_others_can_write_is_a_warning(tmp_path: Path) -> None:
    await anyio.Path(tmp_path).chmod(0o777)
    finding = await doctor.check_ledger(Settings(data_dir=tmp_path))

    assert finding.ok is None
    assert finding.hint == f"chmod go-w {tmp_path}"


def test_each_invalid_setting_fails_on_its_own(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("MCP_CLAUDE_MODLE", "opus")
    clean.setenv("MCP_CLAUDE_HEARTBEAT_S", "often")
    findings = doctor.check_settings(Settings.load())

    assert {finding.ok for finding in findings} == {False}
    assert {finding.text.split(":")[0] for finding in findings} == {
        "There is no setting MCP_CLAUDE_MODLE.",
        "MCP_CLAUDE_HEARTBEAT_S",
    }
    assert "often" not in str(findings)


def test_an_unknown_default_model_fails(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("MCP_CLAUDE_MODEL", "opsu")
    listed = ModelCatalog(bundled_catalog().models, "api", "2026-11-20")
    (finding,) = doctor.check_model(Settings.load(), listed)

    assert finding.ok is False
    assert "There is no model named 'opsu'" in finding.text
    assert "MCP_CLAUDE_MODEL" in finding.hint


def test_a_model_without_a_known_price_is_a_warning(clean: pytest.MonkeyPatch) -> None:
    clean.setenv("MCP_CLAUDE_MODEL", "qwen3:8b")
    model, price = doctor.check_model(Settings.load(), bundled_catalog())

    assert (model.ok, price.ok) == (None, None)
    assert price.text == "The price of qwen3:8b is unknown."


def test_the_installed_packages_are_those_that_are_needed() -> None:
    assert doctor.check_versions().ok


def test_a_package_of_another_major_version_fails() -> None:
    assert doctor.PinnedPackage("mcp", "2", "0").is_satisfied
    assert not doctor.PinnedPackage("mcp", "1", "9").is_satisfied
    assert not doctor.PinnedPackage("mcp", "2", "9999").is_satisfied


@pytest.mark.anyio
async def test_a_clock_that_went_forward_at_once_is_a_warning_while_nothing_is_deleted_by_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    entry = request_ledger.LedgerEntry(id="r", call_id="c", worker="w", started_at=1_700_000_000.0)
    await store.write(request_ledger.open_entry, entry)
    await store.write(clock_jumps.trusted_time, store.locks, 86_400.0)
    await store.close()
    finding = await doctor.check_ledger(Settings(data_dir=tmp_path))
    assert finding.ok is None
    assert "the clock went forward from 2023-11-14 at once" in finding.text
    assert finding.hint.startswith("Set the clock")


@pytest.mark.anyio
async def test_daily_sums_that_differ_from_their_requests_are_reported_and_rebuilt(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    entry = request_ledger.LedgerEntry(id="r", call_id="c", worker="w", started_at=1_795_176_000.0)
    await store.write(request_ledger.open_entry, entry)
    await store.write(request_ledger.close_entry, "r", request_ledger.EntryResult(end="complete", ended_at=1.0))
    await store.write(lambda tx: tx.execute("update usage_total set requests = 2"))
    await store.close()
    finding = await doctor.check_ledger(Settings(data_dir=tmp_path))
    assert "the daily totals of 2026-11-20 did not match and were recalculated" in finding.text
    assert "daily totals" not in (await doctor.check_ledger(Settings(data_dir=tmp_path))).text

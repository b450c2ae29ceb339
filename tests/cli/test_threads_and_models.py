"""`mcp-server-claude threads` and `models`, against the simulator."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.simulator import directive
from support.shell_command import ShellCommand, shell_command

if TYPE_CHECKING:
    from pathlib import Path

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
def threads(upstream: Simulator, tmp_path: Path) -> ShellCommand:
    return shell_command(upstream, tmp_path, "threads")


async def test_conversations_are_listed_searched_shown_and_exported(threads: ShellCommand) -> None:
    ask = replace(threads, words=("ask", "--json"))
    first = json.loads((await ask("Über tea", directive(text="Leaves.\x1b[2J"))).stdout)["usage"]["thread"]
    second = json.loads((await ask("Of coffee")).stdout)["usage"]["thread"]

    listed = json.loads((await threads("list", "--json")).stdout)
    assert [each["id"] for each in listed] == [second, first]
    assert listed[0]["cost_usd"] > 0
    assert first in (await threads("list")).stdout.decode()

    found = (await threads("search", "LEAVES")).stdout.decode()
    assert first in found
    assert second not in found
    nothing = await threads("search", "cocoa")
    assert (nothing.returncode, nothing.stdout) == (1, b"")

    shown = (await threads("show", first)).stdout.decode()
    assert "## Question\n\nÜber tea" in shown
    assert "\x1b" not in shown

    exported = await threads("export", first, "tea.json", "--format", "json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads((threads.directory / "tea.json").read_text(encoding="utf-8"))["messages"][0]["role"] == "user"
    again = await threads("export", first, "tea.json")
    assert again.returncode == 2
    assert b"already exists" in again.stderr


async def test_an_unknown_conversation_is_an_error(threads: ShellCommand) -> None:
    done = await threads("show", "t_0000000000000000")
    assert done.returncode == 2  # a wrong argument, as of `ask --thread`
    assert b"There is no conversation" in done.stderr
    nobody = await replace(threads, words=("usage",))("--user", "nobody")
    assert nobody.returncode == 2, nobody.stderr
    assert (await threads("list", "--user", "ada")).stdout == b"There are no conversations.\n"


async def test_models_have_limits_and_prices(threads: ShellCommand) -> None:
    models = replace(threads, words=("models",))
    table = (await models()).stdout.decode()
    assert "claude-sonnet-5-5" in table
    assert "Dollars per million tokens" in table
    assert "deprecated" not in table.split("\n\n")[0]  # sentences stand below the columns
    (sonnet,) = [each for each in json.loads((await models("--json")).stdout) if each["id"] == "claude-sonnet-5-5"]
    assert sonnet["family"] == "sonnet"
    assert sonnet["usd_per_million_output_tokens"] > sonnet["usd_per_million_input_tokens"] > 0


@pytest.mark.parametrize("forms", [("--json", "--csv"), ("--chart", "--csv"), ("--status-line", "--json")])
async def test_usage_takes_one_form_of_output(threads: ShellCommand, forms: tuple[str, str]) -> None:
    done = await replace(threads, words=("usage",))(*forms)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"choose one of them" in done.stderr


async def test_usage_of_a_time_that_ends_before_it_begins_is_an_error(threads: ShellCommand) -> None:
    """Seven days is the default, so `--until` alone would report an empty time as one without requests."""
    usage = replace(threads, words=("usage",))
    done = await usage("--until", "2026-01-31")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"2026-01-31 is before --since 7d (20" in done.stderr
    assert (await usage("--since", "2026-01-31", "--until", "2026-01-31")).returncode == 0
    assert b"use a date such as" in (await usage("--until", "9999-12-31")).stderr  # no day follows it


async def test_a_table_without_rows_has_the_columns_of_one_with_rows(threads: ShellCommand) -> None:
    usage = replace(threads, words=("usage", "--csv"))
    (empty,) = (await usage()).stdout.splitlines()
    assert (await replace(threads, words=("ask", "-q"))("One", directive(text="1"))).returncode == 0
    head, _ = (await usage()).stdout.splitlines()
    assert empty == head


async def test_the_status_line_has_the_days_of_the_time_zone(threads: ShellCommand) -> None:
    """An answer of twelve hours ago is of yesterday where it is one o'clock, and of today where it is 22 o'clock."""
    usage = replace(threads, words=("usage", "--status-line", "--time-zone"))
    assert (await replace(threads, words=("ask", "-q"))("One", directive(text="1"))).returncode == 0
    with closing(sqlite3.connect(threads.data_dir / "store.db")) as connection, connection:
        connection.execute("update entry set started_at = started_at - 12 * 3600")
    hour = datetime.now(UTC).hour
    offsets = [(local_hour - hour + 12) % 24 - 12 for local_hour in (1, 22)]
    early, late = [await usage(f"Etc/GMT{-offset:+d}") for offset in offsets]  # POSIX signs: west is positive
    assert (early.returncode, late.returncode) == (0, 0)
    assert early.stdout.startswith(b"Claude $0 today")
    assert not late.stdout.startswith(b"Claude $0 today")
    assert (await usage("Mars/Olympus")).returncode == 2


async def test_usage_is_by_the_project_of_the_setting_or_of_the_directory(threads: ShellCommand) -> None:
    ask, usage = replace(threads, words=("ask", "-q")), replace(threads, words=("usage", "--by", "project", "--json"))
    assert (await ask("One", directive(text="1"))).returncode == 0
    assert (await ask("Two", directive(text="2"), project="shop")).returncode == 0
    rows = json.loads((await usage()).stdout)
    assert {row["project"]: row["calls"] for row in rows} == {"here": 1, "shop": 1}


async def test_usage_by_job_has_a_row_for_each_job_and_one_for_the_rest(threads: ShellCommand) -> None:
    assert (await replace(threads, words=("ask", "-q"))("One", directive(text="1"))).returncode == 0
    job = json.loads((await replace(threads, words=("map", "{item}", "--json", "-q"))(stdin=b"tea\nmilk\n")).stdout)
    rows = json.loads((await replace(threads, words=("usage", "--by", "job", "--json"))()).stdout)
    assert {row["job"]: row["calls"] for row in rows} == {"(none)": 1, job["id"]: 2}


async def test_a_job_counts_for_the_project_in_which_it_was_started(threads: ShellCommand) -> None:
    """Another process, of another project, may answer its items."""
    run_map = replace(threads, words=("map", "{item}", "--json", "-q"))
    item = directive(fault="status", status=529, times=1).encode()
    job = json.loads((await run_map(stdin=item, project="shop", retry_for_s=0)).stdout)
    assert job["failed"] == 1
    jobs = replace(threads, words=("jobs",))
    assert (await jobs("resume", job["id"], "-q", project="site")).returncode == 0
    usage = replace(threads, words=("usage", "--by", "project", "--json"))
    assert {row["project"]: row["calls"] for row in json.loads((await usage()).stdout)} == {"shop": 2}

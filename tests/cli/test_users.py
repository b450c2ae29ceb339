"""The shell's commands on people and on what is kept of them, by their real command, beside a server that runs."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
import typer

from mcp_server_claude.cli.line_history import HISTORY_FILE
from mcp_server_claude.cli.usage import periods
from mcp_server_claude.cli.users import parse_budget, parse_count
from mcp_server_claude.settings import Settings
from mcp_server_claude.store import (
    Store,
    budget_reservations,
    call_journal,
    process_locks,
    request_ledger,
    thread_messages,
)
from mcp_server_claude.store.sqlite_connection import DATABASE_FILE
from mcp_server_claude.users.tokens_and_sessions import UserDirectory
from support.mcp_session import server_environment
from support.server_command import server_command
from support.symbolic_links import needs_links

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mcp_server_claude.store import Transaction
    from mcp_server_claude.users.user import User

SECRET = "the moon is made of green cheese"
SEARCH = """
import sys
from pathlib import Path
text, *paths = sys.argv[1:]
print(*(Path(path).name for path in paths if text.encode() in Path(path).read_bytes()))
"""
WRITER = """
import asyncio, sys, time
from pathlib import Path
from mcp_server_claude.store import Store, request_ledger

async def main():
    store = Store.open(Path(sys.argv[1]))
    for n in range(10**9):
        entry = request_ledger.LedgerEntry(id=f"r_{n}", call_id="c", worker="w", started_at=time.time())
        await store.write(request_ledger.open_entry, entry)
        if n == 100:
            print("going", flush=True)

asyncio.run(main())
"""


class Shell:
    """Runs the command on one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def __call__(self, *arguments: str | Path, **fields: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            server_command(*map(str, arguments)),
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            encoding="utf-8",
            env=server_environment(data_dir=self.data_dir, **fields),
        )

    def output_of(self, *arguments: str | Path, **fields: object) -> str:
        done = self(*arguments, **fields)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    def error_of(self, *arguments: str | Path, code: int) -> str:
        done = self(*arguments)
        assert done.returncode == code, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path / "data")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Store]:
    """The ledger as a running server has it open."""
    store = Store.open(tmp_path / "data")
    yield store
    store.close_blocking()


def authenticate(server: Store, token: str) -> User | None:
    """Who this is to the running server."""
    return asyncio.run(UserDirectory(Settings(), server).authenticate_token(token))


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# --------------------------------------------------------------------- user


def test_a_user_is_added_while_the_server_runs_and_the_token_is_printed_with_instructions(
    shell: Shell, server: Store
) -> None:
    printed = shell.output_of("user", "add", "Ada", "--budget", "5/day", public_url="https://claude.example/")
    token = next(word for word in printed.split() if word.startswith("mcpc_"))
    assert printed.startswith("ada: user, $5.00 a day, 60 calls per minute, 8 concurrent.\n")
    assert (
        "claude mcp add --transport http claude https://claude.example/mcp "
        f'--header "Authorization: Bearer {token}"' in printed
    )
    assert "https://claude.example/signin" in printed
    user = authenticate(server, token)
    assert user is not None
    assert (user.name, user.role, user.limits.usd_per_day) == ("ada", "user", 5.0)
    assert token not in shell.output_of("user", "list")


def test_quiet_prints_the_token_alone(shell: Shell, server: Store) -> None:
    token = shell.output_of("user", "add", "ada", "--quiet").strip()
    assert authenticate(server, token)
    renewed = shell.output_of("user", "rotate", "ada", "-q").strip()
    assert authenticate(server, token) is None
    assert authenticate(server, renewed)


def test_the_list_shows_role_limits_and_the_cost_of_today(shell: Shell, server: Store) -> None:
    assert shell.output_of("user", "list").startswith("There are no users.")
    shell.output_of("user", "add", "ada", "--operator", "--budget", "$2.50", "--concurrent", "3")
    shell.output_of("user", "add", "bob", "--per-minute", "none")
    asyncio.run(server.write(spend, "bob", 310_000))
    head, ada, bob = lines(shell.output_of("user", "list"))
    assert head[:2] == ["name", "role"]
    assert ada == ["ada", "operator", "token", "never", "$2.50", "$0", "60", "3"]
    last = time.strftime("%Y-%m-%d %H:%M", time.gmtime(NOON)).split()
    assert bob == ["bob", "user", "token", *last, "none", "$0.310", "any", "8"]


def test_limits_and_role_can_be_set_and_reset_to_the_default(shell: Shell) -> None:
    shell.output_of("user", "add", "ada", "--budget", "1")
    assert shell.output_of("user", "set", "ada", "--budget", "none", "--operator", "--per-minute", "5") == (
        "ada: operator, no budget, 5 calls per minute, 8 concurrent.\n"
    )
    assert shell.output_of("user", "set", "ADA", "--no-operator", "--concurrent", "none") == (
        "ada: user, no budget, 5 calls per minute, no limit on concurrent calls.\n"
    )
    printed = shell.output_of(
        "user", "set", "ada", "--budget", "default", "--per-minute", "default", user_usd_per_day=0.75, user_concurrent=2
    )
    assert printed == "ada: user, $0.750 a day, 60 calls per minute, no limit on concurrent calls.\n"
    assert "name what to change" in shell.error_of("user", "set", "ada", code=2)


@pytest.mark.parametrize("budget", ["5/day", "5", "$5/day", "$5", "5.00/D", " 5 / day "])
def test_a_budget_can_be_written_in_several_ways(budget: str) -> None:
    assert parse_budget(budget) == 5.0


@pytest.mark.parametrize(
    "budget",
    ["", "5/month", "-5", "five", "5 EUR", "1e3", "nan", "inf", "9" * 12, "5/day/day", "\N{ARABIC-INDIC DIGIT FIVE}"],
)
def test_an_invalid_budget_is_rejected(budget: str) -> None:
    with pytest.raises(typer.BadParameter, match="dollars a day such as 5/day"):
        parse_budget(budget)


@pytest.mark.parametrize("count", ["", "0", "-1", "1.5", "many", "٣", "9" * 12])
def test_an_invalid_number_of_calls_is_rejected(count: str) -> None:
    with pytest.raises(typer.BadParameter, match="a number of calls"):
        parse_count(count, "--concurrent")


def test_an_invalid_limit_is_reported_with_its_option_and_no_user_is_added(shell: Shell) -> None:
    for option in ("--budget", "--per-minute", "--concurrent"):
        assert f"Invalid value for {option}: " in shell.error_of("user", "add", "ada", option, "much", code=2)
    assert shell.output_of("user", "list").startswith("There are no users.")


def test_a_removed_user_has_no_access_and_the_name_is_not_reused_by_accident(shell: Shell, server: Store) -> None:
    token = shell.output_of("user", "add", "ada", "-q").strip()
    assert "ada is removed" in shell.output_of("user", "remove", "Ada")
    assert authenticate(server, token) is None
    assert shell.output_of("user", "list").startswith("There are no users.")
    assert "pass --again if it is the same person" in shell.error_of("user", "add", "ada", code=2)
    again = shell.output_of("user", "add", "ada", "--again", "-q").strip()
    assert authenticate(server, again)
    assert authenticate(server, token) is None


@pytest.mark.parametrize("command", ["rotate", "remove"])
def test_an_unknown_user_is_reported(shell: Shell, command: str) -> None:
    assert shell.error_of("user", command, "bob", code=2).startswith("No user is named bob.")


def test_an_invalid_or_taken_name_is_reported(shell: Shell) -> None:
    assert "A user name has up to 64" in shell.error_of("user", "add", "local", code=2)
    shell.output_of("user", "add", "ada")
    assert "A user named ada already exists" in shell.error_of("user", "add", "ada", code=2)


def test_without_a_ledger_on_disk_no_user_is_added(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    complaint = Shell(tmp_path / "data").error_of("user", "add", "ada", code=78)
    assert complaint.startswith("The ledger is kept in memory: ")
    assert len(complaint.splitlines()) == 1


def test_an_invalid_setting_is_reported_and_does_not_stop_the_shell(shell: Shell) -> None:
    done = shell("user", "add", "ada", "-q", user_concurrent="several")
    assert done.returncode == 0
    assert "MCP_CLAUDE_USER_CONCURRENT: user_concurrent must be " in done.stderr
    assert done.stdout.startswith("mcpc_")


# --------------------------------------------------------------------- usage

NOON = (time.time() // 86_400) * 86_400
"""A moment of today that is not after now: its midnight."""


def spend(tx: Transaction, user: str, micros: int, model: str = "claude-sonnet-5-5") -> None:
    """A request that is over."""
    entry = request_ledger.LedgerEntry(
        id=f"r_{user}_{micros}_{model}",
        call_id="c",
        worker="w",
        started_at=NOON,
        user=user,
        model=model,
        tool="claude_ask",
    )
    request_ledger.open_entry(tx, entry)
    closing = request_ledger.EntryResult(
        end="complete", ended_at=NOON, cost_micros=micros, input_tokens=1200, output_tokens=30
    )
    request_ledger.close_entry(tx, entry.id, closing)


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("user", [["bob", "1"], ["ada", "2"], ["total", "3"]]),
        ("model", [["claude-sonnet-5-5", "2"], ["claude-haiku-4-5", "1"], ["total", "3"]]),
        ("tool", [["claude_ask", "3"]]),
        ("day", [[budget_reservations.budget_day(), "3"]]),
    ],
)
def test_usage_is_grouped_by_the_requested_dimension(
    shell: Shell, server: Store, by: str, rows: list[list[str]]
) -> None:
    for user, micros, model in (
        ("ada", 500_000, "claude-sonnet-5-5"),
        ("ada", 250_000, "claude-haiku-4-5"),
        ("bob", 1_500_000, "claude-sonnet-5-5"),
    ):
        asyncio.run(server.write(spend, user, micros, model))
    since, _, head, *printed = lines(shell.output_of("usage", "--by", by, "--since", "today"))
    assert since[0] == "Since"
    assert head == [by, "calls", "requests", "failed", "retries", "in", "cached", "out", "cost"]
    assert [line[:2] for line in printed] == rows
    assert printed[-1] == [rows[-1][0], "3", "3", "0", "0", "3.6k", "0", "90", "$2.25"]
    assert lines(shell.output_of("usage", "--by", by, "--user", "ADA"))[-1][-1] == "$0.750"


def test_an_empty_usage_report_is_reported_as_empty(shell: Shell) -> None:
    assert shell.output_of("usage").endswith("No requests.\n")


def test_usage_is_printed_as_data_and_as_a_chart(shell: Shell, server: Store) -> None:
    for user, micros in (("ada", 500_000), ("bob", 1_500_000)):
        asyncio.run(server.write(spend, user, micros, "claude-opus-5-5"))
    rows = json.loads(shell.output_of("usage", "--by", "user", "--json"))
    assert [(row["user"], row["requests"], row["cost_usd"]) for row in rows] == [("bob", 1, 1.5), ("ada", 1, 0.5)]
    head, first, *_ = shell.output_of("usage", "--by", "user", "--csv").splitlines()
    assert head.startswith("user,calls,requests,failures,")
    assert first.startswith("bob,1,1,")
    chart = shell.output_of("usage", "--by", "user", "--chart").splitlines()
    assert (chart[-2].count("█"), chart[-1].count("█")) == (40, 13)
    for by in ("day", "week", "month"):
        rows = json.loads(shell.output_of("usage", "--by", by, "--json", "--time-zone", "Asia/Tokyo", "--since", "2d"))
        assert sum(row["cost_usd"] for row in rows) == 2.0
    assert shell.output_of("usage", "--until", "2026-01-31", "--since", "2026-01-01").endswith("No requests.\n")
    assert shell.output_of("usage", "--status-line") == "Claude $2.00 today · $2.00 this month\n"
    for since, begin in (("2026-11-01T10:00Z", "19:00"), ("2026-11-01T10:00", "10:00"), ("20261101", "00:00")):
        report = shell.output_of("usage", "--since", since, "--time-zone", "Asia/Tokyo")
        assert report.startswith(f"Since 2026-11-01 {begin} Asia/Tokyo.")
    assert "Europe/Berlin" in shell.error_of("usage", "--time-zone", "Mars/Olympus", code=2)


def test_periods_begin_at_midnight_of_the_time_zone_and_cover_the_range() -> None:
    zone = ZoneInfo("Europe/Berlin")
    since, until = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC)
    days = list(periods(since, until, "day", zone))
    assert [label for label, _, _ in days] == ["2026-10-25", "2026-10-26", "2026-10-27"]
    starts = [start.astimezone(UTC) for _, start, _ in days]
    assert starts[1] - starts[0] == timedelta(hours=25)  # the clocks go back
    assert [label for label, _, _ in periods(since, until, "week", zone)] == ["2026-W43", "2026-W44"]
    assert [label for label, _, _ in periods(since, until, "month", zone)] == ["2026-10"]


def test_an_invalid_time_span_is_reported(shell: Shell) -> None:
    assert "a span such as 7d" in shell.error_of("usage", "--since", "yesterdayish", code=2)


def test_more_periods_than_a_report_holds_are_rejected_instead_of_left_out(shell: Shell, server: Store) -> None:
    asyncio.run(server.write(spend, "ada", 500_000))
    complaint = shell.error_of("usage", "--since", "2020-01-01", "--by", "day", code=2)
    assert complaint == "There are more than 1,000 days in that time. Choose a shorter one.\n"
    assert "$0.500" in shell.output_of("usage", "--since", "2020-01-01", "--by", "month")


# --------------------------------------------------------------------- backup


def test_a_backup_is_complete_and_private_while_a_server_writes(shell: Shell, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(shell.data_dir)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"going\n"
        printed = shell.output_of("backup", target)
        assert writer.poll() is None
        writer.kill()
    assert printed.startswith(f"{target}: ")
    assert "checked" in printed
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "data"]
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        ids = {row[0] for row in connection.execute("select id from entry")}
    assert len(ids) >= 101
    assert ids == {f"r_{n}" for n in range(len(ids))}  # a moment: nothing of later without what was before


def test_a_backup_can_be_used_as_the_ledger(shell: Shell, tmp_path: Path) -> None:
    token = shell.output_of("user", "add", "ada", "-q").strip()
    (tmp_path / "other").mkdir()
    shell.output_of("backup", tmp_path / "other" / DATABASE_FILE)
    other = Store.open(tmp_path / "other")
    try:
        assert authenticate(other, token)
    finally:
        other.close_blocking()


def test_an_existing_file_is_never_overwritten(shell: Shell, tmp_path: Path) -> None:
    shell.output_of("user", "add", "ada")
    mine = tmp_path / "mine.db"
    mine.write_text("precious")
    assert shell.error_of("backup", mine, code=2) == f"{mine} already exists. Choose another name.\n"
    assert mine.read_text() == "precious"


@needs_links
def test_a_link_that_leads_nowhere_is_never_overwritten(shell: Shell, tmp_path: Path) -> None:
    shell.output_of("user", "add", "ada")
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "nowhere")
    assert "already exists" in shell.error_of("backup", link, code=2)


def test_a_missing_source_or_target_of_a_backup_is_reported(shell: Shell, tmp_path: Path) -> None:
    assert shell.error_of("backup", tmp_path / "copy.db", code=78) == f"There is no {shell.data_dir / DATABASE_FILE}.\n"
    shell.output_of("user", "add", "ada")
    assert shell.error_of("backup", tmp_path / "no" / "copy.db", code=2) == f"There is no {tmp_path / 'no'}.\n"
    assert not list(tmp_path.glob("copy*"))


def test_a_damaged_ledger_is_not_copied(shell: Shell, tmp_path: Path) -> None:
    shell.data_dir.mkdir()
    (shell.data_dir / DATABASE_FILE).write_text("this is no database")
    assert shell.error_of("backup", tmp_path / "copy.db", code=78) == (
        "The database could not be copied: The ledger could not be used: its file is not a database.\n"
    )
    assert not list(tmp_path.glob("copy*"))


# --------------------------------------------------------------------- forget


def talk(tx: Transaction, user: str, at: float) -> None:
    """A question and its answer in a thread, as the house writes them."""
    call, thread = f"c_{user}_{at:.0f}", f"t_{user}_{at:.0f}"
    process_locks.register_process(tx, "w")
    head = f"{SECRET} {user}"
    thread_messages.create_thread(
        tx, thread_messages.Thread(id=thread, user=user, head=head, system=head, model="", started_at=at, touched_at=at)
    )
    call_journal.open_call(
        tx, call_journal.JournaledCall(id=call, worker="w", started_at=at, user=user, thread=thread, prompt_head=head)
    )
    call_journal.append_text(tx, [(call, n * 10_000, f"{head} {n} ".ljust(10_000, "x")) for n in range(20)])
    for role in ("user", "assistant"):
        content: list[dict[str, object]] = [{"type": "text", "text": head * 200}]
        thread_messages.append_message(
            tx, thread, thread_messages.ThreadMessage(role=role, content=content, model="", call_id=call)
        )
    call_journal.close_call(tx, call, end="incomplete", ended_at=at, incomplete=head, usage={"cost_usd": 0.5})


def in_the_files(data_dir: Path, text: str) -> list[str]:
    """Which of the ledger's files hold a text, anywhere in their bytes.

    Another process looks: closing a file gives up this process's POSIX locks on it, those of SQLite too.
    """
    found = subprocess.run(
        [sys.executable, "-c", SEARCH, text, *sorted(data_dir.glob("store.db*"))],
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    return found.stdout.split()


def write_texts(server: Store, shell: Shell) -> None:
    """Two users' text, some of which was deleted before in the ordinary way; all of it on disk."""
    now = time.time()
    for user, at in (("ada", now - 1000), ("ada", now - 40 * 86_400), ("bob", now - 1000), ("zed", now - 90 * 86_400)):
        asyncio.run(server.write(talk, user, at))
    asyncio.run(server.write(spend, "ada", 500_000))
    asyncio.run(server.write(call_journal.delete_old_text, now - 60 * 86_400))
    asyncio.run(server.read(thread_messages.count_threads))
    assert in_the_files(shell.data_dir, f"{SECRET} ada")
    assert in_the_files(shell.data_dir, f"{SECRET} bob")


def test_erased_text_is_removed_from_the_bytes_of_the_files_while_a_server_has_them_open(
    shell: Shell, server: Store
) -> None:
    write_texts(server, shell)
    printed = shell.output_of("forget", "--user", "Ada", "--yes")
    assert printed == (
        "Deleted: the text of 2 calls and 2 threads, the names of 0 files. Their cost stays in the ledger.\n"
    )
    assert in_the_files(shell.data_dir, f"{SECRET} ada") == []
    assert in_the_files(shell.data_dir, f"{SECRET} bob") == [DATABASE_FILE]
    assert "$0.500" in shell.output_of("usage", "--user", "ada")
    assert asyncio.run(server.read(call_journal.recent_calls, "ada"))[0].usage == {"cost_usd": 0.5}
    asyncio.run(server.write(talk, "ada", time.time()))  # the server keeps running
    assert in_the_files(shell.data_dir, f"{SECRET} ada")


def test_text_older_than_a_date_is_erased_as_are_the_remains_of_deleted_rows(shell: Shell, server: Store) -> None:
    write_texts(server, shell)
    printed = shell.output_of("forget", "--before", "30d", "--yes")
    assert "the text of 1 call and 2 threads" in printed  # the words of the other went with its retention
    assert in_the_files(shell.data_dir, f"{SECRET} zed") == []
    assert [record.prompt_head for record in asyncio.run(server.read(call_journal.recent_calls, "ada"))] == [
        f"{SECRET} ada",
        "",
    ]
    assert "the text of 1 call and 1 thread," in shell.output_of("forget", "--before", "0h", "--user", "bob", "-y")


def test_without_yes_the_erasure_is_only_announced(shell: Shell, server: Store) -> None:
    write_texts(server, shell)
    before = asyncio.run(server.read(call_journal.recent_calls, "ada"))
    done = shell("forget", "--user", "ada")
    assert done.returncode == 2
    assert done.stdout.startswith("To be deleted: the text of 2 calls and 2 threads,")
    assert done.stderr == "Nothing was deleted. Add --yes to delete without being asked.\n"
    assert asyncio.run(server.read(call_journal.recent_calls, "ada")) == before


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, True), ("y", 0, False)])
def test_at_a_terminal_the_erasure_is_confirmed_first(
    shell: Shell, server: Store, answer: str, code: int, *, left: bool
) -> None:
    import pty

    write_texts(server, shell)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        server_command("forget", "--user", "ada"),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=server_environment(data_dir=shell.data_dir),
    ) as process:
        os.write(ours, f"{answer}\n".encode())
        printed, _ = process.communicate()
    os.close(ours)
    os.close(theirs)
    assert b"Delete it for good?" in printed
    assert process.returncode == code
    assert bool(in_the_files(shell.data_dir, f"{SECRET} ada")) is left


def test_an_erasure_needs_a_user_or_an_age(shell: Shell) -> None:
    assert "name a user (--user NAME), a date (--before DATE), or both" in shell.error_of("forget", "--yes", code=2)
    assert "a span such as 7d" in shell.error_of("forget", "--before", "once", code=2)


def test_erasing_a_user_without_text_erases_nothing(shell: Shell) -> None:
    shell.output_of("user", "add", "quiet")
    assert shell.output_of("forget", "--user", "quiet") == "There is nothing to delete.\n"
    assert shell.output_of("forget", "--user", "quiet", "-y").startswith("Deleted: the text of 0 calls")
    shell.output_of("user", "remove", "quiet")
    assert shell.output_of("forget", "--user", "quiet") == "There is nothing to delete.\n"


def test_the_prompts_typed_into_chat_are_deleted_unless_another_user_is_named(shell: Shell) -> None:
    shell.output_of("user", "add", "quiet")
    typed = shell.data_dir / HISTORY_FILE
    typed.write_text(SECRET, encoding="utf-8")
    shell.output_of("forget", "--user", "quiet", "-y")
    assert typed.exists()
    assert ", the lines typed into chat. Their cost stays" in shell("forget", "--user", "local").stdout
    assert typed.exists()
    for selection in (("--user", "local"), ("--before", "30d")):
        typed.write_text(SECRET, encoding="utf-8")
        assert ", the lines typed into chat. Their cost stays" in shell.output_of("forget", *selection, "-y")
        assert not typed.exists()


@pytest.mark.parametrize("command", [("forget", "-y"), ("forget",), ("usage",), ("usage", "--by", "day")])
def test_an_unknown_user_is_an_error(shell: Shell, command: tuple[str, ...]) -> None:
    complaint = shell.error_of(*command, "--user", "nobody", code=2)
    assert complaint.startswith("There is no user named 'nobody'. To see all: ")


def test_a_ledger_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    shell = Shell(tmp_path / "data")
    for arguments in (["forget", "--user", "ada"], ["forget", "--user", "ada", "-y"]):
        assert len(shell.error_of(*arguments, code=78).splitlines()) == 1
    assert len(shell.error_of("backup", tmp_path / "copy", code=78).splitlines()) == 1

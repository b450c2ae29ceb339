"""`mcp-server-claude map` and `jobs`, by their real commands, against the simulator."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from mcp_server_claude.cli.job_display import print_summary
from mcp_server_claude.cli.map_session import item_arguments
from mcp_server_claude.errors import RequestError
from mcp_server_claude.files import FilePolicy
from mcp_server_claude.jobs.job_snapshot import JobSnapshot
from mcp_server_claude.simulator import directive
from mcp_server_claude.store.job_records import JobProgress, JobRecord
from support.mcp_session import ledger_rows
from support.server_command import server_command
from support.shell_command import ShellCommand, shell_command
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from anyio.abc import Process

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio


@pytest.fixture
def map_items(upstream: Simulator, tmp_path: Path) -> ShellCommand:
    return shell_command(upstream, tmp_path, "map")


def _lines(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


async def test_each_line_of_stdin_is_answered_on_stdout_in_order(map_items: ShellCommand) -> None:
    rows = b'tea\n\n{"item": "milk", "text": "cold"}\n'
    done = await map_items(f"Describe {{item}} {directive(text='Yes.')}", stdin=rows)
    assert done.returncode == 0, done.stderr
    assert [(each["input"], each["answer"]) for each in _lines(done.stdout)] == [
        ("tea", "Yes."),
        ({"item": "milk", "text": "cold"}, "Yes."),
    ]
    assert b"2 of 2 answered" in done.stderr
    assert {(row["tool"], row["source"]) for row in ledger_rows(map_items.data_dir)} == {("claude_map", "shell")}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports a closed pipe as another error")
async def test_a_reader_that_has_ended_is_exit_code_1_and_the_answers_are_kept(map_items: ShellCommand) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    async def run(*words: str, stdin: bytes = b"") -> CompletedProcess[bytes]:
        return await anyio.run_process(
            server_command(*words),
            input=stdin,
            stdout=writing,
            check=False,
            env=map_items.environment(),
            cwd=map_items.directory,
        )

    done = await run("map", f"Describe {{item}} {directive(text='Yes.')}", stdin=b"tea\n")
    assert done.returncode == 1
    assert b"1 of 1 answered" in done.stderr
    (job,) = {word for word in done.stderr.decode().replace("[", " ").split() if word.startswith("j_")}
    assert (await run("jobs", "output", job)).returncode == 1
    os.close(writing)
    kept = await anyio.run_process(
        server_command("jobs", "output", job), env=map_items.environment(), cwd=map_items.directory
    )
    assert [each["answer"] for each in _lines(kept.stdout)] == ["Yes."]


async def test_each_file_that_the_shell_expanded_is_an_item(map_items: ShellCommand) -> None:
    for name in ("a.txt", "b.txt"):
        (map_items.directory / name).write_text(f"content of {name}", encoding="utf-8")
    done = await map_items("Summarize", "a.txt", "b.txt", "--quiet")
    assert [each["input"] for each in _lines(done.stdout)] == ["a.txt", "b.txt"]
    assert done.stderr == b""
    assert ["content of a.txt" in json.dumps(each.body) for each in message_requests(map_items.api)].count(True) == 1


async def test_a_table_outside_the_working_directory_is_read_since_the_user_named_it(
    map_items: ShellCommand, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("name,age\nAda,3\n", encoding="utf-8")
    done = await map_items("How old is {name}?", str(tmp_path / "rows.csv"), "-o", "out.jsonl")
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    (line,) = _lines((map_items.directory / "out.jsonl").read_bytes())
    assert line["input"] == {"name": "Ada", "age": "3"}


async def test_the_end_of_a_job_that_lacks_answers_names_the_command_that_asks_for_them(
    map_items: ShellCommand,
) -> None:
    done = await map_items("Describe {item}", "-o", "out.jsonl", stdin=f"tea\nmilk {directive(status=400)}\n".encode())
    assert done.returncode == 1
    job_id = ledger_rows(map_items.data_dir)[0]["job_id"]
    assert f"To ask again for what is missing: mcp-server-claude jobs resume {job_id}" in done.stderr.decode()


def test_the_end_of_a_job_whose_output_could_not_be_written_names_the_command_that_prints_the_answers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = JobRecord(
        id="j_1", created_at=0, worker="w", tool="claude_map", state="closed", end="incomplete", reason="No space left."
    )
    print_summary(JobSnapshot(record=record, progress=JobProgress(done=3)), [])
    printed = capsys.readouterr().err
    assert "Stopped: No space left." in printed
    assert "The answers are kept: mcp-server-claude jobs output j_1" in printed


async def test_a_dry_run_prices_the_items_and_sends_nothing(map_items: ShellCommand) -> None:
    done = await map_items("Say {item}", "--dry-run", stdin=b"one\ntwo\n")
    assert done.returncode == 0
    assert b"claude-haiku" in done.stdout
    assert b"2 items, each counted. Nothing was generated." in done.stdout
    listed = await map_items("Say {item}", "--dry-run", "--json", stdin=b"one\ntwo\n")
    assert [each["name"] for each in json.loads(listed.stdout)["items"]] == ["one", "two"]
    assert not message_requests(map_items.api)
    assert not ledger_rows(map_items.data_dir)


@pytest.mark.parametrize(
    ("arguments", "fields", "code", "sentence"),
    [
        (("Say",), {}, 2, "There are no items."),
        (("Say", "gone.txt"), {}, 2, "There is no file 'gone.txt'"),
        (("Say", "*.gone"), {}, 2, "*.gone"),
        (("Say", "a.txt", "--model", "gpt"), {}, 2, "'gpt'"),
        (("Say", "a.txt"), {"api_key": ""}, 78, "There is no API key."),
        (("Say", "a.txt"), {"base_url": "http://127.0.0.1:9", "retry_for_s": 0}, 75, "refused"),
        (("Say", "a.txt", "--max-usd", "0.000001"), {}, 75, "max_usd"),
    ],
)
async def test_each_failure_of_a_map_has_a_message_and_the_exit_code_of_its_class(
    map_items: ShellCommand, arguments: tuple[str, ...], fields: dict[str, Any], code: int, sentence: str
) -> None:
    (map_items.directory / "a.txt").write_text("a", encoding="utf-8")
    done = await map_items(*arguments, **fields)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert sentence in done.stderr.decode()
    assert b"Traceback" not in done.stderr


async def test_a_wrong_key_stops_the_job_with_the_exit_code_of_a_configuration_error(map_items: ShellCommand) -> None:
    done = await map_items(f"{directive(fault='status', status=401)} {{item}}", stdin=b"one\ntwo\n")
    assert done.returncode == 78, done.stderr
    assert b"Stopped: " in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is a signal on POSIX only")
async def test_ctrl_c_stops_the_job_and_resume_sends_only_the_rest(map_items: ShellCommand) -> None:
    process = await _start_stalled_map(map_items)
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout is not None
    stopped = json.loads(b"".join([part async for part in process.stdout]))
    assert await process.wait() == 130
    assert (stopped["state"], stopped["done"], stopped["cancelled"]) == ("cancelled", 1, 1)

    jobs = replace(map_items, words=("jobs",))
    resumed = json.loads((await jobs("resume", stopped["id"], "--json", "-q")).stdout)
    assert (resumed["id"], resumed["state"], resumed["done"]) == (stopped["id"], "complete", 2)
    assert len(message_requests(map_items.api)) == 3


async def test_a_command_runs_only_the_jobs_it_was_given(map_items: ShellCommand) -> None:
    """A command ends in a moment, and would cut the answers of other jobs that it had begun."""
    process = await _start_stalled_map(map_items)
    process.kill()
    await process.wait()
    before = len(message_requests(map_items.api))

    assert (await replace(map_items, words=("ask",))(directive(tokens=90, think=0, pace=60))).returncode == 0
    jobs = replace(map_items, words=("jobs",))
    (job,) = json.loads((await jobs("list", "--json")).stdout)
    assert job["state"] == "running"
    assert len(message_requests(map_items.api)) == before + 1

    waited = json.loads((await jobs("wait", job["id"], "--json", "-q")).stdout)
    assert (waited["state"], waited["done"]) == ("complete", 2)
    assert len(message_requests(map_items.api)) == before + 2


async def _start_stalled_map(map_items: ShellCommand) -> Process:
    """A job whose first item is answered, and whose second one stalls at the first attempt."""
    items = f"{directive(text='Yes.')}\n{directive(tokens=400, fault='stall', at=90, times=1)}\n".encode()
    process = await anyio.open_process(
        server_command("map", "{item}", "--json", "-q"),
        cwd=map_items.directory,
        env=map_items.environment(max_concurrent_items=1),
    )
    assert process.stdin is not None
    await process.stdin.send(items)
    await process.stdin.aclose()
    while len(message_requests(map_items.api)) < 2:
        await map_items.api.wait_for_requests(len(map_items.api.requests) + 1)
    return process


async def test_jobs_are_listed_shown_and_awaited_and_their_output_is_printed(map_items: ShellCommand) -> None:
    jobs = replace(map_items, words=("jobs",))
    assert (await jobs("list")).stdout == b"There are no jobs.\n"
    made = json.loads((await map_items(f"Say {{item}} {directive(text='=1')}", "--json", stdin=b"x\n")).stdout)
    (listed,) = json.loads((await jobs("list", "--json")).stdout)
    assert listed == made
    assert made["id"].encode() in (await jobs("list")).stdout
    assert b"1 of 1 answered" in (await jobs("show", made["id"])).stderr
    assert (await jobs("wait", made["id"])).returncode == 0
    assert (await jobs("resume", made["id"], "-q")).returncode == 0
    assert (await jobs("cancel", made["id"])).stdout == f"{made['id']} was not running.\n".encode()
    assert _lines((await jobs("output", made["id"])).stdout)[0]["answer"] == "=1"
    assert (await jobs("output", made["id"], "--format", "csv")).stdout.startswith(b"item,input,state,answer")
    missing = await jobs("show", "j_0000")
    assert (missing.returncode, missing.stdout) == (2, b"")
    assert b"There is no job with that id. To see the latest: " in missing.stderr
    assert b"jobs list" in missing.stderr
    assert b"claude_jobs" not in missing.stderr


async def test_a_batch_costs_half_and_its_answers_are_printed(upstream: Simulator, tmp_path: Path) -> None:
    map_items, ask = (shell_command(upstream, tmp_path, name) for name in ("map", "ask"))
    done = await map_items("--batch", f"Describe {{item}} {directive(text='Yes.')}", stdin=b"tea\nmilk\n")
    assert done.returncode == 0, done.stderr
    assert [each["answer"] for each in _lines(done.stdout)] == ["Yes.", "Yes."]
    asked = await ask("--batch", f"What is tea? {directive(text='A drink.')}")
    assert (asked.returncode, asked.stdout) == (0, b"A drink.\n"), asked.stderr
    assert not message_requests(upstream)
    assert [item.text for item in upstream.batch_items] == ["Yes.", "Yes.", "A drink."]
    refused = await ask("--batch", "--tool", "read", "Look")
    assert refused.returncode == 2
    assert b"batch" in refused.stderr


def test_the_items_of_arguments_are_files_a_glob_or_a_table(tmp_path: Path) -> None:
    policy = FilePolicy(roots=(tmp_path,))
    (tmp_path / "a[1].py").write_text("x", encoding="utf-8")
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    assert item_arguments(["src/*.py"], tmp_path, policy).items == ["src/*.py"]
    assert item_arguments(["a[1].py"], tmp_path, policy).files == [str(tmp_path / "a[1].py")]
    assert item_arguments(["t.jsonl"], tmp_path, policy).items == ["t.jsonl"]
    assert len(item_arguments(["t.jsonl", "a[1].py"], tmp_path, policy).files) == 2
    with pytest.raises(RequestError, match=r"no file 'b\.py'"):
        item_arguments(["a[1].py", "b.py"], tmp_path, policy)

"""`claude_map`: every item answered once, in order, into a file; the result is a digest."""

from __future__ import annotations

import csv
import json
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from mcp_server_claude.jobs import map_prompt
from mcp_server_claude.simulator import Simulator, directive
from support.mcp_session import (
    McpSession,
    ProgressUpdate,
    connect,
    failure_meta,
)
from support.server_database import MissingDatabaseError, change_rows, select_rows
from support.simulator_requests import message_requests

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from mcp.types import CallToolResult

    from mcp_server_claude.simulator import LoggedRequest

PATIENCE_S = 600.0
"""Seconds after which a test that hangs fails; how busy the machine is proves nothing."""

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_database")]


@asynccontextmanager
async def open_session(api: Simulator, tmp_path: Path, **fields: Any) -> AsyncGenerator[McpSession]:
    project = tmp_path / "project"
    project.mkdir(exist_ok=True)
    async with connect(
        "memory", "auto", tmp_path / "data", base_url=api.url, project_dir=str(project), **fields
    ) as session:
        yield session


@pytest.fixture
async def session(api: Simulator, tmp_path: Path) -> AsyncIterator[McpSession]:
    api.reset()
    async with open_session(api, tmp_path) as session:
        yield session


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir(exist_ok=True)
    return path


async def run_map(
    session: McpSession, items: list[object], updates: list[ProgressUpdate] | None = None, **arguments: object
) -> CallToolResult:
    totals: set[float | None] = set()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        totals.add(total)
        if updates is not None:
            updates.append(ProgressUpdate(progress, message))

    arguments = {"prompt": "Name the colour of {item}. [[sim: tokens=6]]", "items": items, **arguments}
    with anyio.fail_after(PATIENCE_S):
        return await session.client.call_tool("claude_map", arguments, progress_callback=on_progress)


def digest(result: CallToolResult) -> str:
    return cast("Any", result.content[0]).text


def job(result: CallToolResult) -> dict[str, Any]:
    assert result.meta is not None
    return result.meta["mcp-server-claude/job"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def prompt_of(request: LoggedRequest) -> str:
    content = cast("Any", request.body)["messages"][0]["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


def query(session: McpSession, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in select_rows(session.data_dir, sql)]


async def test_each_item_is_answered_once_and_the_answers_are_in_order(
    session: McpSession, api: Simulator, project: Path
) -> None:
    items: list[object] = [f"thing {n}" for n in range(30)]
    result = await run_map(session, items, output="out.jsonl")
    written = lines(project / "out.jsonl")
    assert [line["input"] for line in written] == items
    assert [line["item"] for line in written] == list(range(30))
    assert {line["state"] for line in written} == {"done"}
    texts = {prompt_of(request): request.text for request in message_requests(api)}
    assert len(texts) == len(message_requests(api)) == 30
    assert [line["answer"] for line in written] == [
        next(text for prompt, text in texts.items() if f"of {item}." in prompt) for item in items
    ]
    assert digest(result).startswith(f"{job(result)['id']}: complete · 30 of 30 answered · $0.0")
    assert digest(result).count("- item ") == 3
    assert str(project / "out.jsonl") in cast("Any", result.content[1]).text
    ((cost, calls),) = query(
        session, "select sum(cost_micros), count(distinct call_id) from entry where job_id is not null"
    )
    assert job(result)["cost_usd"] == cost / 1e6
    assert calls == 30


async def test_progress_counts_the_items_and_reports_the_cost(session: McpSession) -> None:
    updates: list[ProgressUpdate] = []
    await run_map(session, [f"thing {n}" for n in range(12)], updates)
    values = [update.progress for update in updates]
    assert values == sorted(set(values))
    assert values[-1] == 12
    assert (updates[-1].message or "").startswith("12 of 12 · $")


async def test_rows_of_a_table_fill_the_fields(session: McpSession, api: Simulator, project: Path) -> None:
    (project / "people.csv").write_text('name,town\nAda,London\n"Grace, Dr.",New York\n')
    await run_map(session, ["people.csv"], prompt="{name} lives in {town}. [[sim: tokens=6]]", output="out.csv")
    prompts = {prompt_of(request) for request in message_requests(api)}
    assert {prompt.split(" [[")[0] for prompt in prompts} == {
        "Ada lives in London.",
        "Grace, Dr. lives in New York.",
    }
    with (project / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [json.loads(row["input"]) for row in rows] == [
        {"name": "Ada", "town": "London"},
        {"name": "Grace, Dr.", "town": "New York"},
    ]
    assert all(row["answer"] and row["state"] == "done" for row in rows)


async def test_no_cell_of_the_csv_is_a_formula_and_jsonl_is_exact(session: McpSession, project: Path) -> None:
    item, prompt = "=1+1 is what?", "{item} [[sim: text==2+2]]"
    for name in ("out.csv", "out.jsonl"):
        await run_map(session, [item], prompt=prompt, output=name)
    with (project / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["input"], row["answer"]) == (f"'{item}", "'=2+2")
    line = json.loads((project / "out.jsonl").read_text())
    assert (line["input"], line["answer"]) == (item, "=2+2")


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('\ufeffid;text\n1;"a;b"\n2;"two\nlines"\n', [{"id": "1", "text": "a;b"}, {"id": "2", "text": "two\nlines"}]),
        ("id\ttext\n1\ta, b\n", [{"id": "1", "text": "a, b"}]),
        ('"id;number",text\n1,a;b\n', [{"id;number": "1", "text": "a;b"}]),
        ("id,text\n1,tea\n\n,\n,\n2,\n", [{"id": "1", "text": "tea"}, {"id": "2", "text": ""}]),
        ("text\ntea; hot\n", [{"text": "tea; hot"}]),
    ],
    ids=["semicolons", "tabs", "quoted header", "empty rows", "one column"],
)
async def test_a_table_of_a_spreadsheet_is_read(
    session: McpSession, project: Path, text: str, rows: list[dict[str, str]]
) -> None:
    (project / "t.csv").write_text(text, encoding="utf-8")
    result = await run_map(session, ["t.csv"], prompt="{text}? [[sim: tokens=6]]", output="out.jsonl")
    assert job(result)["state"] == "complete", digest(result)
    assert [line["input"] for line in lines(project / "out.jsonl")] == rows


@pytest.mark.parametrize(
    ("name", "text"),
    [("t.tsv", "a\tb\n1\t2\n"), ("t.jsonl", '{"a": 1, "b": "2"}\n\n'), ("t.jsonl", '\ufeff{"a": "1", "b": 2}')],
)
async def test_other_table_formats_are_read(
    session: McpSession, api: Simulator, project: Path, name: str, text: str
) -> None:
    (project / name).write_text(text, encoding="utf-8")
    await run_map(session, [name], prompt="{a} and {b} [[sim: tokens=6]]")
    (request,) = message_requests(api)
    assert prompt_of(request).startswith("1 and 2")


async def test_lone_surrogates_of_a_table_are_replaced(session: McpSession, project: Path) -> None:
    (project / "words.jsonl").write_text(
        '{"word": "a\\ud800"}\n"b\\udfff"\n{"word": "c", "k\\ud800": ["\\ud83d\\ude00"]}\n'
    )
    result = await run_map(session, ["words.jsonl"], output="out.jsonl")
    assert job(result)["state"] == "complete"
    inputs = [line["input"] for line in lines(project / "out.jsonl")]
    assert inputs == [{"word": "a\ufffd"}, "b\ufffd", {"word": "c", "k\ufffd": ["\U0001f600"]}]


async def test_a_file_whose_name_is_not_utf_8_fails_alone_and_has_a_row(session: McpSession, project: Path) -> None:
    (project / "a.txt").write_text("tea")
    (project / os.fsdecode(b"caf\xe9.txt")).write_text("coffee")
    await run_map(session, ["*.txt"], prompt="Describe it. [[sim: tokens=6]]", output="out.jsonl")
    assert [(line["input"], line["state"]) for line in lines(project / "out.jsonl")] == [
        ("a.txt", "done"),
        ("caf\ufffd.txt", "failed"),
    ]


async def test_each_file_of_a_glob_is_an_item(session: McpSession, api: Simulator, project: Path) -> None:
    for name in ("b", "a"):
        (project / f"{name}.md").write_text(f"This is the text of {name}.")
    result = await run_map(session, ["*.md"], prompt="Sum up {item}. [[sim: tokens=6]]")
    assert job(result)["done"] == 2
    assert [line["input"] for line in lines(project / f"claude_map_{job(result)['id']}.jsonl")] == ["a.md", "b.md"]
    bodies = [json.dumps(request.body) for request in message_requests(api)]
    assert sorted("text of a" in body for body in bodies) == [False, True]


async def test_a_file_that_is_an_item_is_not_written_to_the_cache_and_the_rules_are_once(
    session: McpSession, api: Simulator, project: Path
) -> None:
    for n in range(4):
        (project / f"{n}.txt").write_text(f"File {n}. " + "Some text of it. " * 1000)
    await run_map(session, ["*.txt"], prompt="Sum it up. [[sim: tokens=6]]", system="Rules for sums. " * 400)
    bodies = [cast("Any", request.body) for request in message_requests(api)]
    assert len(bodies) == 4
    assert "cache_control" not in json.dumps([body["messages"] for body in bodies])
    written = query(session, "select cache_creation_input_tokens from entry order by started_at")
    assert sum(1 for (tokens,) in written if tokens) == 1
    assert max(tokens for (tokens,) in written) < 3_000


@pytest.mark.parametrize(
    ("items", "arguments", "words"),
    [
        ([], {}, "There are no items."),
        (["no.csv"], {}, "no.csv"),
        (["no/*.txt"], {}, 'There is no "no"'),
        (["bad.jsonl"], {}, 'Line 2 of "bad.jsonl" is not JSON'),
        (["bad.csv"], {}, 'Line 3 of "bad.csv" has another number of fields'),
        ([{"a": 1}], {"prompt": "{b}"}, "The prompt names {b}, which the rows do not have. They have: a."),
        (["twice.csv"], {}, '"twice.csv" has two columns "a"'),
        (["huge.csv"], {}, '"huge.csv" has 1,073,741,824 bytes, more than the 536,870,912 of a table'),
        (["x"], {"model": "gpt"}, "gpt"),
        (["x"], {"output": "../out.jsonl"}, "outside"),
        (["x"], {"output": "out.txt"}, "output must be the path of a .jsonl or .csv file."),
        (["x"], {"output": "no/out.jsonl"}, "its directory does not exist"),
        (["x"], {"output": "taken.jsonl"}, "exists and belongs to something else"),
    ],
)
async def test_an_impossible_job_is_rejected_before_anything_is_sent(
    session: McpSession, api: Simulator, project: Path, items: list[object], arguments: dict[str, Any], words: str
) -> None:
    (project / "bad.jsonl").write_text('{"a": 1}\n{oops\n')
    (project / "bad.csv").write_text("a,b\n1,2\n3\n")
    (project / "twice.csv").write_text("a,b,a\n1,2,3\n")
    with (project / "huge.csv").open("wb") as file:
        file.truncate(1 << 30)  # a hole, which takes no place on the disk
    (project / "taken.jsonl").write_text("precious")
    result = await run_map(session, items, **arguments)
    assert failure_meta(result)["class"] == "request_error"
    assert words in digest(result)
    assert message_requests(api) == []
    assert (project / "taken.jsonl").read_text() == "precious"
    assert query(session, "select count(*) from job where state <> 'new'") == [(0,)]


async def test_a_failed_item_is_reported_and_the_same_call_repeats_it_alone(
    session: McpSession, api: Simulator, project: Path
) -> None:
    items: list[object] = ["tea", f"milk {directive(status=400, times=1)}", "rice"]
    first = await run_map(session, items, output="out.jsonl")
    assert "incomplete · 2 of 3 answered · 1 failed" in digest(first)
    assert "- item 1: " in digest(first)
    assert [line["state"] for line in lines(project / "out.jsonl")] == ["done", "failed", "done"]
    before = lines(project / "out.jsonl")
    again = await run_map(session, items, output="out.jsonl")
    assert job(again)["id"] == job(first)["id"]
    assert "complete · 3 of 3 answered" in digest(again)
    after = lines(project / "out.jsonl")
    assert [line["state"] for line in after] == ["done"] * 3
    assert [after[0], after[2]] == [before[0], before[2]]
    assert len(message_requests(api)) == 4
    third = await run_map(session, items, output="out.jsonl")
    assert job(third)["state"] == "complete"
    assert len(message_requests(api)) == 4


async def test_an_answer_that_cannot_be_written_closes_its_job_and_not_the_server(session: McpSession) -> None:
    items: list[object] = ["tea", f"milk {directive(status=400, times=1)}"]
    first = await run_map(session, items, output="out.jsonl")
    change_rows(session.data_dir, "update job_item set is_json = 1, text = '{' where seq = 0")
    again = await run_map(session, items, output="out.jsonl")
    assert (job(again)["id"], job(again)["state"]) == (job(first)["id"], "incomplete")
    assert "The output could not be written" in digest(again)
    assert job(await run_map(session, ["rice"]))["state"] == "complete"


async def test_an_output_may_have_the_longest_name_that_a_file_can_have(session: McpSession, project: Path) -> None:
    name = "a" * 249 + ".jsonl"
    result = await run_map(session, ["tea"], output=name)
    assert job(result)["state"] == "complete"
    assert [line["state"] for line in lines(project / name)] == ["done"]
    assert os.listdir(project) == [name]  # noqa: PTH208 - nothing of its temporary file


async def test_an_output_that_could_not_be_written_is_not_named_as_the_place_of_the_answers(
    session: McpSession, project: Path
) -> None:
    directory = project / "out"
    directory.mkdir()

    async def remove_directory(progress: float, total: float | None, message: str | None) -> None:
        del progress, message
        if total is not None and directory.exists():  # the job has begun
            directory.rmdir()

    arguments = {"prompt": "Name it: {item}", "items": [f"tea {directive(ttft=0.3)}"], "output": "out/a.jsonl"}
    result = await session.client.call_tool("claude_map", arguments, progress_callback=remove_directory)
    assert "The output could not be written: " in digest(result)
    assert cast("Any", result.content[1]).text.startswith("The answers so far: claude://jobs/j_")


async def test_an_output_that_was_changed_in_between_is_not_overwritten(session: McpSession, project: Path) -> None:
    items: list[object] = ["tea", f"milk {directive(status=400)}"]
    first = await run_map(session, items, output="out.jsonl")
    others = await run_map(session, [*items, "rice"], output="out.jsonl")
    assert f"has the answers of job {job(first)['id']}, whose items" in digest(others)
    (project / "out.jsonl").write_text("mine now")
    again = await run_map(session, items, output="out.jsonl")
    assert failure_meta(again)["class"] == "request_error"
    assert f"The output file of job {job(first)['id']} was changed after it was written." in digest(again)
    assert (project / "out.jsonl").read_text() == "mine now"


async def test_answers_with_a_schema_are_values(session: McpSession, project: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string"}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    await run_map(session, ["tea", "milk"], prompt="{item}", schema=schema, output="out.jsonl")
    assert all(isinstance(line["answer"]["colour"], str) for line in lines(project / "out.jsonl"))


async def test_the_limit_of_the_job_holds_over_all_items_and_a_higher_one_resumes_it(
    session: McpSession,
) -> None:
    items: list[object] = [f"thing {n}" for n in range(20)]
    prompt = "Name the colour of {item}. [[sim: tokens=200]]"
    first = await run_map(session, items, prompt=prompt, output="out.jsonl", max_usd=0.02)
    ((spent,),) = query(session, "select sum(cost_micros) from entry")
    assert 0 < spent <= 20_000
    assert job(first)["state"] == "incomplete"
    assert "max_usd of $0.020 for the whole job" in digest(first)
    assert 0 < job(first)["done"] < 20
    again = await run_map(session, items, prompt=prompt, output="out.jsonl", max_usd=5)
    assert job(again)["id"] == job(first)["id"]
    assert job(again)["done"] == 20


async def test_a_wrong_key_stops_the_job_after_the_first_items(session: McpSession, api: Simulator) -> None:
    items: list[object] = [f"thing {n} {directive(status=401, type='authentication_error')}" for n in range(100)]
    result = await run_map(session, items)
    assert job(result)["state"] == "incomplete"
    assert "Stopped: " in digest(result)
    assert len(message_requests(api)) <= 16


async def test_only_the_shared_part_of_all_items_is_written_to_the_cache_and_only_once(
    session: McpSession, api: Simulator
) -> None:
    guide = "Rules for the naming of colours. " * 400
    await run_map(session, [f"thing {n}" for n in range(10)], prompt=guide + "Name that of {item}. [[sim: tokens=6]]")
    bodies = [cast("Any", request.body) for request in message_requests(api)]
    assert all("cache_control" not in body for body in bodies)
    assert {len(body["messages"][0]["content"]) for body in bodies} == {2}
    ((written, read),) = query(
        session,
        "select count(nullif(cache_creation_input_tokens, 0)) as written, "
        "count(nullif(cache_read_input_tokens, 0)) as read from entry",
    )
    assert (written, read) == (1, 9)


async def test_a_dry_run_prices_all_items_and_sends_none(session: McpSession, api: Simulator) -> None:
    result = await run_map(session, [f"thing {n}" for n in range(1000)], dry_run=True)
    assert "1,000 items" in digest(result)
    assert "| as requested |" in digest(result)
    assert message_requests(api) == []
    assert query(session, "select id from job") == []


def estimate_meta(result: CallToolResult) -> dict[str, Any]:
    assert result.meta is not None, digest(result)
    return result.meta["mcp-server-claude/estimate"]


async def test_a_dry_run_counts_and_prices_each_of_a_few_items(session: McpSession) -> None:
    items: list[object] = ["tea", "milk " * 900, {"name": "rice", "text": "white " * 300}]
    result = await run_map(session, items, prompt="Sum up {item}", dry_run=True)
    estimate = estimate_meta(result)
    assert (estimate["count"], estimate["counted"], estimate["shared_tokens"]) == (3, 3, 0)
    tokens = [each["input_tokens"] for each in estimate["items"]]
    assert tokens[0] < tokens[2] < tokens[1]
    assert [each["item"] for each in estimate["most_expensive"]] == [1, 2, 0]
    requested, in_batch = estimate["variants"][:2]
    for field in ("input_usd", "typical_usd", "max_usd"):
        assert requested[field] == pytest.approx(sum(each[field] for each in estimate["items"]))
        assert in_batch[field] == pytest.approx(requested[field] / 2)
    assert requested["item_usd"] == pytest.approx([estimate["items"][n]["typical_usd"] for n in (0, 2, 1)])
    assert "3 items, each counted" in digest(result)
    assert "The most expensive: item 1 (milk milk" in digest(result)
    assert "batch=true" in in_batch["variant"]
    await run_map(session, items, prompt="Sum up {item}", output="out.jsonl")
    counted = [each["input_tokens"] for each in estimate["items"]]
    assert [row[0] for row in query(session, "select input_tokens from entry order by input_tokens")] == sorted(counted)


async def test_a_dry_run_of_many_items_follows_their_lengths(session: McpSession, api: Simulator) -> None:
    items: list[object] = [f"{'word ' * n}" for n in range(1, 301)]
    estimate = estimate_meta(await run_map(session, items, prompt="Sum up: {item}", dry_run=True))
    counts = [each for each in api.requests if each.path.endswith("count_tokens")]
    assert estimate["counted"] == 16
    assert len(counts) == 17  # and the prompt without an item
    exact = estimate_meta(await run_map(session, items[99:100], prompt="Sum up: {item}", dry_run=True))["items"][0]
    assert estimate["items"][99]["input_tokens"] == pytest.approx(exact["input_tokens"], rel=0.05)
    assert [each["item"] for each in estimate["most_expensive"]] == [299, 298, 297]


async def test_a_dry_run_counts_files_by_their_ending(session: McpSession, project: Path) -> None:
    for n in range(60):
        (project / f"{n:02}.txt").write_text("word " * 40 * (n + 1))
    (project / "page.html").write_text("word " * 1000)
    estimate = estimate_meta(await run_map(session, ["*.*"], prompt="Sum it up.", dry_run=True))
    by_name = {each["name"]: each["input_tokens"] for each in estimate["items"]}
    assert len(by_name) == 61
    assert by_name["24.txt"] == pytest.approx(by_name["page.html"], rel=0.1)
    assert estimate["most_expensive"][0]["name"] == "59.txt"


async def test_a_dry_run_counts_what_all_items_share_as_written_to_the_cache_once(session: McpSession) -> None:
    prompt = "Rules for the naming of colours. " * 900 + "Name that of {item}. [[sim: tokens=6]]"
    items: list[object] = [f"thing {n}" for n in range(10)]
    estimate = estimate_meta(await run_map(session, items, prompt=prompt, dry_run=True))
    first, *others = [each["input_usd"] for each in estimate["items"]]
    assert first > 5 * max(others)
    assert estimate["shared_tokens"] > 4_096
    await run_map(session, items, prompt=prompt)
    ((input_cost,),) = query(session, "select sum(cost_micros) from entry")
    answers = query(session, "select sum(output_tokens) from entry")[0][0]
    requested = estimate["variants"][0]
    per_token = (requested["typical_usd"] - requested["input_usd"]) / (10 * 500)
    assert requested["input_usd"] == pytest.approx(input_cost / 1e6 - answers * per_token, rel=0.03)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_template_that_repeats_a_long_item_too_often_is_rejected(
    session: McpSession, api: Simulator, *, dry_run: bool
) -> None:
    result = await run_map(session, ["x" * 1_000_000], prompt="{item}" * 33, dry_run=dry_run)
    assert failure_meta(result)["kind"] == "too_large"
    assert "would have 33,000,000 characters" in digest(result)
    assert message_requests(api) == []


@pytest.mark.sqlite_only
@pytest.mark.parametrize("template", ["Name {a}, {b} and {a}.", "Name it.", "{{a}} {a", "{a}{b}{item}"])
def test_the_shortest_template_is_shorter_by_the_same_for_all_items(template: str) -> None:
    shortest = map_prompt.shortest_template(template)
    items: list[dict[str, object]] = [{"row": {"a": "tea", "b": 3}}, {"row": {"a": "", "b": [1]}}, {"item": "milk"}]
    differences = [
        len(map_prompt.render_prompt(template, item)) - len(map_prompt.render_prompt(shortest, item)) for item in items
    ]
    assert differences == [len(template) - len(shortest)] * 3


async def test_a_stopped_job_keeps_its_answers_and_resumes_with_the_same_call(
    session: McpSession, api: Simulator, project: Path
) -> None:
    items: list[object] = ["tea", f"milk {directive(fault='stall', at=5, times=1)}"]
    results: list[CallToolResult] = []
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            results.append(await run_map(session, items, output="out.jsonl"))

        tasks.start_soon(ask)
        with anyio.fail_after(PATIENCE_S):
            while not count_done(session):
                await anyio.lowlevel.checkpoint()
            ((job_id,),) = query(session, "select id from job")
            await session.client.call_tool("claude_jobs", {"id": job_id, "cancel": True})
    (result,) = results
    assert job(result)["state"] == "cancelled"
    assert [line["state"] for line in lines(project / "out.jsonl")] == ["done", "cancelled"]
    again = await run_map(session, items, output="out.jsonl")
    assert job(again)["state"] == "complete"
    assert len(message_requests(api)) == 3


async def test_a_job_of_an_ended_server_is_finished_by_the_next_one(api: Simulator, tmp_path: Path) -> None:
    api.reset()
    items: list[object] = [f"thing {n} {directive(fault='stall', at=5, times=1) if n % 3 else ''}" for n in range(12)]
    async with open_session(api, tmp_path) as session, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: run_map(session, items, output="out.jsonl"))
        with anyio.fail_after(PATIENCE_S):
            while count_done(session) < 4 or len(message_requests(api)) < 12:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    async with open_session(api, tmp_path) as session:
        result = await run_map(session, items, output="out.jsonl")
    assert job(result)["done"] == 12
    written = lines(tmp_path / "project" / "out.jsonl")
    assert [line["state"] for line in written] == ["done"] * 12
    complete = [request for request in message_requests(api) if request.end == "complete"]
    assert len(complete) == 12


def count_done(session: McpSession) -> int:
    """The number of finished items; 0 before there is a database."""
    try:
        return query(session, "select count(*) from job_item where state = 'done'")[0][0]
    except MissingDatabaseError:
        return 0

"""`/usage.json` and `/usage.csv`: the ledger's numbers, each to whom they belong."""

from __future__ import annotations

import csv
import io
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from mcp_server_claude.server.tools import build_tools
from mcp_server_claude.store.sqlite_connection import open_connection
from support.http_server import RunningHttpServer, http_server_thread
from support.reference_usage import ReferenceUsage
from support.sample_ledger import TOOL_SHARES, SampleLedger, entry_row, insert_entries, write_sample_ledger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping
    from pathlib import Path

    import httpx2

pytestmark = pytest.mark.anyio

NOWHERE = "http://127.0.0.1:9"
"""No request to the API is made here."""
UNTIL = "2026-11-20"
MONTH = {"since": "2026-10-22", "until": UNTIL}
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
SUMS = (
    *("inputTokens", "outputTokens", "cacheCreationTokens", "cacheReadTokens", "totalTokens"),
    *("totalCost", "calls", "requests", "errors", "retries", "unpriced"),
)


@dataclass(frozen=True)
class ServerWithLedger:
    """A server with a ledger, and the ledger itself."""

    server: RunningHttpServer
    ledger: ReferenceUsage

    async def usage(self, who: str = "", /, **query: str) -> dict[str, Any]:
        answer = await self.get("/usage.json", who, **query)
        assert answer.status_code == 200, answer.text
        return cast("dict[str, Any]", answer.json())

    async def get(self, path: str, who: str = "", /, **query: str) -> httpx2.Response:
        async with self.server.client(who) as client:
            return await client.get(path, params=query)


@asynccontextmanager
async def open_server(data_dir: Path, **options: Any) -> AsyncGenerator[ServerWithLedger]:
    write_sample_ledger(data_dir, SampleLedger(rows=0))
    with ReferenceUsage.open_ledger(data_dir) as ledger:
        async with http_server_thread(data_dir, NOWHERE, **options) as server:
            yield ServerWithLedger(server, ledger)


@pytest.fixture(scope="module")
async def server_with_ledger(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerWithLedger]:
    """A team's ledger, as the operator sees it; also with a model that has no price."""
    data_dir = tmp_path_factory.mktemp("books")
    path = write_sample_ledger(data_dir, SampleLedger(rows=2_500))
    connection = open_connection(path)
    unpriced = {"model": "local-model", "cost_micros": None, "input_tokens": 10, "ttft_ms": 12.5}
    insert_entries(connection, [entry_row(900_000 + n, NOON - n * 86_400, user="linus", **unpriced) for n in range(40)])
    connection.close()
    async with open_server(data_dir) as server_with_ledger:
        yield server_with_ledger


ONLY: list[dict[str, str]] = [
    {},
    {"user": "ada"},
    {"model": "claude-haiku-5-5"},
    {"tool": "chat"},
    {"user": "grace", "model": "claude-opus-5-5", "tool": "claude_ask"},
    {"model": "local-model"},
]


@pytest.mark.parametrize("only", ONLY)
async def test_every_number_equals_the_ledger(server_with_ledger: ServerWithLedger, only: dict[str, str]) -> None:
    report, plain = await server_with_ledger.usage(**MONTH, **only), server_with_ledger.ledger
    query = MONTH | only

    def used(part: Mapping[str, Any], **about: str) -> None:
        assert {name: part[name] for name in SUMS} == pytest.approx(plain.totals(**about), abs=1e-9)

    def timed(part: Mapping[str, Any], **about: str) -> None:
        used(part, **about)
        assert part["cacheSavings"] == pytest.approx(plain.cache_savings(**about), abs=1.5e-6)
        assert part["ttft"] == pytest.approx(plain.latency_percentiles(**about))
        assert part.get("modelsUsed", []) == [each["modelName"] for each in part.get("modelBreakdowns", [])]
        for each in part.get("modelBreakdowns", []):
            sums = plain.totals(**(about | {"model": each["modelName"]}))
            assert each["cost"] == pytest.approx(sums["totalCost"])
            assert all(each[name] == sums[name] for name in SUMS[:5])

    timed(report["totals"], **query)
    assert len(report["daily"]) == 30
    for day in report["daily"]:
        timed(day, day=day["date"], **only)
    assert [each["month"] for each in report["monthly"]] == ["2026-10", "2026-11"]
    for month in report["monthly"]:
        timed(month, month=month["month"], **query)
    for key, parts in (
        ("model", report["byModel"]),
        ("user", report["byUser"]),
        ("tool", report["byTool"]),
        ("project", report["byProject"]),
    ):
        assert [part[key] for part in parts] == plain.values_by_cost(key, **query)
        for part in parts:
            used(part, **(query | {key: part[key]}))
            if key not in {"user", "project"}:
                assert part["cacheSavings"] == pytest.approx(
                    plain.cache_savings(**(query | {key: part[key]})), abs=1e-6
                )
    before = {"since": "2026-09-22", "until": "2026-10-21"}
    previous = plain.totals(**before, **only)
    assert report["previous"] == before | {
        "totalCost": pytest.approx(previous["totalCost"]),
        "calls": previous["calls"],
    }


async def test_the_last_thirty_days_are_reported_by_default(server_with_ledger: ServerWithLedger) -> None:
    report = await server_with_ledger.usage()
    today = datetime.now(UTC).date()
    assert (report["since"], report["until"]) == (str(today - timedelta(days=29)), str(today))
    assert len(report["daily"]) == 30
    assert (report["user"], report["model"], report["tool"]) == ("", "", "")
    assert report["pricing_as_of"]


async def test_days_are_counted_back_from_the_last_one(server_with_ledger: ServerWithLedger) -> None:
    week = await server_with_ledger.usage(days="7", until=UNTIL)
    assert (week["since"], week["until"]) == ("2026-11-14", UNTIL)
    assert week["previous"]["since"] == "2026-11-07"
    one = await server_with_ledger.usage(since=UNTIL, until=UNTIL)
    assert [day["date"] for day in one["daily"]] == [UNTIL]
    assert one["begins"] == min(server_with_ledger.ledger.values_by_cost("day"))
    assert sorted(one["users"]) == sorted(server_with_ledger.ledger.values_by_cost("user"))


@pytest.mark.parametrize("only", ONLY)
async def test_the_csv_has_a_row_for_each_day_user_model_and_tool(
    server_with_ledger: ServerWithLedger, only: dict[str, str]
) -> None:
    answer = await server_with_ledger.get("/usage.csv", **MONTH, **only)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="usage-2026-10-22-{UNTIL}.csv"'
    assert answer.headers["cache-control"] == "no-store"
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert lines
    assert [line["date"] for line in lines] == sorted(line["date"] for line in lines)
    for line in lines:
        sums = server_with_ledger.ledger.totals(
            day=line["date"], user=line["user"], model=line["model"], tool=line["tool"]
        )
        assert {name: float(line[name]) for name in SUMS} == pytest.approx(sums)
    totals = server_with_ledger.ledger.totals(**MONTH, **only)
    assert {name: sum(float(line[name]) for line in lines) for name in SUMS} == pytest.approx(totals)


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({"since": "yesterday"}, 422, "since must be a date such as 2026-11-01."),
        ({"since": "1795176000"}, 422, "since must be a date"),
        ({"until": "2026-02-30"}, 422, "until must be a date such as 2026-11-01."),
        ({"days": "0"}, 422, "days must be greater than or equal to 1."),
        ({"days": "1101"}, 422, "days must be less than or equal to 1100."),
        ({"since": "2026-11-01", "days": "7"}, 400, "not both"),
        ({"since": "2026-11-02", "until": "2026-11-01"}, 400, "later than until"),
        ({"since": "2020-01-01", "until": UNTIL}, 400, "longer than 1100 days"),
        ({"until": "0001-01-01"}, 400, "between 2000-01-01 and"),
        ({"since": "9999-12-31"}, 400, "between 2000-01-01 and"),
        ({"model": "x" * 201}, 422, "model: "),
    ],
)
@pytest.mark.parametrize("path", ["/usage.json", "/usage.csv"])
async def test_an_invalid_query_is_rejected_in_one_sentence(
    server_with_ledger: ServerWithLedger, path: str, query: dict[str, str], status: int, words: str
) -> None:
    answer = await server_with_ledger.get(path, **query)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert words in error["text"]
    assert (error["text"].count("\n"), error["class"], error["retryable"]) == (0, "request_error", False)


async def test_unknown_names_match_nothing_and_are_no_error(server_with_ledger: ServerWithLedger) -> None:
    for only in (
        {"user": "nobody"},
        {"model": "' or 1=1 --"},
        {"tool": "\0\ud800".encode("utf-8", "replace").decode()},
    ):
        report = await server_with_ledger.usage(**MONTH, **only)
        assert (report["totals"]["requests"], report["byUser"], report["totals"]["ttft"]["p50"]) == (0, [], None)
        assert (await server_with_ledger.get("/usage.csv", **MONTH, **only)).text.count("\n") == 1


async def test_a_user_sees_their_usage_and_an_operator_all_usage(tmp_path: Path) -> None:
    write_sample_ledger(tmp_path / "data", SampleLedger(rows=500))
    async with open_server(tmp_path / "data", users=("ada", "boss")) as server_with_ledger:
        assert server_with_ledger.server.services is not None
        await (await server_with_ledger.server.services.open()).users.change_user("boss", {"role": "operator"})
        hers, own = (
            await server_with_ledger.usage("ada", **MONTH),
            await server_with_ledger.usage("ada", **MONTH, user="ada"),
        )
        assert hers == own
        assert [part["user"] for part in hers["byUser"]] == ["ada"]
        assert (hers["user"], hers["users"]) == ("ada", [])
        assert hers["totals"]["requests"] == server_with_ledger.ledger.totals(user="ada", **MONTH)["requests"] > 0
        lines = csv.DictReader(io.StringIO((await server_with_ledger.get("/usage.csv", "ada", **MONTH)).text))
        assert {line["user"] for line in lines} == {"ada"}
        for path in ("/usage.json", "/usage.csv"):
            refused = await server_with_ledger.get(path, "ada", **MONTH, user="grace")
            assert (refused.status_code, refused.json()["error"]["kind"]) == (403, "forbidden")
            assert (await server_with_ledger.get(path)).status_code == 401
        everything = await server_with_ledger.usage("boss", **MONTH)
        assert {part["user"] for part in everything["byUser"]} == set(
            server_with_ledger.ledger.values_by_cost("user", **MONTH)
        )
        assert (await server_with_ledger.usage("boss", **MONTH, user="ada"))["totals"] == hers["totals"]


async def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    names = [
        '=HYPERLINK("http://evil","x")',
        "+A1",
        "-1+A1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        'quote"d, and\nbroken',
        "plain",
    ]
    async with open_server(tmp_path / "data") as server_with_ledger:
        connection = open_connection(tmp_path / "data" / "store.db")
        insert_entries(
            connection, [entry_row(n, NOON, model=name, user=name, tool=name) for n, name in enumerate(names)]
        )
        connection.close()
        answer = await server_with_ledger.get("/usage.csv", **MONTH)
    lines = list(csv.reader(io.StringIO(answer.text, newline="")))[1:]
    report = {cell for line in lines for cell in line[1:4]}
    assert report == {f"'{name}" for name in names[:6]} | set(names[6:])


async def test_an_empty_ledger_is_reported_as_such(tmp_path: Path) -> None:
    async with open_server(tmp_path / "data") as server_with_ledger:
        report = await server_with_ledger.usage(**MONTH)
        assert (
            report["begins"],
            report["byModel"],
            report["byUser"],
            report["byTool"],
            report["byProject"],
            report["users"],
        ) == (
            "",
            [],
            [],
            [],
            [],
            [],
        )
        assert all(day["requests"] == day["totalCost"] == 0 and day["ttft"]["p50"] is None for day in report["daily"])
        assert report["totals"]["cacheSavings"] == 0
        assert (await server_with_ledger.get("/usage.csv")).text.startswith("date,user,model,tool,inputTokens,")


async def test_the_route_is_documented_and_not_cached(server_with_ledger: ServerWithLedger) -> None:
    api = (await server_with_ledger.get("/openapi.json")).json()
    for path, media in (("/usage.json", "application/json"), ("/usage.csv", "text/csv")):
        operation = api["paths"][path]["get"]
        assert list(operation["responses"]["200"]["content"]) == [media]
        assert {"400", "401", "403", "422", "500"} <= set(operation["responses"])
        named = {each["name"] for each in operation["parameters"]}
        assert named == {"since", "until", "days", "user", "model", "tool", "job"}
        assert all(each["description"] for each in operation["parameters"])
    day = api["components"]["schemas"]["DailyUsage"]["properties"]
    # As ccusage has them.
    assert {"date", "modelsUsed", "modelBreakdowns", "totalCost", *SUMS[:5]} <= day.keys()
    assert (await server_with_ledger.get("/usage.json")).headers["cache-control"] == "no-store"


def test_the_pictures_of_the_usage_page_show_tools_that_exist() -> None:
    assert set(TOOL_SHARES) <= {"chat", *(tool.name for tool in build_tools())}

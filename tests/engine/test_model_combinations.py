"""Every combination of what a caller may ask for and what a model can do works, or is refused before it is sent."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, cast, get_args

import anyio
import pytest

from mcp_server_claude.call_types import Call, Effort, ToolName
from mcp_server_claude.errors import CallError, RequestError
from mcp_server_claude.services.lazy_services import Services
from mcp_server_claude.settings import Settings
from mcp_server_claude.simulator import ModelList, Pace, Simulator, directive
from mcp_server_claude.simulator.model_catalog import listed_models
from mcp_server_claude.text_log import TextLog
from support.mcp_session import FAKE_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from pathlib import Path

    from mcp_server_claude.call_types import Reply
    from mcp_server_claude.calls.conversation_threads import ConversationThreads
    from mcp_server_claude.simulator import LoggedRequest

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:The model '.*' is deprecated:DeprecationWarning")]

AT_ONCE = 16
EFFORTS: tuple[Effort, ...] = get_args(Effort)
ABILITIES: tuple[ToolName, ...] = get_args(ToolName)
TOOLS: tuple[tuple[ToolName, ...], ...] = ((), *((ability,) for ability in ABILITIES), ABILITIES)
SCHEMA = {"type": "object", "properties": {"cups": {"type": "integer"}}, "required": ["cups"]}
ALL = "Search for tea, compute the mean of https://example.com/tea and tell me."
HAPPENINGS = {
    "nothing": "",
    "pause": directive(stop="pause_turn"),
    "late pause": directive(stop="pause_turn", late="on"),
    "drop": directive(fault="drop", at=30, times=1),
    "drop, then pause": directive(fault="drop", at=30, times=1, stop="pause_turn", late="on"),
    "look": directive(stop="tool_use", tool="list"),
    "drop, then look": directive(fault="drop", at=30, times=1, stop="tool_use", tool="list", late="on"),
    "cut": directive(stop="max_tokens", late="on"),
}
"""What may befall an answer; a look happens where Claude may look around."""


@dataclass
class Upstream:
    """The API with these models, and the outcome of each call by its id."""

    api: Simulator
    threads: ConversationThreads
    models: tuple[str, ...]
    most: dict[str, int]

    async def ask(self, calls: Iterable[Call]) -> dict[str, Reply | CallError]:
        outcomes: dict[str, Reply | CallError] = {}
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def one(call: Call) -> None:
            async with limiter:
                try:
                    outcomes[call.id] = await self.threads.answer_in_thread(call, lambda _: None, TextLog())
                except CallError as failure:
                    outcomes[call.id] = failure

        async with anyio.create_task_group() as tasks:
            for call in calls:
                tasks.start_soon(one, call)
        return outcomes

    def generated(self) -> dict[str, list[LoggedRequest]]:
        """The requests for generation, by the id of their call, which is the rules that hold for it."""
        found: dict[str, list[LoggedRequest]] = {}
        for record in self.api.requests:
            if record.path == "/v1/messages":
                body = cast("dict[str, object]", record.body)
                messages = cast("list[dict[str, object]]", body["messages"])
                rules = [json.dumps(message["content"]) for message in messages if message["role"] == "system"]
                call_ids = re.findall(r"c_[0-9a-f]{24}", " ".join([json.dumps(body["system"]), *rules]))
                found.setdefault(call_ids[-1], []).append(record)
        return found

    def judge(self, calls: Sequence[Call], outcomes: dict[str, Reply | CallError]) -> None:
        """Nothing that was sent was refused, and what was refused was not sent."""
        generated = self.generated()
        for call in calls:
            outcome, records = outcomes[call.id], generated.get(call.id, [])
            prompt = f"{call.model} {call.effort} {call.tools} {call.max_tokens} {bool(call.schema)} {call.prompt}"
            assert {record.status for record in records} <= {200}, (prompt, outcome)
            if isinstance(outcome, CallError):
                assert isinstance(outcome, RequestError), (prompt, outcome)
                assert not records or outcome.kind in {"max_tokens", "tool_use"}, (prompt, outcome)
            else:
                assert records, prompt


@asynccontextmanager
async def upstream(tmp_path: Path, models: ModelList, *, retention_days: float) -> AsyncGenerator[Upstream]:
    settings = Settings.model_validate(
        {
            "api_key": FAKE_KEY,
            "data_dir": tmp_path / "data",
            "retention_days": retention_days,
            "max_concurrent": AT_ONCE,
        }
    )
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0), models=models, defaults="tokens=40") as api:
        settings = settings.model_copy(update={"base_url": api.url})
        async with Services.lifespan(settings) as services:
            names = {model.id: model.max_tokens for model in listed_models(models)}
            yield Upstream(api, (await services.open()).threads, tuple(names), names)


def call_for(prompt: str, model: str, **more: object) -> Call:
    call = Call(prompt=prompt, model=model)
    return replace(call, system=call.id, **more)  # pyright: ignore[reportArgumentType] - fields of a call


@pytest.mark.parametrize("models", [pytest.param("full", marks=pytest.mark.slow), "plain"])
async def test_any_combination_of_effort_length_schema_and_tools_works_or_is_rejected_before_it_is_sent(
    tmp_path: Path, models: ModelList
) -> None:
    async with upstream(tmp_path, models, retention_days=0) as simulated:
        calls = [
            call_for(ALL, model, effort=effort, max_tokens=length, schema=schema, tools=tools)
            for model, effort, schema, tools in product(simulated.models, EFFORTS, (None, SCHEMA), ((), ABILITIES))
            for length in (0, 1, simulated.most[model], simulated.most[model] + 1)
        ]
        outcomes = await simulated.ask(calls)
        simulated.judge(calls, outcomes)
        answered = [call for call in calls if not isinstance(outcomes[call.id], CallError)]
        assert len(answered) > len(calls) / 20


@pytest.mark.parametrize("models", [pytest.param("full", marks=pytest.mark.slow), "plain"])
async def test_no_outcome_of_an_answer_leads_to_a_request_that_the_model_rejects(
    tmp_path: Path, models: ModelList, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    async with upstream(tmp_path, models, retention_days=0) as simulated:
        calls = [
            call_for(f"{ALL} {happening}", model, tools=tools, schema=schema)
            for model, happening, tools in product(simulated.models, HAPPENINGS.values(), TOOLS)
            for schema in ((None, SCHEMA) if not tools else (None,))
        ]
        outcomes = await simulated.ask(calls)
        generated = simulated.generated()
        for call in calls:
            statuses = {record.status for record in generated.get(call.id, []) if record.fault is None}
            assert statuses <= {200}, (call.model, call.prompt[80:], call.tools, bool(call.schema), outcomes[call.id])


@pytest.mark.parametrize("models", [pytest.param("full", marks=pytest.mark.slow), "plain"])
async def test_any_model_continues_an_answer_of_any_other(tmp_path: Path, models: ModelList) -> None:
    async with upstream(tmp_path, models, retention_days=1) as simulated:
        begun = [
            call_for(f"{ALL} {happening}", model, tools=tools)
            for model, tools in product(simulated.models, ((), ("web", "code"), ABILITIES))
            for happening in ("", HAPPENINGS["pause"], HAPPENINGS["cut"], HAPPENINGS["look"])
        ]
        first = await simulated.ask(begun)
        threads = [outcome.usage.thread for call in begun if not isinstance(outcome := first[call.id], CallError)]
        assert len(threads) > len(begun) / 5
        others = [
            call_for("And now?", simulated.models[(n + shift) % len(simulated.models)], thread=thread)
            for shift in range(2)
            for n, thread in enumerate(threads)
        ]
        simulated.judge(others, await simulated.ask(others))

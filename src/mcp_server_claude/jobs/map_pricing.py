"""Estimates the cost of one prompt over many items: some are counted by the API, the others by their length."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from mcp_server_claude.errors import RequestError
from mcp_server_claude.files.item_sources import item_text
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.jobs import map_prompt
from mcp_server_claude.jobs.map_estimates import MapEstimates, price_items
from mcp_server_claude.jobs.map_jobs import item_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp_server_claude.call_types import Call
    from mcp_server_claude.engine.cost_estimate import CallVariant
    from mcp_server_claude.engine.engine import Engine
    from mcp_server_claude.jobs.map_jobs import MapJobs, MapRequest

MAX_COUNTED_ITEMS = 50
"""Items up to which the tokens of each are counted by the API."""
SAMPLES = 16
"""Items that are counted where there are more."""
COUNTS_AT_ONCE = 8
MAX_NAME_CHARS = 60


@frozen_dataclass()
class _MeasuredItem:
    """An item by its name, its kind (the ending of a file) and its own length, in characters or bytes."""

    name: str
    kind: str
    length: int


class MapPricing:
    """Estimates the cost of jobs with many items. Nothing is generated."""

    def __init__(self, engine: Engine, maps: MapJobs) -> None:
        self._engine = engine
        self._maps = maps

    async def estimate_items(self, request: MapRequest) -> MapEstimates:
        """The estimated cost of each item, and of all.

        Raises:
            CallError: An item cannot be sent like this.
        """
        measured = await anyio.to_thread.run_sync(self._measure, request)
        if not measured:
            raise RequestError("There are no items.")
        chosen = _choose_samples(measured)
        calls = await anyio.to_thread.run_sync(self._calls_of, request, chosen)
        alone = item_call(request.template, {"item": ""})
        base, variants = await self._count(replace(alone, prompt=alone.prompt.strip() or "."))
        counted = await self._count_all(chosen, calls)
        tokens = _tokens_of_all(measured, counted, base)
        shared = round(base * _shared_part(request.template))
        price = partial(price_items, counted=len(counted), shared_tokens=shared)
        return await anyio.to_thread.run_sync(price, variants, [each.name for each in measured], tokens)

    async def _count(self, call: Call) -> tuple[int, tuple[CallVariant, ...]]:
        counted, variants = await self._engine.count_input(await self._engine.prepare_call(call))
        return counted.tokens, variants

    async def _count_all(self, chosen: Sequence[int], calls: Sequence[Call]) -> dict[int, int]:
        """The tokens of some items by their numbers.

        Raises:
            CallError: One cannot be sent.
        """
        counted: dict[int, int] = {}
        failures: list[Exception] = []
        waiting = list(zip(chosen, calls, strict=True))

        async def count_some() -> None:
            while waiting and not failures:
                number, call = waiting.pop(0)
                try:
                    counted[number] = (await self._count(call))[0]
                except Exception as failure:  # noqa: BLE001 - raised below, alone
                    failures.append(failure)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(COUNTS_AT_ONCE, len(waiting))):
                tasks.start_soon(count_some)
        if failures:
            raise failures[0]
        return counted

    def _measure(self, request: MapRequest) -> list[_MeasuredItem]:
        template = request.template.prompt
        shortest = map_prompt.shortest_template(template)  # a long template is not copied for every item
        return [_measure_item(shortest, item) for item in self._maps.items_of(request)]

    def _calls_of(self, request: MapRequest, chosen: Sequence[int]) -> list[Call]:
        wanted = set(chosen)
        return [
            item_call(request.template, item)
            for number, item in enumerate(self._maps.items_of(request))
            if number in wanted
        ]


def _measure_item(shortest: str, item: Mapping[str, object]) -> _MeasuredItem:
    """The item without what all prompts have in common."""
    length = len(map_prompt.render_prompt(shortest, item))
    size = item.get("bytes")
    if isinstance(file := item.get("file"), str):
        return _MeasuredItem(file, PurePath(file).suffix.lower(), length + (size if isinstance(size, int) else 0))
    text = " ".join(item_text(item.get("row", item.get("item", "")))[: 2 * MAX_NAME_CHARS].split())
    return _MeasuredItem(text if len(text) <= MAX_NAME_CHARS else f"{text[: MAX_NAME_CHARS - 1]}…", "", length)


def _choose_samples(measured: Sequence[_MeasuredItem]) -> list[int]:
    """The numbers of the items to count: all of a few; else the longest of each kind, and others of every length."""
    if len(measured) <= MAX_COUNTED_ITEMS:
        return list(range(len(measured)))
    by_length = sorted(range(len(measured)), key=lambda number: measured[number].length)
    longest_of_kind = {measured[number].kind: number for number in by_length}
    chosen = dict.fromkeys(list(longest_of_kind.values())[:SAMPLES])
    step = (len(by_length) - 1) / (SAMPLES - 1)
    for place in range(SAMPLES):
        if len(chosen) < SAMPLES:
            chosen[by_length[round(place * step)]] = None
    return sorted(chosen)


def _tokens_of_all(measured: Sequence[_MeasuredItem], counted: Mapping[int, int], base: int) -> list[int]:
    """The tokens of each item: counted, or by its length and the tokens that the counted ones of its kind have."""
    rates: dict[str, float] = {}
    for kind in {measured[number].kind for number in counted}:
        rates[kind] = _rate([number for number in counted if measured[number].kind == kind], measured, counted, base)
    others = _rate(list(counted), measured, counted, base)
    return [
        counted[number] if number in counted else base + round(each.length * rates.get(each.kind, others))
        for number, each in enumerate(measured)
    ]


def _rate(numbers: Sequence[int], measured: Sequence[_MeasuredItem], counted: Mapping[int, int], base: int) -> float:
    """Tokens for each character or byte of some items."""
    length = sum(measured[number].length for number in numbers)
    return max(0, sum(counted[number] - base for number in numbers)) / length if length else 0.0


def _shared_part(template: Call) -> float:
    """The part of the template, its rules included, that the prompt cache keeps."""
    kept = map_prompt.cached_chars(template.prompt, template.system)
    return kept / max(1, len(template.system) + len(template.prompt))

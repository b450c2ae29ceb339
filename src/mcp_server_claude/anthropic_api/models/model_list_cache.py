"""The list of models, asked for once a day, kept on disk, and never waited for longer than a moment."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import anyio
import anyio.to_thread

from mcp_server_claude.anthropic_api.models.model_capabilities import entries_of, is_mapping, parse, undated
from mcp_server_claude.anthropic_api.models.model_names import Catalogue
from mcp_server_claude.errors import Failure, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anthropic import AsyncAnthropic
    from anyio.abc import TaskGroup

    from mcp_server_claude.anthropic_api.models.model_capabilities import Model

log = logging.getLogger(__name__)

DAY_S: Final = 24 * 3600.0
REST_S: Final = 60.0
"""After a failure, how long the next one is not provoked: a call should not wait for a dead gateway again and again."""

FETCH_S: Final = 30.0
PAGES: Final = 20
PAGE: Final = 1000
LIFECYCLES: Final[tuple[Literal["active", "deprecated", "retired"], ...]] = ("active", "deprecated", "retired")
"""Retired models are listed only when they are named; with them a caller can be told the successor."""

COMPLETED: Final = frozenset({"capabilities", "line", "max_input_tokens", "max_tokens"})
"""Null here means that nothing is known; elsewhere (`retires_at`) it says something."""


class Listed:
    """Holds the catalogue of a platform that has no list: our own file's, under the platform's names."""

    def __init__(
        self,
        settled: Callable[[], Awaitable[object]],
        name: Callable[[str], str],
        lacks: Callable[[str], frozenset[str]],
    ) -> None:
        self._settled = settled
        self._name = name
        self._lacks = lacks
        self._ours: Catalogue | None = None

    async def catalogue(self) -> Catalogue:
        """The models, once it is `settled` where they are asked: names depend on that."""
        with suppress(Failure):  # told by the call itself
            await self._settled()
        if self._ours is None:
            self._ours = await anyio.to_thread.run_sync(ours)
        return self._ours.on(self._name, self._lacks)


class Models:
    """Holds the catalogue. `fetch` gets the entries of the API's list and raises a `Failure` when it cannot.

    `tasks` is where a fetch goes on after its caller has stopped waiting; `origin` says whose list it is (base URL and
    the credential's source, never the key): each has its own copy in `directory`.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[object]],
        tasks: TaskGroup,
        *,
        directory: Path,
        origin: str,
        wait_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._tasks = tasks
        self._path = directory / f"models-{hashlib.sha256(origin.encode(errors='replace')).hexdigest()[:16]}.json"
        self._wait_s = wait_s
        self._clock = clock
        self._opening = anyio.Lock()
        self._ours: Catalogue | None = None
        self._theirs: Catalogue | None = None
        self._fetched = self._failed = float("-inf")
        self._flight: tuple[float, anyio.Event] | None = None

    async def catalogue(self) -> Catalogue:
        """The models: a list of today, else within `wait_s` seconds a new one, else an older one, else our own file."""
        async with self._opening:
            if self._ours is None:
                self._ours, self._theirs, self._fetched = await anyio.to_thread.run_sync(_open, self._path)
        if not self._within(self._fetched, DAY_S) and not self._within(self._failed, REST_S):
            await self._refreshed()
        return self._theirs or self._ours

    def _within(self, moment: float, seconds: float) -> bool:
        return 0 <= self._clock() - moment < seconds

    async def _refreshed(self) -> None:
        """Wait for the fetch that is under way, or begin one; in all it is waited for `wait_s` after its start."""
        if self._flight is None:
            self._flight = (anyio.current_time() + self._wait_s, anyio.Event())
            self._tasks.start_soon(self._refresh, self._flight[1], name="models")
        until, landed = self._flight
        with anyio.CancelScope(deadline=until):
            await landed.wait()

    async def _refresh(self, landed: anyio.Event) -> None:
        try:
            entries = entries_of(await self._fetch())
            now = self._clock()
            self._theirs = await anyio.to_thread.run_sync(_take, self._path, entries, now)
            if self._theirs:
                self._fetched = now
            else:  # another kind of API answers there now: its names are its own
                self._fetched, self._failed = float("-inf"), now
        except Failure as failure:
            log.info("The list of models was not to be had (%s).", failure.kind)
            self._failed = self._clock()
        finally:
            self._flight = None
            landed.set()


async def fetch_with(client: AsyncAnthropic) -> list[object]:
    """The entries of `GET /v1/models`, retired models too, as they came; none when the answer is no list of models.

    Raises:
        Unavailable: Whatever the reason; the platform may have no such list (Bedrock, Vertex and Foundry have none).
    """
    from anthropic import omit

    entries: list[object] = []
    after = ""
    try:
        models = client.with_options(max_retries=0, timeout=FETCH_S).models.with_raw_response
        for _ in range(PAGES):
            response = await models.list(limit=PAGE, lifecycle=list(LIFECYCLES), after_id=after or omit)
            page: object = await response.json()
            entries += entries_of(page)
            last = page.get("last_id") if is_mapping(page) and page.get("has_more") is True else None
            if not isinstance(last, str) or not last or last == after:
                break
            after = last
    except Exception as error:  # noqa: BLE001 - our file serves, whatever ails the list; the SDK's errors may hold a key
        raise Unavailable(
            f"The list of models could not be read ({type(error).__name__}).", kind="models_unavailable"
        ) from None
    return entries


def ours() -> Catalogue:
    """The models as our data file has them, for where no list is to be had."""
    listed = _file()
    return Catalogue.of(parse(listed["models"]) or (), "file", str(listed["as_of"]))


def _file() -> Mapping[str, object]:
    listed: object = json.loads((resources.files("mcp_server_claude") / "data" / "models.json").read_bytes())
    assert is_mapping(listed)  # noqa: S101 - it is ours, and tested
    return listed


def _open(path: Path) -> tuple[Catalogue, Catalogue | None, float]:
    """Our own file, the copy on disk where it can be read, and when that was fetched."""
    try:
        kept: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        kept = None
    fetched = kept.get("fetched_at") if is_mapping(kept) else None
    if not is_mapping(kept) or not isinstance(fetched, int | float) or isinstance(fetched, bool):
        return ours(), None, float("-inf")
    models, day = _parsed(entries_of(kept)), _day(fetched)
    if models is None or day is None:
        return ours(), None, float("-inf")
    return ours(), Catalogue.of(models, "disk", day), float(fetched)


def _take(path: Path, entries: list[Mapping[str, object]], now: float) -> Catalogue | None:
    """The catalogue of what the API listed, kept on disk too; of another kind of API None, and nothing is kept."""
    models = _parsed(entries)
    try:
        if models is None:
            path.unlink(missing_ok=True)
            return None
        _write(path, json.dumps({"fetched_at": now, "data": entries}))
    except (OSError, ValueError) as error:
        log.info("The list of models was not kept on disk (%s).", type(error).__name__)
    return Catalogue.of(models, "api", _day(now) or "") if models else None


def _parsed(entries: list[Mapping[str, object]]) -> list[Model] | None:
    """The models of a list; what a gateway leaves unsaid of one that our file knows is completed from there."""
    known = {alias: entry for entry in entries_of(_file()["models"]) for alias in _names(entry)}
    listed = [entry for entry in entries if parse([entry])]
    return parse([_completed(entry, known.get(str(entry["id"]), {})) for entry in listed])


def _names(entry: Mapping[str, object]) -> set[str]:
    return {str(entry["id"]), undated(str(entry["id"]))}


def _completed(entry: Mapping[str, object], known: Mapping[str, object]) -> Mapping[str, object]:
    said = {key: value for key, value in entry.items() if value is not None or key not in COMPLETED}
    return {**known, **said}


def _day(moment: float) -> str | None:
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
    except (OverflowError, OSError, ValueError):
        return None


def _write(path: Path, text: str) -> None:
    """Put `text` there at once or not at all, for the owner's eyes only (`mkstemp` makes files 0600)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".models-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

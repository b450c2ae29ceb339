"""The list of models: fetched once a day, cached on disk, and never waited for longer than a moment."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import anyio
import anyio.to_thread

from mcp_server_claude.anthropic_api.models.model_capabilities import (
    is_json_object,
    model_entries,
    parse_model_list,
    without_date,
)
from mcp_server_claude.anthropic_api.models.model_names import ModelCatalog
from mcp_server_claude.errors import CallError, TemporaryError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from anthropic import AsyncAnthropic
    from anyio.abc import TaskGroup

    from mcp_server_claude.anthropic_api.models.model_capabilities import ClaudeModel

log = logging.getLogger(__name__)

CACHE_TTL_S: Final = 24 * 3600.0
RETRY_INTERVAL_S: Final = 60.0
"""Seconds after a failed fetch before the next: calls should not wait for a dead gateway again and again."""

FETCH_TIMEOUT_S: Final = 30.0
"""Seconds without a byte after which a request for the list counts as broken."""
TOTAL_FETCH_TIMEOUT_S: Final = 60.0
"""Seconds for all pages of the list, however slowly they trickle in."""
MAX_PAGES: Final = 20
PAGE_SIZE: Final = 1000
LIFECYCLES: Final[tuple[Literal["active", "deprecated", "retired"], ...]] = ("active", "deprecated", "retired")
"""The API lists retired models only when asked; they are needed to name a retired model's successor."""

NULL_IS_UNKNOWN: Final = frozenset({"capabilities", "line", "max_input_tokens", "max_tokens"})
"""Fields in which null means "unknown". In others, such as `retires_at`, null is a value."""


class StaticModelList:
    """The catalog of a platform that has no list of models: the bundled list, under the platform's ids."""

    def __init__(
        self,
        find_platform: Callable[[], Awaitable[object]],
        platform_model_id: Callable[[str], str],
        unsupported_for: Callable[[str], frozenset[str]],
    ) -> None:
        self._find_platform = find_platform
        self._platform_model_id = platform_model_id
        self._unsupported_for = unsupported_for
        self._bundled: ModelCatalog | None = None

    async def get_catalog(self) -> ModelCatalog:
        """The models. `find_platform` is awaited first, since the ids depend on the region."""
        with suppress(CallError):  # the call itself will report it
            await self._find_platform()
        if self._bundled is None:
            self._bundled = await anyio.to_thread.run_sync(bundled_catalog)
        return self._bundled.for_platform(self._platform_model_id, self._unsupported_for)


class ModelListCache:
    """The catalog of models, refreshed from the API.

    `fetch` returns the entries of the API's list or raises a `CallError`. It runs in `task_group`, where it continues
    after its caller has stopped waiting. `origin` identifies the list (base URL and the credential's source, never the
    key): each has its own copy in `directory`. It is called on a thread, since it may import the SDK. `wait_s` is the
    time that a call waits for a fetch at most.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[object]],
        task_group: TaskGroup,
        *,
        directory: Path,
        origin: Callable[[], str],
        wait_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._task_group = task_group
        self._directory = directory
        self._origin = origin
        self._wait_s = wait_s
        self._clock = clock
        self._load_lock = anyio.Lock()
        self._bundled: ModelCatalog | None = None
        self._listed_by_api: ModelCatalog | None = None
        self._fetched_at = self._failed_at = float("-inf")
        self._pending_fetch: tuple[float, anyio.Event] | None = None

    async def get_catalog(self) -> ModelCatalog:
        """The models: a list of today; else, within `wait_s` seconds, a new one; else an older or the bundled one."""
        bundled = self._bundled or await self._load_lists()
        if not self._is_within(self._fetched_at, CACHE_TTL_S) and not self._is_within(
            self._failed_at, RETRY_INTERVAL_S
        ):
            await self._wait_for_refresh()
        if self._listed_by_api is not None:
            return self._listed_by_api
        # Nobody refreshes the bundled list, so that its models retire by its dates.
        return bundled.on_day(datetime.fromtimestamp(self._clock(), UTC).date())

    async def _load_lists(self) -> ModelCatalog:
        """The bundled list, loaded with that on disk at the first call."""
        async with self._load_lock:
            if self._bundled is None:
                self._bundled, self._listed_by_api, self._fetched_at = await anyio.to_thread.run_sync(
                    lambda: _load_catalogs(self._path)
                )
            return self._bundled

    @cached_property
    def _path(self) -> Path:
        """The file with the copy of the list."""
        digest = hashlib.sha256(self._origin().encode(errors="replace")).hexdigest()
        return self._directory / f"models-{digest[:16]}.json"

    def _is_within(self, moment: float, seconds: float) -> bool:
        return 0 <= self._clock() - moment < seconds

    async def _wait_for_refresh(self) -> None:
        """Wait for the pending fetch, or start one, until `wait_s` after its start."""
        if self._pending_fetch is None:
            self._pending_fetch = (anyio.current_time() + self._wait_s, anyio.Event())
            self._task_group.start_soon(self._refresh, self._pending_fetch[1], name="models")
        until, landed = self._pending_fetch
        with anyio.CancelScope(deadline=until):
            await landed.wait()

    async def _refresh(self, finished: anyio.Event) -> None:
        try:
            with anyio.fail_after(TOTAL_FETCH_TIMEOUT_S):
                entries = model_entries(await self._fetch())
            now = self._clock()
            self._listed_by_api = await anyio.to_thread.run_sync(_parse_and_save, self._path, entries, now)
            if self._listed_by_api:
                self._fetched_at = now
            else:  # another kind of API answers there now, with names of its own
                self._fetched_at, self._failed_at = float("-inf"), now
        except (CallError, OSError) as error:  # a timeout; or our own file, where no descriptor is left
            reason = getattr(error, "kind", type(error).__name__)
            log.info("The list of models could not be fetched (%s).", reason)
            self._failed_at = self._clock()
        finally:
            self._pending_fetch = None
            finished.set()


async def fetch_model_list(client: AsyncAnthropic) -> list[object]:
    """The entries of `GET /v1/models`, retired models included; empty when the response is not a list of models.

    Raises:
        TemporaryError: The request failed for any reason. Bedrock, Vertex and Foundry have no such list.
    """
    from anthropic import omit

    entries: list[object] = []
    after = ""
    try:
        models = client.with_options(max_retries=0, timeout=FETCH_TIMEOUT_S).models.with_raw_response
        for _ in range(MAX_PAGES):
            response = await models.list(limit=PAGE_SIZE, lifecycle=list(LIFECYCLES), after_id=after or omit)
            page: object = await response.json()
            entries += model_entries(page)
            last = page.get("last_id") if is_json_object(page) and page.get("has_more") is True else None
            if not isinstance(last, str) or not last or last == after:
                break
            after = last
    except Exception as error:  # noqa: BLE001 - the bundled list serves instead; the SDK's errors may hold a key
        raise TemporaryError(
            f"The list of models could not be read ({type(error).__name__}).", kind="models_unavailable"
        ) from None
    return entries


def bundled_catalog() -> ModelCatalog:
    """The models of the bundled data file, for use where the API gives no list."""
    listed = _bundled_list()
    return ModelCatalog.newest_first(parse_model_list(listed["models"]) or (), "file", str(listed["as_of"]))


def stored_catalog(directory: Path) -> ModelCatalog:
    """The newest list of models on disk, whichever API it came from, or the bundled one. Nothing is requested."""
    paths = {path: path.stat().st_mtime for path in directory.glob("models-*.json")}
    if paths and (listed := _load_catalogs(max(paths, key=paths.__getitem__))[1]):
        return listed
    return bundled_catalog().on_day(datetime.now(UTC).date())


def _bundled_list() -> Mapping[str, object]:
    listed: object = json.loads((resources.files("mcp_server_claude") / "data" / "models.json").read_bytes())
    assert is_json_object(listed)  # noqa: S101 - it is ours, and tested
    return listed


def _load_catalogs(path: Path) -> tuple[ModelCatalog, ModelCatalog | None, float]:
    """Our own file, the copy on disk where it can be read, and when that was fetched."""
    try:
        saved: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        saved = None
    fetched = saved.get("fetched_at") if is_json_object(saved) else None
    if not is_json_object(saved) or not isinstance(fetched, int | float) or isinstance(fetched, bool):
        return bundled_catalog(), None, float("-inf")
    models, day = _parse_with_defaults(model_entries(saved)), _utc_date(fetched)
    if models is None or day is None:
        return bundled_catalog(), None, float("-inf")
    return bundled_catalog(), ModelCatalog.newest_first(models, "disk", day), float(fetched)


def _parse_and_save(path: Path, entries: list[Mapping[str, object]], now: float) -> ModelCatalog | None:
    """The catalogue of what the API listed, kept on disk too; of another kind of API None, and nothing is kept."""
    models = _parse_with_defaults(entries)
    try:
        if models is None:
            path.unlink(missing_ok=True)
            return None
        _write_atomically(path, json.dumps({"fetched_at": now, "data": entries}))
    except (OSError, ValueError) as error:
        log.info("The list of models was not kept on disk (%s).", type(error).__name__)
    return ModelCatalog.newest_first(models, "api", _utc_date(now) or "") if models else None


def _parse_with_defaults(entries: list[Mapping[str, object]]) -> list[ClaudeModel] | None:
    """The models of a list. Fields that a gateway leaves out are taken from the bundled list, if it knows the model."""
    known = {alias: entry for entry in model_entries(_bundled_list()["models"]) for alias in _id_variants(entry)}
    listed = [entry for entry in entries if parse_model_list([entry])]
    return parse_model_list([_with_defaults(entry, known.get(str(entry["id"]), {})) for entry in listed])


def _id_variants(entry: Mapping[str, object]) -> set[str]:
    return {str(entry["id"]), without_date(str(entry["id"]))}


def _with_defaults(entry: Mapping[str, object], known: Mapping[str, object]) -> Mapping[str, object]:
    stated = {key: value for key, value in entry.items() if value is not None or key not in NULL_IS_UNKNOWN}
    return {**known, **stated}


def _utc_date(moment: float) -> str | None:
    try:
        return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
    except (OverflowError, OSError, ValueError):
        return None


def _write_atomically(path: Path, text: str) -> None:
    """Replace the file atomically; only its owner can read it (`mkstemp` makes files 0600)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".models-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

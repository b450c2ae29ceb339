from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import ModelCapabilities, ModelInfo, ModelLine
from hypothesis import given
from hypothesis import strategies as st

from mcp_server_claude.anthropic_api.models import (
    EFFORT_LEVELS,
    CatalogSource,
    ClaudeModel,
    ModelCatalog,
    ModelListCache,
    check_model_accepts,
    fetch_model_list,
    parse_model_list,
)
from mcp_server_claude.anthropic_api.models.model_list_cache import (
    CACHE_TTL_S,
    RETRY_INTERVAL_S,
    bundled_catalog,
    stored_catalog,
)
from mcp_server_claude.errors import RequestError, TemporaryError

if TYPE_CHECKING:
    from pathlib import Path

FILE: dict[str, Any] = json.loads((resources.files("mcp_server_claude") / "data" / "models.json").read_bytes())
ENTRIES: list[dict[str, Any]] = FILE["models"]
OPENAI = {"object": "list", "data": [{"id": "llama-4", "object": "model", "created": 1, "owned_by": "me"}]}
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")


def entry(name: str, **fields: object) -> dict[str, object]:
    plain = {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-01-01T00:00:00Z"}
    return {**plain, **fields}


def one(**fields: object) -> ClaudeModel:
    models = parse_model_list([entry("claude-x", **fields)])
    assert models
    return models[0]


def catalogue(source: CatalogSource = "api", *extra: dict[str, object]) -> ModelCatalog:
    return ModelCatalog.newest_first(parse_model_list([*ENTRIES, *extra]) or [], source, "2026-11-20")


# What the data file says


def test_the_data_file_is_read_whole_and_has_the_shape_of_the_api() -> None:
    assert len(bundled_catalog().models) == len(ENTRIES) == 19
    assert (bundled_catalog().source, bundled_catalog().as_of) == ("file", FILE["as_of"])
    for each in ENTRIES:
        assert set(each) == set(ModelInfo.model_fields)
        assert set(each["capabilities"]) < set(ModelCapabilities.model_fields)
        assert each["line"] in get_args(ModelLine)


@pytest.mark.parametrize(
    ("line", "newest"),
    [
        ("opus", "claude-opus-5-5"),
        ("sonnet", "claude-sonnet-5-5"),
        ("haiku", "claude-haiku-5-5"),
        ("fable", "claude-fable-5-2"),
    ],
)
def test_a_family_means_its_newest_active_model(line: str, newest: str) -> None:
    assert catalogue().resolve_model(line).id == newest
    assert catalogue().resolve_model(f" {line.upper()} ").id == newest


def test_only_models_up_to_4_5_continue_a_prefill() -> None:
    assert {each.id for each in bundled_catalog().models if each.accepts_prefill} == {
        "claude-opus-4-5-20251101",
        "claude-sonnet-4-5-20250929",
        "claude-haiku-4-5-20251001",
    }


def test_a_model_whose_thinking_cannot_be_switched_off_takes_no_forced_tool() -> None:
    thinkers = {each.id for each in bundled_catalog().models if not each.accepts_forced_tool}
    always = {each.id for each in bundled_catalog().models if each.line in {"fable", "mythos"}}
    assert thinkers == {"claude-opus-5-5", "claude-sonnet-5-5"} | always


def test_code_of_models_since_4_6_calls_other_tools_by_the_data_file() -> None:
    assert {each.id for each in bundled_catalog().models if not each.programmatic} == {
        "claude-opus-4-5-20251101",
        "claude-sonnet-4-5-20250929",
        "claude-haiku-4-5-20251001",
    }


def test_the_retirements_of_the_data_file_are_those_of_the_documents() -> None:
    retiring = {each.id: f"{each.retires_on}" for each in bundled_catalog().models if each.lifecycle == "deprecated"}
    assert retiring == {"claude-opus-4-5-20251101": "2027-01-22", "claude-sonnet-4-5-20250929": "2026-11-30"}


# What the API says


def test_an_entry_is_read_as_the_api_describes_it() -> None:
    model = one(
        line="opus",
        lifecycle="deprecated",
        created_at="2026-09-22T10:00:00Z",
        retires_at="2027-01-31T00:00:00Z",
        max_input_tokens=1_000_000,
        max_tokens=128_000,
        capabilities={
            "effort": {"supported": True, "high": {"supported": True}, "low": {"supported": True}, "max": None},
            "thinking": {
                "supported": True,
                "types": {"adaptive": {"supported": True}, "enabled": {"supported": False}},
            },
            "image_input": {"supported": False},
            "server_tools": {"supported": True, "web_search": {"supported": False}},
        },
    )
    assert (model.line, model.lifecycle, model.created_on) == ("opus", "deprecated", date(2026, 9, 22))
    assert (model.context_tokens, model.max_output_tokens, model.efforts) == (1_000_000, 128_000, ("low", "high"))
    assert (model.thinking_types, model.accepts_forced_tool, model.accepts_prefill) == (
        frozenset({"adaptive"}),
        False,
        False,
    )
    assert (model.images, model.web_search, model.code_execution, model.pdf) == (False, False, True, True)
    assert model.lifecycle_note == "claude-x is deprecated and retires 2027-01-31."


@pytest.mark.parametrize("capabilities", [None, {}, "yes", {"effort": None, "thinking": []}])
def test_an_entry_without_capabilities_allows_everything(capabilities: object) -> None:
    model = one(capabilities=capabilities, max_tokens=None)
    assert (model.efforts, model.images, model.structured_outputs, model.batch) == (EFFORT_LEVELS, True, True, True)
    assert (model.accepts_forced_tool, model.accepts_prefill, model.max_output_tokens, model.max_tokens_for()) == (
        True,
        False,
        0,
        16_000,
    )
    assert (model.created_on, model.lifecycle_note) == (date(2026, 1, 1), "")


def test_a_part_is_not_supported_when_the_whole_is_not() -> None:
    model = one(
        capabilities={
            "effort": {"supported": False, "low": {"supported": True}},
            "server_tools": {"supported": False, "web_search": {"supported": True}},
        }
    )
    assert (model.efforts, model.web_search, model.code_execution) == ((), False, False)


def test_unknown_capabilities_and_efforts_are_preserved() -> None:
    model = one(
        capabilities={
            "telepathy": {"supported": True, "range_km": 3},
            "effort": {"supported": True, "ultra": {"supported": True}, "max": {"supported": True}},
            "thinking": {"supported": True, "types": {"dreaming": {"supported": True}}},
        }
    )
    assert (model.efforts, model.thinking_types) == (("max", "ultra"), frozenset({"dreaming"}))


def test_the_requested_max_tokens_are_sent_and_by_default_the_limit_of_the_model() -> None:
    assert (one(max_tokens=64_000).max_tokens_for(), one(max_tokens=64_000).max_tokens_for(500)) == (64_000, 500)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "",
        "<html><body>Sign in</body></html>",
        b"\x00",
        42,
        [],
        {},
        {"data": []},
        {"data": None},
        {"data": "claude"},
        {"models": ENTRIES},
        OPENAI,
        {"data": [{"id": "claude-x", "type": "model"}]},
        {"data": [{"id": 5, "type": "model", "display_name": "Five"}]},
        {"data": [entry("claude\nx"), entry(""), entry("x" * 500), entry("claude-\ud800")]},
    ],
)
def test_a_list_of_another_shape_is_no_list(raw: object) -> None:
    assert parse_model_list(raw) is None


def test_one_bad_entry_does_not_lose_the_others() -> None:
    models = parse_model_list(
        {"data": [entry("claude-a"), {"id": "b"}, 7, entry("claude-a", line="opus"), entry("claude-c")]}
    )
    assert models
    assert [each.id for each in models] == ["claude-a", "claude-c"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_parse_takes_any_json(raw: object) -> None:
    assert parse_model_list(raw) is None


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "lifecycle": json_values,
            "line": json_values,
            "created_at": json_values | st.text(alphabet="0123456789-", min_size=10, max_size=10),
            "retires_at": json_values,
            "max_tokens": json_values,
            "max_input_tokens": json_values,
            "capabilities": json_values
            | st.dictionaries(st.sampled_from(["effort", "thinking", "server_tools", "batch"]), json_values),
        },
    )
)
def test_an_entry_with_any_values_is_still_a_model(fields: Mapping[str, object]) -> None:
    assert one(**fields).id == "claude-x"


# What a name means


def test_an_exact_id_an_alias_and_no_name_at_all() -> None:
    models = catalogue()
    assert models.resolve_model("claude-opus-4-8").id == "claude-opus-4-8"
    assert models.resolve_model("claude-haiku-4-5").id == "claude-haiku-4-5-20251001"
    assert models.resolve_model(" Claude-Haiku-4-5-20251001\n").id == "claude-haiku-4-5-20251001"
    assert models.resolve_model("").id == "claude-sonnet-5-5"
    assert models.resolve_model("  ", default="opus").id == "claude-opus-5-5"


def test_an_alias_means_the_newest_snapshot() -> None:
    models = catalogue(
        "api",
        entry("claude-next-20270101", created_at="2027-01-01T00:00:00Z"),
        entry("claude-next-20270301", created_at="2027-03-01T00:00:00Z"),
    )
    assert models.resolve_model("claude-next").id == "claude-next-20270301"


def test_a_deprecated_model_is_allowed_with_a_note_and_never_chosen_by_its_family() -> None:
    assert catalogue().resolve_model("claude-sonnet-4-5").lifecycle_note == (
        "claude-sonnet-4-5-20250929 is deprecated and retires 2026-11-30."
    )
    newer = entry("claude-opus-7", line="opus", lifecycle="deprecated", created_at="2027-01-01T00:00:00Z")
    assert catalogue("api", newer).resolve_model("opus").id == "claude-opus-5-5"


def test_a_family_without_an_active_model_means_its_newest_deprecated_one() -> None:
    old = entry("claude-ode-1", line="ode", lifecycle="deprecated")
    assert catalogue("api", old).resolve_model("ode").id == "claude-ode-1"


@pytest.mark.parametrize("source", ["api", "disk"])
def test_an_unknown_name_is_rejected_with_the_nearest_one(source: CatalogSource) -> None:
    with pytest.raises(RequestError) as refused:
        catalogue(source).resolve_model("claude-opus-5.5")
    assert str(refused.value).startswith("There is no model named 'claude-opus-5.5'; nearest: claude-opus-5-5, ")
    with pytest.raises(RequestError, match="nearest: haiku"):
        catalogue(source).resolve_model("hiku")


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("opüs", "'opüs'"),
        ("opu\u0308s", "'opüs'"),
        ("クロード", "'クロード'"),
        ("क्लॉड", "'क्लॉड'"),
        ("ที่", "'ที่'"),
        ("a b\u202ec\ufe0fd\U000e0141", "'a?b?c?d?'"),
    ],
)
def test_a_name_in_another_script_is_quoted_as_it_was_typed(name: str, quoted: str) -> None:
    with pytest.raises(RequestError) as refused:
        catalogue("api").resolve_model(name)
    assert str(refused.value).startswith(f"There is no model named {quoted}; ")


def test_a_name_without_a_near_match_is_rejected_with_the_families() -> None:
    with pytest.raises(RequestError, match="there are fable, mythos, haiku, sonnet, opus"):
        catalogue().resolve_model("gpt-6")


def test_an_unknown_default_model_is_reported_as_a_configuration_error() -> None:
    with pytest.raises(RequestError, match=r"'sonet' \(the default, MCP_CLAUDE_MODEL\); nearest: sonnet"):
        catalogue().resolve_model("", default="sonet")


def test_a_retired_model_is_rejected_with_its_successor() -> None:
    with pytest.raises(RequestError) as refused:
        catalogue().resolve_model("claude-mythos-preview")
    assert str(refused.value) == ("claude-mythos-preview was retired 2026-06-30. Its successor is claude-mythos-5-2.")


def test_a_rejection_repeats_no_long_or_strange_value() -> None:
    with pytest.raises(RequestError) as refused:
        catalogue().resolve_model("https://evil.example/\x1b[31m" + "x" * 10_000)
    assert "://" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_gateways_names_are_passed_on_and_known_ones_keep_their_capabilities() -> None:
    models = catalogue("file")
    passed = models.resolve_model("bedrock/eu.anthropic.claude-v9:0")
    assert (passed.id, passed.is_listed, passed.efforts) == ("bedrock/eu.anthropic.claude-v9:0", False, EFFORT_LEVELS)
    assert models.resolve_model("claude-haiku-4-5").efforts == ()
    assert (
        models.resolve_model("claude-mythos-preview").lifecycle_note == "claude-mythos-preview was retired 2026-06-30."
    )


@given(st.text(), st.text(), st.sampled_from(["api", "disk", "file"]))
def test_resolve_returns_a_model_or_rejects_the_name(name: str, default: str, source: CatalogSource) -> None:
    try:
        text = catalogue(source).resolve_model(name, default).id
    except RequestError as refused:
        text = str(refused)
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize(
    "name", ["claude-sonnet-4-20250514", "anthropic/claude-sonnet-4-20250514", "claude-3-7-sonnet-20250219"]
)
def test_the_only_sonnet_of_a_gateway_is_the_default_however_its_id_is_written(name: str) -> None:
    catalog = ModelCatalog.newest_first(parse_model_list([entry(name)]) or [], "api", "2026-11-20")
    assert catalog.resolve_model("").id == catalog.resolve_model("sonnet").id == name


def test_a_list_without_a_sonnet_names_the_setting_of_the_default() -> None:
    catalog = ModelCatalog.newest_first(parse_model_list([entry("claude-haiku-4-5")]) or [], "api", "2026-11-20")
    with pytest.raises(RequestError, match=r"'sonnet'.*MCP_CLAUDE_MODEL.*there are haiku"):
        catalog.resolve_model("")


@given(st.text())
def test_an_empty_list_rejects_every_name(name: str) -> None:
    with pytest.raises(RequestError):
        ModelCatalog.newest_first([], "api", "2026-11-20").resolve_model(name)


def test_the_menu_is_newest_first_and_without_the_retired() -> None:
    menu = catalogue().callable_ids()
    assert menu[:2] == ("claude-fable-5-2", "claude-mythos-5-2")
    assert menu[-1] == "claude-sonnet-4-5-20250929"
    assert "claude-mythos-preview" not in menu


# What a model takes


def test_a_request_beyond_the_model_is_rejected_with_what_the_model_supports() -> None:
    models = catalogue()
    with pytest.raises(RequestError, match=r"^claude-haiku-4-5-20251001 does not support effort\.$"):
        check_model_accepts(models.resolve_model("claude-haiku-4-5"), effort="low", max_tokens=0)
    with pytest.raises(RequestError, match=r"^claude-opus-4-6 supports effort low, medium, high or max\.$"):
        check_model_accepts(models.resolve_model("claude-opus-4-6"), effort="xhigh", max_tokens=0)
    with pytest.raises(
        RequestError, match=r"^claude-sonnet-4-6 writes at most 64,000 tokens; max_tokens was 100,000\.$"
    ):
        check_model_accepts(models.resolve_model("claude-sonnet-4-6"), effort="", max_tokens=100_000)


def test_a_request_within_the_capabilities_of_the_model_is_admitted() -> None:
    for model in bundled_catalog().models:
        check_model_accepts(model, effort="", max_tokens=model.max_output_tokens)
        for effort in model.efforts:
            check_model_accepts(model, effort=effort, max_tokens=0)


def test_a_model_that_is_only_passed_on_rejects_nothing() -> None:
    check_model_accepts(ClaudeModel(id="mine", is_listed=False), effort="ultra", max_tokens=10**9)


# Where the list comes from


class Upstream:
    """A list of models that counts how often it was asked for, and can be held back or fail."""

    def __init__(self, answer: object = None) -> None:
        self.answer: object = [entry("claude-live", line="opus", max_tokens=9)] if answer is None else answer
        self.request_count = 0
        self.open = anyio.Event()
        self.open.set()

    async def __call__(self) -> object:
        self.request_count += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


DOWN = TemporaryError("It is down.", kind="models_unavailable")
DAY_1 = 1_795_000_000.0  # 2026-11-18


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., ModelListCache]:
    def build_models(
        upstream: Upstream,
        tasks: anyio.abc.TaskGroup,
        *,
        now: float = DAY_1,
        wait_s: float = 60,
        origin: str = "https://api.anthropic.com ANTHROPIC_API_KEY",
        clock: Callable[[], float] | None = None,
    ) -> ModelListCache:
        directory = tmp_path / "data"
        return ModelListCache(
            upstream, tasks, directory=directory, origin=lambda: origin, wait_s=wait_s, clock=clock or (lambda: now)
        )

    return build_models


Make = Callable[..., ModelListCache]


@pytest.mark.anyio
async def test_the_list_is_fetched_once_and_saved_for_the_next_process(make: Make, tmp_path: Path) -> None:
    upstream = Upstream()
    async with anyio.create_task_group() as tasks:
        models = make(upstream, tasks)
        first = await models.get_catalog()
        assert (first.source, first.as_of, first.callable_ids()) == ("api", "2026-11-18", ("claude-live",))
        assert await models.get_catalog() is first
        later = await make(upstream, tasks, now=DAY_1 + CACHE_TTL_S - 1).get_catalog()
        assert (later.source, later.as_of, later.models) == ("disk", "2026-11-18", first.models)
        assert upstream.request_count == 1
        assert [path.name[:7] for path in (tmp_path / "data").iterdir()] == ["models-"]


@POSIX
@pytest.mark.anyio
async def test_the_copy_on_disk_is_for_the_owner_alone(make: Make, tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        await make(Upstream(), tasks).get_catalog()
    [copy] = (tmp_path / "data").iterdir()
    assert (stat.S_IMODE(copy.stat().st_mode), stat.S_IMODE(copy.parent.stat().st_mode)) == (0o600, 0o700)


@pytest.mark.anyio
async def test_the_list_is_fetched_again_after_a_day(make: Make) -> None:
    upstream, now = Upstream(), [DAY_1]
    async with anyio.create_task_group() as tasks:
        models = make(upstream, tasks, clock=lambda: now[0])
        await models.get_catalog()
        now[0] += CACHE_TTL_S
        upstream.answer = [entry("claude-newer")]
        assert (await models.get_catalog()).callable_ids() == ("claude-newer",)
    assert upstream.request_count == 2


@pytest.mark.anyio
async def test_each_gateway_and_credential_has_a_copy_of_its_own(make: Make) -> None:
    upstream = Upstream()
    async with anyio.create_task_group() as tasks:
        await make(upstream, tasks).get_catalog()
        await make(upstream, tasks, origin="https://gateway.example MCP_CLAUDE_API_KEY").get_catalog()
    assert upstream.request_count == 2


@pytest.mark.anyio
async def test_twelve_callers_make_one_request(make: Make) -> None:
    upstream, found = Upstream(), list[ModelCatalog]()
    upstream.open = anyio.Event()
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as callers:
        models = make(upstream, tasks)

        async def call() -> None:
            found.append(await models.get_catalog())

        for _ in range(12):
            callers.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        upstream.open.set()
    assert upstream.request_count == 1
    assert [each.source for each in found] == ["api"] * 12


@pytest.mark.anyio
async def test_a_call_does_not_wait_for_a_slow_list_and_the_next_one_has_it(make: Make) -> None:
    upstream = Upstream()
    upstream.open = anyio.Event()
    tasks = anyio.create_task_group()
    models = make(upstream, tasks, wait_s=0)
    async with tasks:
        assert (await models.get_catalog()).source == "file"
        assert (await models.get_catalog()).source == "file"
        upstream.open.set()
    assert (await models.get_catalog()).source == "api"
    assert upstream.request_count == 1


@pytest.mark.anyio
async def test_a_cancelled_caller_does_not_end_the_request_of_the_others(make: Make) -> None:
    upstream = Upstream()
    upstream.open = anyio.Event()
    tasks = anyio.create_task_group()
    models = make(upstream, tasks)
    async with tasks:
        async with anyio.create_task_group() as impatient:
            impatient.start_soon(models.get_catalog)
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
        upstream.open.set()
        assert (await models.get_catalog()).source == "api"
    assert (await models.get_catalog()).source == "api"


@pytest.mark.anyio
async def test_an_older_copy_serves_while_the_list_cannot_be_fetched_and_else_the_bundled_file(make: Make) -> None:
    upstream = Upstream(DOWN)
    async with anyio.create_task_group() as tasks:
        assert (await make(upstream, tasks).get_catalog()).source == "file"
        await make(Upstream(), tasks).get_catalog()
        old = await make(upstream, tasks, now=DAY_1 + 9 * CACHE_TTL_S).get_catalog()
        assert (old.source, old.as_of, old.callable_ids()) == ("disk", "2026-11-18", ("claude-live",))


@pytest.mark.anyio
async def test_the_newest_copy_is_read_without_a_request(make: Make, tmp_path: Path) -> None:
    assert stored_catalog(tmp_path).source == "file"
    async with anyio.create_task_group() as tasks:
        await make(Upstream(), tasks).get_catalog()
    damaged = tmp_path / "data" / "models-0.json"
    damaged.write_text("{")
    os.utime(damaged, (0, 0))
    stored = stored_catalog(damaged.parent)
    assert (stored.source, stored.callable_ids()) == ("disk", ("claude-live",))


@pytest.mark.anyio
async def test_a_failed_fetch_is_not_repeated_at_once(make: Make) -> None:
    upstream, now = Upstream(DOWN), [DAY_1]
    async with anyio.create_task_group() as tasks:
        models = make(upstream, tasks, clock=lambda: now[0])
        for _ in range(3):
            assert (await models.get_catalog()).source == "file"
        assert upstream.request_count == 1
        now[0] += RETRY_INTERVAL_S
        upstream.answer = [entry("claude-back")]
        assert (await models.get_catalog()).callable_ids() == ("claude-back",)


@pytest.mark.parametrize("answer", [[], {}, "<html>", OPENAI, [{"id": "x"}], {"data": None}])
@pytest.mark.anyio
async def test_a_list_of_another_kind_passes_names_on(make: Make, tmp_path: Path, answer: object) -> None:
    async with anyio.create_task_group() as tasks:
        await make(Upstream(), tasks).get_catalog()
        found = await make(Upstream(answer), tasks, now=DAY_1 + CACHE_TTL_S).get_catalog()
        assert found.source == "file"
        assert found.resolve_model("llama-4") == ClaudeModel(id="llama-4", is_listed=False)
        assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"fetched_at": "today", "data": []}',
        '{"fetched_at": 1e999, "data": [{"type": "model", "id": "a", "display_name": "A"}]}',
        '{"fetched_at": NaN, "data": [{"type": "model", "id": "a", "display_name": "A"}]}',
        f'{{"fetched_at": {DAY_1}, "data": [{{"id": "gpt"}}]}}',
        "\ud800",
    ],
)
@pytest.mark.anyio
async def test_a_damaged_copy_is_ignored(make: Make, tmp_path: Path, text: str) -> None:
    async with anyio.create_task_group() as tasks:
        await make(Upstream(), tasks).get_catalog()
        [copy] = (tmp_path / "data").iterdir()
        copy.write_bytes(text.encode(errors="surrogatepass"))
        assert (await make(Upstream(DOWN), tasks).get_catalog()).source == "file"
        assert (await make(Upstream(), tasks).get_catalog()).source == "api"


@pytest.mark.anyio
async def test_a_copy_from_the_future_is_not_trusted_for_long(make: Make) -> None:
    upstream = Upstream()
    async with anyio.create_task_group() as tasks:
        await make(upstream, tasks, now=DAY_1 + 90 * CACHE_TTL_S).get_catalog()
        await make(upstream, tasks, now=DAY_1).get_catalog()
    assert upstream.request_count == 2


@pytest.mark.anyio
async def test_an_unwritable_directory_costs_only_the_copy(make: Make, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a directory should be")
    async with anyio.create_task_group() as tasks:
        assert (await make(Upstream(), tasks).get_catalog()).source == "api"


@pytest.mark.anyio
async def test_the_bundled_file_completes_what_a_gateway_leaves_out(make: Make) -> None:
    upstream = Upstream(
        {
            "data": [
                entry("claude-haiku-4-5", capabilities=None),
                entry("house-model"),
                entry("claude-opus-5", max_tokens=5),
            ]
        }
    )
    async with anyio.create_task_group() as tasks:
        found = await make(upstream, tasks).get_catalog()
        haiku, opus = found.resolve_model("haiku"), found.resolve_model("claude-opus-5")
        assert (haiku.id, haiku.efforts, haiku.max_output_tokens, haiku.is_listed) == (
            "claude-haiku-4-5",
            (),
            64_000,
            True,
        )
        assert (opus.max_output_tokens, opus.line) == (5, "opus")
        assert (found.resolve_model("house-model").max_output_tokens, found.source) == (0, "api")


# How the SDK's client is asked


@contextmanager
def http_server(answer: Callable[[dict[str, list[str]]], tuple[int, str, str]]) -> Generator[str]:
    """A server on a loopback port; `answer` makes status, content type and body from the query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = answer(parse_qs(urlsplit(self.path).query))
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def fetched_list(url: str) -> list[object]:
    async with AsyncAnthropic(api_key="sk-ant-test", base_url=url) as client:
        return await fetch_model_list(client)


@pytest.mark.anyio
@pytest.mark.parametrize(("day", "lifecycle"), [("2026-11-29", "deprecated"), ("2026-11-30", "retired")])
async def test_models_of_the_bundled_list_retire_by_its_dates(make: Make, day: str, lifecycle: str) -> None:
    now = datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()
    async with anyio.create_task_group() as tasks:
        catalog = await make(Upstream(DOWN), tasks, now=now).get_catalog()
        assert catalog.source == "file"
        assert catalog.resolve_model("claude-sonnet-4-5").lifecycle == lifecycle
        assert ("claude-sonnet-4-5-20250929" in catalog.callable_ids()) is (lifecycle == "deprecated")
        assert catalog.resolve_model("").id == "claude-sonnet-5-5"


@pytest.mark.anyio
async def test_every_page_is_read_and_retired_models_are_requested() -> None:
    queries: list[dict[str, list[str]]] = []

    def answer(query: dict[str, list[str]]) -> tuple[int, str, str]:
        queries.append(query)
        first = "after_id" not in query
        page = {
            "data": ENTRIES[:9] if first else ENTRIES[9:],
            "has_more": first,
            "last_id": ENTRIES[8 if first else -1]["id"],
        }
        return 200, "application/json", json.dumps(page)

    with http_server(answer) as url:
        entries = await fetched_list(url)
    assert entries == ENTRIES
    assert queries[0]["limit"] == ["1000"]
    assert queries[0]["lifecycle[]"] == ["active", "deprecated", "retired"]
    assert queries[1]["after_id"] == [ENTRIES[8]["id"]]


@pytest.mark.anyio
async def test_a_gateway_that_repeats_its_page_is_not_read_for_ever() -> None:
    page = json.dumps({"data": [entry("claude-a")], "has_more": True, "last_id": "claude-a"})
    with http_server(lambda _: (200, "application/json", page)) as url:
        assert parse_model_list(await fetched_list(url)) == [one(id="claude-a", display_name="Claude-A")]


@pytest.mark.anyio
async def test_the_list_of_openai_is_no_list_of_claude_models() -> None:
    with http_server(lambda _: (200, "application/json", json.dumps(OPENAI))) as url:
        assert parse_model_list(await fetched_list(url)) is None


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", "<html>Sign in</html>"),
        (200, "application/json", "{"),
        (404, "application/json", '{"error": "no such route"}'),
        (401, "application/json", '{"type":"error","error":{"type":"authentication_error","message":"no"}}'),
        (500, "text/plain", "oops"),
    ],
)
@pytest.mark.anyio
async def test_any_failure_to_fetch_the_list_is_reported_as_unavailable_at_once(
    status: int, kind: str, body: str
) -> None:
    requests: list[object] = []

    def answer(query: dict[str, list[str]]) -> tuple[int, str, str]:
        requests.append(query)
        return status, kind, body

    with http_server(answer) as url, pytest.raises(TemporaryError) as failure:
        await fetched_list(url)
    assert "sk-ant" not in str(failure.value)
    assert failure.value.__cause__ is None
    assert len(requests) == 1


def test_importing_the_module_imports_nothing_heavy() -> None:
    heavy = "{'anthropic', 'genai_prices'} & {*sys.modules}"
    code = f"import sys, mcp_server_claude.anthropic_api.models; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

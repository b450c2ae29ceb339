"""What the OpenAPI document promises: no response is missing in it, and none is an error of the server."""

# schemathesis leaves a type parameter of its own open
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.http_server import http_server_thread
from support.quick_run import examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hypothesis.strategies import SearchStrategy

    from mcp_server_claude.simulator import Simulator

pytestmark = [
    pytest.mark.anyio,
    # The server runs on a thread of this process. Where it uses `random` while Hypothesis draws, Hypothesis blames us.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = examples(25)
ROUTES = {
    "/chat",
    "/chat/{call_id}",
    "/chat/{call_id}/stop",
    "/jobs",
    "/me.json",
    "/models.json",
    "/threads.json",
    "/threads/{thread_id}",
    "/threads/{thread_id}.json",
    "/usage.json",
    "/usage.csv",
    "/healthz",
    "/readyz",
}


@pytest.mark.parametrize("name", ["ada", "nobody"])
async def test_no_route_fails_or_answers_what_is_not_documented(upstream: Simulator, tmp_path: Path, name: str) -> None:
    async with http_server_thread(
        tmp_path / "data", upstream.url, users=("ada",), user_calls_per_minute=100_000
    ) as server:
        await anyio.to_thread.run_sync(
            _explore, server.url, server.tokens["ada"], server.tokens.get(name, "not-a-token")
        )


async def test_a_pasted_example_works_with_the_token_that_the_document_requires(
    upstream: Simulator, tmp_path: Path
) -> None:
    async with (
        http_server_thread(tmp_path / "data", upstream.url, users=("ada",)) as server,
        server.client("ada") as client,
    ):
        document = (await client.get("/openapi.json")).json()
        (scheme,) = document["components"]["securitySchemes"].values()
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
        open_to_all = {path for path, each in document["paths"].items() for to in each.values() if "security" not in to}
        assert {path for path in open_to_all if not path.startswith("/.well-known/")} == {"/healthz", "/readyz"}
        for example in document["components"]["schemas"]["ChatRequest"]["examples"]:
            answer = await client.post("/chat", json=example)
            assert answer.status_code == 200
            assert '"complete": true' in answer.text


async def test_no_enum_of_the_document_has_an_empty_string(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as server, server.client() as client:
        document = (await client.get("/openapi.json")).json()
    enums = list(_values_of(document, "enum"))
    assert len(enums) > 3
    assert [each for each in enums if "" in each] == []


def _values_of(document: object, name: str) -> Iterator[Any]:
    """Every value of that name, however deep."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key == name:
                yield value
            yield from _values_of(value, name)
    elif isinstance(document, list):
        for each in document:
            yield from _values_of(each, name)


def _explore(url: str, known: str, token: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers={"Authorization": f"Bearer {known}"})
    seen: set[str] = set()
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        seen.add(operation.path)
        _try_out(operation.as_strategy(), token)
    assert seen >= ROUTES


def _try_out(requests: SearchStrategy[Any], token: str) -> None:
    @given(case=requests)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    def try_out(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, timeout=30, checks=CHECKS)

    try_out()

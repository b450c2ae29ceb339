"""The checks of a batch at its creation, and what an item may not ask for.

The shape of the batch is checked at once; the `params` of each item only when it is processed, so that their errors are
in its results. Source: platform.claude.com/docs/en/build-with-claude/batch-processing, as documented by November 2026.
The wording of the `custom_id` error is the API's own, quoted in public bug reports of 2026-09; the others are assumed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mcp_server_claude.simulator.api_errors import rejection
from mcp_server_claude.simulator.json_body import as_list, as_object
from mcp_server_claude.simulator.message_batch import SimulatedBatchItem

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Json, Object

MAX_BATCH_REQUESTS = 100_000
CUSTOM_ID_PATTERN = "^[a-zA-Z0-9_-]{1,64}$"
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def batch_items(body: Object) -> list[SimulatedBatchItem]:
    """The items of a body of `POST /v1/messages/batches`.

    Raises:
        RequestRejectedError: It has no items or too many, or an id is malformed or used twice.
    """
    if "requests" not in body:
        raise rejection("requests: Field required")
    requests = body["requests"]
    if not isinstance(requests, list):
        raise rejection("requests: Input should be a valid list")
    if not requests:
        raise rejection("requests: List should have at least 1 item after validation, not 0")
    if len(requests) > MAX_BATCH_REQUESTS:
        raise rejection(
            f"requests: List should have at most {MAX_BATCH_REQUESTS} items after validation, not {len(requests)}"
        )
    for name in body:
        if name != "requests":
            raise rejection(f"{name}: Extra inputs are not permitted")
    items = [_batch_item(f"requests.{index}", request) for index, request in enumerate(requests)]
    seen: set[str] = set()
    for item in items:
        if item.custom_id in seen:
            raise rejection(f"requests: custom_id must be unique within a batch: {item.custom_id}")
        seen.add(item.custom_id)
    return items


def check_batch_params(params: Object) -> None:
    """Pass the parameters that an item of a batch may have.

    Raises:
        RequestRejectedError: It asks to stream, for fast mode, to fill the cache only, or for server-side fallback.
    """
    if params.get("stream"):
        raise rejection("stream: streaming is not supported in batches")
    if params.get("speed") not in {None, "standard"}:
        raise rejection("speed: fast mode is not supported in batches")
    if params.get("max_tokens") == 0:
        raise rejection("max_tokens: 0 is not supported in batches")
    if as_list(params.get("fallbacks")) or params.get("fallbacks") == "default":
        raise rejection("fallbacks: not supported in batches")


def _batch_item(path: str, request: Json) -> SimulatedBatchItem:
    if not isinstance(request, dict):
        raise rejection(f"{path}: Input should be a valid dictionary or object to extract fields from")
    for name in ("custom_id", "params"):
        if name not in request:
            raise rejection(f"{path}.{name}: Field required")
    for name in request:
        if name not in {"custom_id", "params"}:
            raise rejection(f"{path}.{name}: Extra inputs are not permitted")
    custom_id = request["custom_id"]
    if not isinstance(custom_id, str):
        raise rejection(f"{path}.custom_id: Input should be a valid string")
    if not _CUSTOM_ID.fullmatch(custom_id):
        raise rejection(f"{path}.custom_id: String should match pattern '{CUSTOM_ID_PATTERN}'")
    if not isinstance(request["params"], dict):
        raise rejection(f"{path}.params: Input should be a valid dictionary or object to extract fields from")
    return SimulatedBatchItem(custom_id=custom_id, params=as_object(request["params"]))

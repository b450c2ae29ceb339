"""Pages of a list, as the API's list endpoints return them: `after_id`, `before_id`, `limit`.

Source: platform.claude.com/docs/en/api/messages/batches/list and …/api/models/list, as documented by November 2026.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mcp_server_claude.simulator.api_errors import rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mcp_server_claude.simulator.json_body import Json, Object

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 20, 1000
_Item = TypeVar("_Item")


def list_page(
    items: Sequence[_Item],
    query: Mapping[str, list[str]],
    *,
    item_id: Callable[[_Item], str],
    item_json: Callable[[_Item], Object],
) -> Object:
    """One page of a list, in the order of the list.

    Raises:
        RequestRejectedError: `limit` is not between 1 and 1,000, or a cursor names no item.
    """
    requested = query.get("limit", [str(DEFAULT_PAGE_SIZE)])[0]
    if not requested.isdigit() or not 1 <= int(requested) <= MAX_PAGE_SIZE:
        raise rejection(f"limit: Input should be between 1 and {MAX_PAGE_SIZE}")
    limit = int(requested)
    ids = [item_id(item) for item in items]
    after, before = query.get("after_id", [""])[0], query.get("before_id", [""])[0]
    for name, cursor in (("after_id", after), ("before_id", before)):
        if cursor and cursor not in ids:
            raise rejection(f"{name}: there is no such object")
    start = ids.index(after) + 1 if after else 0
    stop = ids.index(before) if before else len(ids)
    page = items[max(start, stop - limit) : stop] if before else items[start : start + limit]
    data: list[Json] = [item_json(item) for item in page]
    return {
        "data": data,
        "has_more": stop - limit > start if before else start + limit < stop,
        "first_id": item_id(page[0]) if page else None,
        "last_id": item_id(page[-1]) if page else None,
    }

"""Files that Claude made while it answered: whose they are, and by which id the Files API has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.store.erasure import FORGOTTEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file, by an id of ours (`f_…`) and by the API's (`file_…`). `created_at` is in unix seconds, `bytes` its size
    where that is known.
    """

    id: str
    call_id: str
    user: str
    file_id: str
    name: str
    mime_type: str
    bytes: int | None
    created_at: float


_COLUMNS = 'id, call_id, "user", file_id, name, mime_type, bytes, created_at'
_ADD = (
    f"insert into produced ({_COLUMNS}) "  # noqa: S608 - a constant
    "values (:id, :call_id, :user, :file_id, :name, :mime_type, :bytes, :created_at)"
)


def add(tx: Tx, files: Sequence[File]) -> None:
    """Write down what a call has made."""
    for file in files:
        tx.run(
            _ADD,
            {
                "id": file.id,
                "call_id": file.call_id,
                "user": file.user,
                "file_id": file.file_id,
                "name": file.name,
                "mime_type": file.mime_type,
                "bytes": file.bytes,
                "created_at": file.created_at,
            },
        )


def find(tx: Tx, name: str, user: str) -> File | None:
    """A user's file by our id; None where this user has none of it, or it was forgotten."""
    sql = f'select {_COLUMNS} from produced where id = :id and "user" = :user and name <> :forgotten'  # noqa: S608
    return tx.one(File, sql, {"id": name, "user": user, "forgotten": FORGOTTEN})


def of_call(tx: Tx, call_id: str, user: str) -> list[File]:
    """What a user's call has made."""
    whose = 'call_id = :call and "user" = :user and name <> :forgotten'
    sql = f"select {_COLUMNS} from produced where {whose} order by created_at, id"  # noqa: S608
    return tx.all(File, sql, {"call": call_id, "user": user, "forgotten": FORGOTTEN})


def old(tx: Tx, before: float, limit: int = 100) -> list[File]:
    """Files made before then, in unix seconds, and those that were forgotten; so many at most."""
    sql = (
        f"select {_COLUMNS} from produced where created_at < :before or name = :forgotten "  # noqa: S608
        "order by created_at limit :limit"
    )
    return tx.all(File, sql, {"before": before, "forgotten": FORGOTTEN, "limit": limit})


def drop(tx: Tx, name: str) -> None:
    """Forget a file by our id; at the API it is deleted by whoever calls this."""
    tx.run("delete from produced where id = :id", {"id": name})

"""Files that Claude made while it answered: whose they are, and by which id the Files API has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_server_claude.store.erasure import ERASED_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFileRecord:
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
_INSERT = (
    f"insert into produced ({_COLUMNS}) "  # noqa: S608 - a constant
    "values (:id, :call_id, :user, :file_id, :name, :mime_type, :bytes, :created_at)"
)


def record_output_files(tx: Transaction, files: Sequence[OutputFileRecord]) -> None:
    """Write down what a call has made."""
    for file in files:
        tx.execute(
            _INSERT,
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


def find_output_file(tx: Transaction, output_file_id: str, user: str) -> OutputFileRecord | None:
    """A user's file by our id; None where this user has none of it, or it was forgotten."""
    sql = f'select {_COLUMNS} from produced where id = :id and "user" = :user and name <> :forgotten'  # noqa: S608
    return tx.fetch_one(OutputFileRecord, sql, {"id": output_file_id, "user": user, "forgotten": ERASED_NAME})


def output_files_of_call(tx: Transaction, call_id: str, user: str) -> list[OutputFileRecord]:
    """What a user's call has made."""
    whose = 'call_id = :call and "user" = :user and name <> :forgotten'
    sql = f"select {_COLUMNS} from produced where {whose} order by created_at, id"  # noqa: S608
    return tx.fetch_all(OutputFileRecord, sql, {"call": call_id, "user": user, "forgotten": ERASED_NAME})


def expired_output_files(tx: Transaction, before: float, limit: int = 100) -> list[OutputFileRecord]:
    """Files made before then, in unix seconds, and those that were forgotten; so many at most."""
    sql = (
        f"select {_COLUMNS} from produced where created_at < :before or name = :forgotten "  # noqa: S608
        "order by created_at limit :limit"
    )
    return tx.fetch_all(OutputFileRecord, sql, {"before": before, "forgotten": ERASED_NAME, "limit": limit})


def delete_output_file(tx: Transaction, output_file_id: str) -> None:
    """Forget a file by our id; at the API it is deleted by whoever calls this."""
    tx.execute("delete from produced where id = :id", {"id": output_file_id})

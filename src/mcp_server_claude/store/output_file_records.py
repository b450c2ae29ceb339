"""Files that code execution wrote during calls: their user, and their ids here and in the Files API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store.erasure import ERASED_NAME
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp_server_claude.store.transaction import Transaction


@frozen_dataclass(kw_only=True)
class OutputFileRecord:
    """An output file: `id` is ours (`f_…`), `file_id` the API's (`file_…`).

    `created_at` is in unix seconds, `bytes` the size if known.
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
    """Record the output files of a call."""
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
    """Return a user's file by our id, or None if this user has none of that id or it was erased."""
    sql = f'select {_COLUMNS} from produced where id = :id and "user" = :user and name <> :erased'  # noqa: S608
    return tx.fetch_one(OutputFileRecord, sql, {"id": output_file_id, "user": user, "erased": ERASED_NAME})


def issued_file_ids(tx: Transaction, file_ids: Sequence[str], user: str) -> set[str]:
    """Return those of these ids of the Files API that belong to files of this user."""
    sql = 'select file_id from produced where file_id = :file_id and "user" = :user and name <> :erased'
    params = {"user": user, "erased": ERASED_NAME}
    return {file_id for file_id in file_ids if tx.fetch_one(scalar, sql, params | {"file_id": file_id}) is not None}


def output_files_of_call(tx: Transaction, call_id: str, user: str) -> list[OutputFileRecord]:
    """Return the output files of a user's call."""
    condition = 'call_id = :call and "user" = :user and name <> :erased'
    sql = f"select {_COLUMNS} from produced where {condition} order by created_at, id"  # noqa: S608
    return tx.fetch_all(OutputFileRecord, sql, {"call": call_id, "user": user, "erased": ERASED_NAME})


def latest_output_files(tx: Transaction, user: str, limit: int) -> list[OutputFileRecord]:
    """Return a user's newest output files."""
    condition = '"user" = :user and name <> :erased'
    sql = f"select {_COLUMNS} from produced where {condition} order by created_at desc, id limit :limit"  # noqa: S608
    return tx.fetch_all(OutputFileRecord, sql, {"user": user, "erased": ERASED_NAME, "limit": limit})


def expired_output_files(tx: Transaction, before: float, limit: int = 100) -> list[OutputFileRecord]:
    """Return at most `limit` files that are older than a time in unix seconds, or were erased."""
    sql = (
        f"select {_COLUMNS} from produced where created_at < :before or name = :erased "  # noqa: S608
        "order by created_at limit :limit"
    )
    return tx.fetch_all(OutputFileRecord, sql, {"before": before, "erased": ERASED_NAME, "limit": limit})


def delete_output_file(tx: Transaction, output_file_id: str) -> None:
    """Delete the record of a file by our id. The caller deletes the file itself in the Files API."""
    tx.execute("delete from produced where id = :id", {"id": output_file_id})

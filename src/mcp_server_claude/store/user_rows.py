"""Users in the database: roles, limits, hashes of tokens, and browser sessions.

Secrets are stored only as their SHA-256. A removed user keeps the row, because the ledger still names them, and because
no other user should get the name, and with it their conversations, by accident.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import budget_reservations
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp_server_claude.store.transaction import Transaction

MAX_SESSIONS = 50
"""Sessions of one user. A new one ends the oldest, so that signing in again and again does not fill the disk."""


@frozen_dataclass(kw_only=True)
class UserRow:
    """A user, or a former user if `removed_at` is set. Times are unix seconds.

    A limit of None is the server's default. No limit is an infinite `usd_per_day`, and 0 for the others. `issuer` and
    `subject` identify the user at an identity provider.
    """

    name: str
    created_at: float
    role: Literal["user", "operator"] = "user"
    token_hash: str | None = None
    issuer: str | None = None
    subject: str | None = None
    usd_per_day: float | None = None
    calls_per_minute: int | None = None
    concurrent: int | None = None
    removed_at: float | None = None


class UserChanges(TypedDict, total=False):
    """Changes of a user. A limit of None restores the default."""

    role: Literal["user", "operator"]
    usd_per_day: float | None
    calls_per_minute: int | None
    concurrent: int | None


@frozen_dataclass(kw_only=True)
class UserActivity:
    """A user, the cost of a day's requests in micro-dollars, and the start of the latest request in unix seconds."""

    user_row: UserRow
    spent_micros: int
    last_request_at: float | None


_COLUMNS = tuple(field.name for field in fields(UserRow))
_CHANGEABLE = frozenset(UserChanges.__annotations__)
_COLUMN_LIST = ", ".join(_COLUMNS)
_QUALIFIED_COLUMNS = ", ".join(f"member.{name}" for name in _COLUMNS)
# The names in these statements are the fields above. Every value is bound.
_INSERT = (
    f"insert into member ({_COLUMN_LIST}) values ({', '.join(f':{name}' for name in _COLUMNS)}) on conflict do nothing"  # noqa: S608
)
_FIND = f"select {_COLUMN_LIST} from member where name = :name"  # noqa: S608
_LIST = (
    f'select {_COLUMN_LIST}, (select max(started_at) from entry where entry."user" = member.name) as last_request_at '  # noqa: S608
    "from member where removed_at is null order by name"
)
_BY_TOKEN = f"select {_COLUMN_LIST} from member where token_hash = :hash and removed_at is null"  # noqa: S608
_BY_SESSION = (
    f"select {_QUALIFIED_COLUMNS} from session join member on member.name = session.member "  # noqa: S608
    "where session.hash = :hash and session.expires_at > :now and member.removed_at is null"
)
_BY_IDENTITY = f"select {_COLUMN_LIST} from member where issuer = :issuer and subject = :subject"  # noqa: S608
_RESTORE = """
update member set removed_at = null, token_hash = :token_hash, role = :role, usd_per_day = :usd_per_day,
                  calls_per_minute = :calls_per_minute, concurrent = :concurrent
where name = :name and removed_at is not null
"""
_ROTATE = "update member set token_hash = :hash where name = :name and removed_at is null"
_REMOVE = "update member set removed_at = :now, token_hash = null where name = :name and removed_at is null"
_DELETE_OLDEST_SESSIONS = """
delete from session where member = :member and hash not in (
    select hash from session where member = :member order by created_at desc, hash limit :most
)
"""


def insert_user(tx: Transaction, user_row: UserRow) -> bool:
    """Insert a user. Returns False if the name is or was in use."""
    return tx.execute(_INSERT, _row_params(user_row)) == 1


def restore_user(tx: Transaction, user_row: UserRow, day: str) -> bool:
    """Restore a removed user with a new token, role and limits. Returns False if no removed user has that name."""
    budget_reservations.resync_spent(tx, budget_reservations.user_scope(user_row.name), day)
    return tx.execute(_RESTORE, _row_params(user_row)) == 1


def find_user(tx: Transaction, name: str) -> UserRow | None:
    """Return the user of that name, also a removed one, or None."""
    return tx.fetch_one(UserRow, _FIND, {"name": name})


def users_with_activity(tx: Transaction, day: str) -> list[UserActivity]:
    """Return all users by name, except removed ones, with their spending on `day`, a UTC date."""
    return [
        UserActivity(
            user_row=row,
            last_request_at=last,
            spent_micros=budget_reservations.spent_on_day(tx, budget_reservations.user_scope(row.name), day),
        )
        for row, last in tx.fetch_all(_row_with_last_request, _LIST)
    ]


def count_users(tx: Transaction) -> int:
    """Return the number of users, without removed ones."""
    return tx.fetch_one(scalar, "select count(*) as n from member where removed_at is null") or 0


def update_user(tx: Transaction, name: str, changes: UserChanges, day: str) -> bool:
    """Change a user. Returns False if no user has that name. A new budget includes the spending of `day`, today.

    Raises:
        TypeError: A name is not one of `UserChanges`. No other names are put into SQL.
    """
    if unknown := changes.keys() - _CHANGEABLE:
        message = f"a user has no {sorted(unknown)} to change"
        raise TypeError(message)
    budget_reservations.resync_spent(tx, budget_reservations.user_scope(name), day)
    assignments = ", ".join(f"{name} = :{name}" for name in sorted(changes)) or "name = name"
    sql = f"update member set {assignments} where name = :name and removed_at is null"  # noqa: S608 - names checked above
    return tx.execute(sql, cast("dict[str, str | float | None]", changes) | {"name": name}) == 1


def replace_token(tx: Transaction, name: str, token_hash: str) -> bool:
    """Replace a user's token and end every session. Returns False if no user has that name."""
    if not tx.execute(_ROTATE, {"name": name, "hash": token_hash}):
        return False
    delete_sessions(tx, name)
    return True


def mark_removed(tx: Transaction, name: str, now: float) -> bool:
    """Mark a user as removed and delete token and sessions. Returns False if no user has that name."""
    if not tx.execute(_REMOVE, {"name": name, "now": now}):
        return False
    delete_sessions(tx, name)
    return True


def find_by_token(tx: Transaction, token_hash: str) -> UserRow | None:
    """Return the user whose token has this hash, or None."""
    return tx.fetch_one(UserRow, _BY_TOKEN, {"hash": token_hash})


def find_by_session(tx: Transaction, session_hash: str, now: float) -> UserRow | None:
    """Return the user whose session has this hash and has not expired at `now`, or None."""
    return tx.fetch_one(UserRow, _BY_SESSION, {"hash": session_hash, "now": now})


def find_by_identity(tx: Transaction, issuer: str, subject: str) -> UserRow | None:
    """Return the user of an identity provider's subject, also a removed one, or None."""
    return tx.fetch_one(UserRow, _BY_IDENTITY, {"issuer": issuer, "subject": subject})


def get_or_create_by_identity(tx: Transaction, issuer: str, subject: str, names: Iterable[str], now: float) -> UserRow:
    """Return the user of an identity provider's subject, adding one under the first free name of `names`.

    Raises:
        ValueError: None of the names is free.
    """
    if known := find_by_identity(tx, issuer, subject):
        return known
    for name in names:
        row = UserRow(name=name, issuer=issuer, subject=subject, created_at=now)
        if insert_user(tx, row):
            return row
        if known := find_by_identity(tx, issuer, subject):  # another process has added it
            return known
    message = "no name is free"
    raise ValueError(message)


def create_session(tx: Transaction, session_hash: str, name: str, *, now: float, until: float) -> None:
    """Begin a session of a user. Deletes expired sessions, and the user's oldest beyond `MAX_SESSIONS`."""
    delete_expired_sessions(tx, now)
    tx.execute(_DELETE_OLDEST_SESSIONS, {"member": name, "most": MAX_SESSIONS - 1})
    tx.execute(
        "insert into session (hash, member, created_at, expires_at) values (:hash, :member, :now, :until)",
        {"hash": session_hash, "member": name, "now": now, "until": until},
    )


def delete_session(tx: Transaction, session_hash: str) -> bool:
    """End a session. Returns False if there was none."""
    return tx.execute("delete from session where hash = :hash", {"hash": session_hash}) == 1


def delete_sessions(tx: Transaction, name: str) -> int:
    """End every session of a user. Returns their number."""
    return tx.execute("delete from session where member = :member", {"member": name})


def delete_expired_sessions(tx: Transaction, now: float) -> int:
    """Delete the expired sessions. Returns their number."""
    return tx.execute("delete from session where expires_at <= :now", {"now": now})


def _row_params(user_row: UserRow) -> dict[str, str | float | None]:
    return {name: getattr(user_row, name) for name in _COLUMNS}


def _row_with_last_request(last_request_at: float | None, **row: Any) -> tuple[UserRow, float | None]:
    return UserRow(**row), last_request_at

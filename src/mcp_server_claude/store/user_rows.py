"""Who may ask: members with their limits, the hashes of their tokens, and the sessions that they signed in to.

A secret is never here, only its SHA-256. A member who was removed keeps the row: the ledger goes on naming them, and
nobody else gets the name, and with it their conversations, by accident.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from mcp_server_claude.store import budget_reservations
from mcp_server_claude.store.transaction import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp_server_claude.store.transaction import Transaction

MAX_SESSIONS = 50
"""Sessions that a member has at most: a new one ends the oldest, so that signing in does not fill the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRow:
    """One who may ask, or might before `removed_at`. Times are unix seconds.

    A limit that is None is the server's default. `usd_per_day` is infinite and the others are 0 where there is none.
    `issuer` and `subject` say who it is at an identity provider.
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
    """What can be changed of a member; a limit of None goes back to the default."""

    role: Literal["user", "operator"]
    usd_per_day: float | None
    calls_per_minute: int | None
    concurrent: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserActivity:
    """A member, what their requests cost today in micro-dollars, and when the last of them began."""

    user_row: UserRow
    spent_micros: int
    last_request_at: float | None


_COLUMNS = tuple(field.name for field in fields(UserRow))
_CHANGEABLE = frozenset(UserChanges.__annotations__)
_COLUMN_LIST = ", ".join(_COLUMNS)
_QUALIFIED_COLUMNS = ", ".join(f"member.{name}" for name in _COLUMNS)
# The names in these statements are the fields above; every value is bound.
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
    """Add a member; False where there is, or was, one of that name."""
    return tx.execute(_INSERT, _row_params(user_row)) == 1


def restore_user(tx: Transaction, user_row: UserRow, day: str) -> bool:
    """Let a removed member in again, with this token, role and limits; False where none of the name was removed."""
    budget_reservations.resync_spent(tx, budget_reservations.user_scope(user_row.name), day)
    return tx.execute(_RESTORE, _row_params(user_row)) == 1


def find_user(tx: Transaction, name: str) -> UserRow | None:
    """The member of that name, also one who was removed."""
    return tx.fetch_one(UserRow, _FIND, {"name": name})


def users_with_activity(tx: Transaction, day: str) -> list[UserActivity]:
    """Everybody who may ask, by name, with what they spent on `day`, a UTC date."""
    return [
        UserActivity(
            user_row=member,
            last_request_at=last,
            spent_micros=budget_reservations.spent_on_day(tx, budget_reservations.user_scope(member.name), day),
        )
        for member, last in tx.fetch_all(_row_with_last_request, _LIST)
    ]


def count_users(tx: Transaction) -> int:
    """How many may ask."""
    return tx.fetch_one(scalar, "select count(*) as n from member where removed_at is null") or 0


def update_user(tx: Transaction, name: str, changes: UserChanges, day: str) -> bool:
    """Change a member; False where nobody of that name may ask. A new budget counts what was spent of `day`, today.

    Raises:
        TypeError: Something else is to be changed; only these names are put into SQL.
    """
    if strange := changes.keys() - _CHANGEABLE:
        message = f"a member has no {sorted(strange)} to change"
        raise TypeError(message)
    budget_reservations.resync_spent(tx, budget_reservations.user_scope(name), day)
    assignments = ", ".join(f"{name} = :{name}" for name in sorted(changes)) or "name = name"
    sql = f"update member set {assignments} where name = :name and removed_at is null"  # noqa: S608 - names checked above
    return tx.execute(sql, cast("dict[str, str | float | None]", changes) | {"name": name}) == 1


def replace_token(tx: Transaction, name: str, token_hash: str) -> bool:
    """Give a member another token; the old one and every session end. False where nobody of that name may ask."""
    if not tx.execute(_ROTATE, {"name": name, "hash": token_hash}):
        return False
    delete_sessions(tx, name)
    return True


def mark_removed(tx: Transaction, name: str, now: float) -> bool:
    """Let a member in no more; the row stays, token and sessions go. False where nobody of that name may ask."""
    if not tx.execute(_REMOVE, {"name": name, "now": now}):
        return False
    delete_sessions(tx, name)
    return True


def find_by_token(tx: Transaction, token_hash: str) -> UserRow | None:
    """Whose token has this hash."""
    return tx.fetch_one(UserRow, _BY_TOKEN, {"hash": token_hash})


def find_by_session(tx: Transaction, session_hash: str, now: float) -> UserRow | None:
    """Whose session has this secret's hash, as long as it lasts."""
    return tx.fetch_one(UserRow, _BY_SESSION, {"hash": session_hash, "now": now})


def find_by_identity(tx: Transaction, issuer: str, subject: str) -> UserRow | None:
    """Who somebody at an identity provider is here, also one who was removed."""
    return tx.fetch_one(UserRow, _BY_IDENTITY, {"issuer": issuer, "subject": subject})


def get_or_create_by_identity(tx: Transaction, issuer: str, subject: str, names: Iterable[str], now: float) -> UserRow:
    """Who somebody at an identity provider is here; at first sight a new member, by the first of `names` that is free.

    Raises:
        ValueError: None of the names is free.
    """
    if known := find_by_identity(tx, issuer, subject):
        return known
    for name in names:
        member = UserRow(name=name, issuer=issuer, subject=subject, created_at=now)
        if insert_user(tx, member):
            return member
        if known := find_by_identity(tx, issuer, subject):  # another process was quicker
            return known
    message = "no name is free"
    raise ValueError(message)


def create_session(tx: Transaction, session_hash: str, name: str, *, now: float, until: float) -> None:
    """Begin a session of a member's; those that have run out go, and the oldest beyond `MAX_SESSIONS`."""
    delete_expired_sessions(tx, now)
    tx.execute(_DELETE_OLDEST_SESSIONS, {"member": name, "most": MAX_SESSIONS - 1})
    tx.execute(
        "insert into session (hash, member, created_at, expires_at) values (:hash, :member, :now, :until)",
        {"hash": session_hash, "member": name, "now": now, "until": until},
    )


def delete_session(tx: Transaction, session_hash: str) -> bool:
    """End a session; False where there was none."""
    return tx.execute("delete from session where hash = :hash", {"hash": session_hash}) == 1


def delete_sessions(tx: Transaction, name: str) -> int:
    """End every session of a member; how many."""
    return tx.execute("delete from session where member = :member", {"member": name})


def delete_expired_sessions(tx: Transaction, now: float) -> int:
    """Delete the sessions that have run out; how many."""
    return tx.execute("delete from session where expires_at <= :now", {"now": now})


def _row_params(user_row: UserRow) -> dict[str, str | float | None]:
    return {name: getattr(user_row, name) for name in _COLUMNS}


def _row_with_last_request(last_request_at: float | None, **row: Any) -> tuple[UserRow, float | None]:
    return UserRow(**row), last_request_at

"""Who may ask: members with their limits, the hashes of their tokens, and the sessions that they signed in to.

A secret is never here, only its SHA-256. A member who was removed keeps the row: the ledger goes on naming them, and
nobody else gets the name, and with it their conversations, by accident.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from mcp_server_claude.store import budget_reservations
from mcp_server_claude.store.transaction import value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mcp_server_claude.store.transaction import Tx

SESSIONS = 50
"""Sessions that a member has at most: a new one ends the oldest, so that signing in does not fill the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
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


class Changes(TypedDict, total=False):
    """What can be changed of a member; a limit of None goes back to the default."""

    role: Literal["user", "operator"]
    usd_per_day: float | None
    calls_per_minute: int | None
    concurrent: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A member, what their requests cost today in micro-dollars, and when the last of them began."""

    member: Member
    spent_micros: int
    last_request_at: float | None


_COLUMNS = tuple(field.name for field in fields(Member))
_CHANGES = frozenset(Changes.__annotations__)
_NAMES = ", ".join(_COLUMNS)
_QUALIFIED = ", ".join(f"member.{name}" for name in _COLUMNS)
# The names in these statements are the fields above; every value is bound.
_ADD = f"insert into member ({_NAMES}) values ({', '.join(f':{name}' for name in _COLUMNS)}) on conflict do nothing"  # noqa: S608
_FIND = f"select {_NAMES} from member where name = :name"  # noqa: S608
_LIST = (
    f'select {_NAMES}, (select max(started_at) from entry where entry."user" = member.name) as last_request_at '  # noqa: S608
    "from member where removed_at is null order by name"
)
_BY_TOKEN = f"select {_NAMES} from member where token_hash = :hash and removed_at is null"  # noqa: S608
_BY_SESSION = (
    f"select {_QUALIFIED} from session join member on member.name = session.member "  # noqa: S608
    "where session.hash = :hash and session.expires_at > :now and member.removed_at is null"
)
_BY_IDENTITY = f"select {_NAMES} from member where issuer = :issuer and subject = :subject"  # noqa: S608
_REVIVE = """
update member set removed_at = null, token_hash = :token_hash, role = :role, usd_per_day = :usd_per_day,
                  calls_per_minute = :calls_per_minute, concurrent = :concurrent
where name = :name and removed_at is not null
"""
_ROTATE = "update member set token_hash = :hash where name = :name and removed_at is null"
_REMOVE = "update member set removed_at = :now, token_hash = null where name = :name and removed_at is null"
_TOO_MANY = """
delete from session where member = :member and hash not in (
    select hash from session where member = :member order by created_at desc, hash limit :most
)
"""


def add(tx: Tx, member: Member) -> bool:
    """Add a member; False where there is, or was, one of that name."""
    return tx.run(_ADD, _row(member)) == 1


def revive(tx: Tx, member: Member, day: str) -> bool:
    """Let a removed member in again, with this token, role and limits; False where none of the name was removed."""
    budget_reservations.catch_up(tx, budget_reservations.of_user(member.name), day)
    return tx.run(_REVIVE, _row(member)) == 1


def find(tx: Tx, name: str) -> Member | None:
    """The member of that name, also one who was removed."""
    return tx.one(Member, _FIND, {"name": name})


def listed(tx: Tx, day: str) -> list[Seen]:
    """Everybody who may ask, by name, with what they spent on `day`, a UTC date."""
    return [
        Seen(
            member=member,
            last_request_at=last,
            spent_micros=budget_reservations.spent(tx, budget_reservations.of_user(member.name), day),
        )
        for member, last in tx.all(_seen, _LIST)
    ]


def count(tx: Tx) -> int:
    """How many may ask."""
    return tx.one(value, "select count(*) as n from member where removed_at is null") or 0


def change(tx: Tx, name: str, changes: Changes, day: str) -> bool:
    """Change a member; False where nobody of that name may ask. A new budget counts what was spent of `day`, today.

    Raises:
        TypeError: Something else is to be changed; only these names are put into SQL.
    """
    if strange := changes.keys() - _CHANGES:
        message = f"a member has no {sorted(strange)} to change"
        raise TypeError(message)
    budget_reservations.catch_up(tx, budget_reservations.of_user(name), day)
    assignments = ", ".join(f"{name} = :{name}" for name in sorted(changes)) or "name = name"
    sql = f"update member set {assignments} where name = :name and removed_at is null"  # noqa: S608 - names checked above
    return tx.run(sql, cast("dict[str, str | float | None]", changes) | {"name": name}) == 1


def rotate(tx: Tx, name: str, token_hash: str) -> bool:
    """Give a member another token; the old one and every session end. False where nobody of that name may ask."""
    if not tx.run(_ROTATE, {"name": name, "hash": token_hash}):
        return False
    end_sessions(tx, name)
    return True


def remove(tx: Tx, name: str, now: float) -> bool:
    """Let a member in no more; the row stays, token and sessions go. False where nobody of that name may ask."""
    if not tx.run(_REMOVE, {"name": name, "now": now}):
        return False
    end_sessions(tx, name)
    return True


def by_token(tx: Tx, token_hash: str) -> Member | None:
    """Whose token has this hash."""
    return tx.one(Member, _BY_TOKEN, {"hash": token_hash})


def by_session(tx: Tx, session_hash: str, now: float) -> Member | None:
    """Whose session has this secret's hash, as long as it lasts."""
    return tx.one(Member, _BY_SESSION, {"hash": session_hash, "now": now})


def by_identity(tx: Tx, issuer: str, subject: str) -> Member | None:
    """Who somebody at an identity provider is here, also one who was removed."""
    return tx.one(Member, _BY_IDENTITY, {"issuer": issuer, "subject": subject})


def meet(tx: Tx, issuer: str, subject: str, names: Iterable[str], now: float) -> Member:
    """Who somebody at an identity provider is here; at first sight a new member, by the first of `names` that is free.

    Raises:
        ValueError: None of the names is free.
    """
    if known := by_identity(tx, issuer, subject):
        return known
    for name in names:
        member = Member(name=name, issuer=issuer, subject=subject, created_at=now)
        if add(tx, member):
            return member
        if known := by_identity(tx, issuer, subject):  # another process was quicker
            return known
    message = "no name is free"
    raise ValueError(message)


def begin_session(tx: Tx, session_hash: str, member: str, *, now: float, until: float) -> None:
    """Begin a session of a member's; those that have run out go, and the oldest beyond `SESSIONS`."""
    expire(tx, now)
    tx.run(_TOO_MANY, {"member": member, "most": SESSIONS - 1})
    tx.run(
        "insert into session (hash, member, created_at, expires_at) values (:hash, :member, :now, :until)",
        {"hash": session_hash, "member": member, "now": now, "until": until},
    )


def end_session(tx: Tx, session_hash: str) -> bool:
    """End a session; False where there was none."""
    return tx.run("delete from session where hash = :hash", {"hash": session_hash}) == 1


def end_sessions(tx: Tx, member: str) -> int:
    """End every session of a member; how many."""
    return tx.run("delete from session where member = :member", {"member": member})


def expire(tx: Tx, now: float) -> int:
    """Delete the sessions that have run out; how many."""
    return tx.run("delete from session where expires_at <= :now", {"now": now})


def _row(member: Member) -> dict[str, str | float | None]:
    return {name: getattr(member, name) for name in _COLUMNS}


def _seen(last_request_at: float | None, **row: Any) -> tuple[Member, float | None]:
    return Member(**row), last_request_at

"""Who may ask: users with their role and limits, how they are known by a secret, and what they have spent.

A token or a session's secret is 256 random bits, so that its plain SHA-256 is enough: slow hashes are for what people
can think of. Nothing is kept in memory, so what is rotated or removed has ended with the next request, everywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

from mcp_server_claude.call_types import Limits
from mcp_server_claude.errors import ConfigurationError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.user_rows import UserChanges, UserRow

# The store is imported by the functions that need it: a stdio server answers its client before there is one.

P = ParamSpec("P")
T = TypeVar("T")

Role: TypeAlias = Literal["user", "operator"]
"""An operator sees everybody's usage; nobody reads another's conversations."""

TOKEN_PREFIX = "mcpc_"  # noqa: S105 - what every token begins with
"""What a token begins with, so that scanners find one that was published by mistake."""
SECRET_BYTES = 32
MAX_SECRET_CHARS = 200
USER_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
RESERVED_NAMES = frozenset({"local", "total"})
"""`local` asks over stdio, `total` is everybody's budget."""
USER_COUNT_TTL_S = 1.0
"""Seconds after which it is looked up again whether there are users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One who may ask, by the name that the ledger knows."""

    name: str
    role: Role = "user"
    limits: Limits = field(default_factory=Limits)


LOCAL = User(name="local", role="operator")
"""Who asks over stdio, and over loopback while there are no users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserListing:
    """A user as the operator sees them. `issuer` is their identity provider; `last_request_at` is in unix seconds."""

    user: User
    spent_today_usd: float
    last_request_at: float | None
    issuer: str


class UserDirectory:
    """Those who may ask."""

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._has_users = False
        self._count_expires_at = -math.inf

    async def has_users(self) -> bool:
        """Whether there are users, or have been since the server started: who removes the last one opens no door.

        Raises:
            ConfigurationError: It cannot be known, since the ledger cannot be read.
        """
        if not self._has_users and self._clock() >= self._count_expires_at:
            from mcp_server_claude.store import user_rows as stored

            self._has_users = await self._read_store(stored.count_users) > 0
            self._count_expires_at = self._clock() + USER_COUNT_TTL_S
        if not self._has_users:
            self._check_for_unreadable_users()
        return self._has_users

    async def authenticate_token(self, token: str) -> User | None:
        """Whose token this is.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        from mcp_server_claude.store import user_rows as stored

        if not _looks_like_token(token):
            return None
        hashed = _hash_secret(token)
        return self._verified_user(await self._read_store(stored.find_by_token, hashed), hashed)

    async def sign_in(self, token: str) -> tuple[str, User] | None:
        """Begin a session for whose token this is: the secret that a browser keeps, and the user.

        Raises:
            ConfigurationError: The ledger cannot be written.
        """
        if not _looks_like_token(token):
            return None
        secret, hashed, now = token_urlsafe(SECRET_BYTES), _hash_secret(token), time.time()
        until = now + self._settings.session_days * 86_400
        user = self._verified_user(
            await self._write_store(_create_session, hashed, _hash_secret(secret), now, until), hashed
        )
        return None if user is None else (secret, user)

    async def authenticate_session(self, secret: str) -> User | None:
        """Who signed in to this session, as long as it lasts.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        from mcp_server_claude.store import user_rows as stored

        if not 0 < len(secret) <= MAX_SECRET_CHARS:
            return None
        member = await self._read_store(stored.find_by_session, _hash_secret(secret), time.time())
        return None if member is None else self._to_user(member)

    async def sign_out(self, secret: str) -> None:
        """End a session.

        Raises:
            ConfigurationError: The ledger cannot be written.
        """
        from mcp_server_claude.store import user_rows as stored

        if 0 < len(secret) <= MAX_SECRET_CHARS:
            await self._write_store(stored.delete_session, _hash_secret(secret))

    async def authenticate_identity(self, issuer: str, subject: str, name_hint: str = "") -> User:
        """Who somebody at an identity provider is here; at first sight a new user, with the server's default limits.

        Raises:
            RequestError: They were removed.
            ConfigurationError: The ledger cannot be read or written.
        """
        from mcp_server_claude.store import user_rows as stored

        self._check_for_unreadable_users()  # it may hold that they were removed
        member = await self._read_store(stored.find_by_identity, issuer, subject)
        if member is None:
            member = await self._write_store(
                stored.get_or_create_by_identity, issuer, subject, candidate_names(name_hint), time.time()
            )
        if member.removed_at is not None:
            raise RequestError("The operator has removed this user.", kind="forbidden")
        self._has_users = True
        return self._to_user(member)

    async def add_user(
        self, name: str, changes: UserChanges | None = None, *, restore: bool = False
    ) -> tuple[User, str]:
        """Let somebody in, with their role and limits; returns the token, which nobody can read again.

        `again` lets in one who was removed, back to their own conversations.

        Raises:
            RequestError: The name is no name, or taken, or was another's.
            ConfigurationError: The ledger cannot be written.
        """
        from mcp_server_claude.store.user_rows import UserRow

        token = f"{TOKEN_PREFIX}{token_urlsafe(SECRET_BYTES)}"
        member = UserRow(
            name=parse_user_name(name), token_hash=_hash_secret(token), created_at=time.time(), **(changes or {})
        )
        await self._write_store(_insert_or_restore, member, restore=restore)
        self._has_users = True
        return self._to_user(member), token

    async def rotate_token(self, name: str) -> str:
        """A new token for a user; the old one and every session end at once.

        Raises:
            RequestError: There is no such user.
            ConfigurationError: The ledger cannot be written.
        """
        from mcp_server_claude.store import user_rows as stored

        token = f"{TOKEN_PREFIX}{token_urlsafe(SECRET_BYTES)}"
        if not await self._write_store(stored.replace_token, parse_user_name(name), _hash_secret(token)):
            raise _no_such_user(name)
        return token

    async def remove_user(self, name: str) -> None:
        """Let a user in no more. What they asked stays in the ledger under their name.

        Raises:
            RequestError: There is no such user.
            ConfigurationError: The ledger cannot be written.
        """
        from mcp_server_claude.store import user_rows as stored

        if not await self._write_store(stored.mark_removed, parse_user_name(name), time.time()):
            raise _no_such_user(name)

    async def change_user(self, name: str, changes: UserChanges) -> User:
        """Change a user's role or limits, from the next request on.

        Raises:
            RequestError: There is no such user.
            ConfigurationError: The ledger cannot be written.
        """
        from mcp_server_claude.store import budget_reservations
        from mcp_server_claude.store import user_rows as stored

        name = parse_user_name(name)
        changed = await self._write_store(stored.update_user, name, changes, budget_reservations.budget_day())
        member = await self._read_store(stored.find_user, name)
        if not changed or member is None:
            raise _no_such_user(name)
        return self._to_user(member)

    async def list_users(self) -> list[UserListing]:
        """Everybody who may ask, by name.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        from mcp_server_claude.store import budget_reservations
        from mcp_server_claude.store import user_rows as stored

        return [
            UserListing(
                user=self._to_user(seen.user_row),
                spent_today_usd=seen.spent_micros / 1e6,
                last_request_at=seen.last_request_at,
                issuer=seen.user_row.issuer or "",
            )
            for seen in await self._read_store(stored.users_with_activity, budget_reservations.budget_day())
        ]

    async def spent_today_usd(self, name: str) -> float:
        """Dollars that a user's requests have cost since midnight UTC; what is only held does not count.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        from mcp_server_claude.store import budget_reservations

        return (
            await self._read_store(
                budget_reservations.spent_on_day, budget_reservations.user_scope(name), budget_reservations.budget_day()
            )
            / 1e6
        )

    def _verified_user(self, user_row: UserRow | None, token_hash: str) -> User | None:
        """The index found them by this hash; comparing again in constant time costs nothing and trusts no collation."""
        if user_row is None or not hmac.compare_digest(user_row.token_hash or "", token_hash):
            return None
        self._has_users = True
        return self._to_user(user_row)

    def _to_user(self, user_row: UserRow) -> User:
        """A member with the server's defaults where nothing else was set."""
        given, settings = user_row, self._settings
        usd = settings.user_usd_per_day if given.usd_per_day is None else given.usd_per_day
        minute = settings.user_calls_per_minute if given.calls_per_minute is None else given.calls_per_minute
        at_once = settings.user_concurrent if given.concurrent is None else given.concurrent
        limits = Limits(
            usd_per_day=None if usd is None or math.isinf(usd) else usd, calls_per_minute=minute, concurrent=at_once
        )
        return User(name=user_row.name, role=user_row.role, limits=limits)

    def _check_for_unreadable_users(self) -> None:
        """See that no users are in a file that could not be opened, while the ledger is kept in memory.

        Raises:
            ConfigurationError: There may be.
        """
        from mcp_server_claude.store.sqlite_connection import DATABASE_FILE

        if self._store.durable:
            return
        with suppress(OSError):  # not even that may be looked at
            if not (self._settings.data_dir / DATABASE_FILE).exists():
                return
        raise ConfigurationError(f"Who may use this server cannot be known. {self._store.last_error}", kind="store")

    async def _read_store(
        self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        from mcp_server_claude.store import StoreError

        try:
            return await self._store.read(operation, *args, **kwargs)
        except StoreError as error:
            raise ConfigurationError(f"The users could not be read: {error}", kind="store") from error

    async def _write_store(
        self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        from mcp_server_claude.store import StoreError

        try:
            return await self._store.write(operation, *args, **kwargs)
        except StoreError as error:
            raise ConfigurationError(f"The users could not be changed: {error}", kind="store") from error


def parse_user_name(name: str) -> str:
    """A user's name as it is kept: lower case.

    Raises:
        RequestError: It is no name.
    """
    bare = name.strip()
    lowered = bare.lower()
    if not bare.isascii() or not USER_NAME_PATTERN.fullmatch(lowered) or lowered in RESERVED_NAMES:
        raise RequestError(
            "A user's name is made of up to 64 letters a-z, digits, `.`, `_`, `@` and `-`, begins with a letter or a "
            f"digit, and is none of {', '.join(sorted(RESERVED_NAMES))}."
        )
    return lowered


def candidate_names(hint: str) -> tuple[str, ...]:
    """Names for somebody whom an identity provider calls `hint`, the nicest first: `ada`, `ada-2`, `ada-3f9c01d2`."""
    base = re.sub(r"[^a-z0-9._@-]+", "-", hint[:200].lower()).strip("-._@")[:48] or "user"
    plain = () if base in RESERVED_NAMES else (base,)
    return (*plain, *(f"{base}-{number}" for number in range(2, 10)), *(f"{base}-{token_hex(4)}" for _ in range(8)))


def _create_session(tx: Transaction, token_hash: str, session_hash: str, now: float, until: float) -> UserRow | None:
    """In one transaction, so that no session begins with a token that has just been rotated."""
    from mcp_server_claude.store import user_rows as stored

    member = stored.find_by_token(tx, token_hash)
    if member is not None:
        stored.create_session(tx, session_hash, member.name, now=now, until=until)
    return member


def _insert_or_restore(tx: Transaction, user_row: UserRow, *, restore: bool) -> None:
    from mcp_server_claude.store import budget_reservations
    from mcp_server_claude.store import user_rows as stored

    if stored.insert_user(tx, user_row):
        return
    known = stored.find_user(tx, user_row.name)
    if known is None or known.removed_at is None:
        raise RequestError(
            f"There is a user named {user_row.name} already. `user set` changes limits, `user rotate` the token."
        )
    if not restore:
        removed = time.strftime("%Y-%m-%d", time.gmtime(known.removed_at))
        raise RequestError(
            f"There was a user named {user_row.name}, removed on {removed}. "
            "Whoever gets the name can read that user's conversations: choose another name, or say --again if it is "
            "the same person."
        )
    stored.restore_user(tx, user_row, budget_reservations.budget_day())


def _no_such_user(name: str) -> RequestError:
    return RequestError(f"There is no user named {name}. `mcp-server-claude user list` shows all.", kind="not_found")


def _looks_like_token(token: str) -> bool:
    return token.startswith(TOKEN_PREFIX) and len(token) <= MAX_SECRET_CHARS


def _hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()

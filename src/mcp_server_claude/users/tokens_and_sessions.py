"""Users of an HTTP server: tokens, browser sessions, identities, roles, limits, and today's spending.

Tokens and session secrets are 256 random bits, so a plain SHA-256 protects them; slow hashes are for passwords that
people choose. Nothing is cached, so a rotated token or a removed user ends with the next request of every process.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from contextlib import suppress
from secrets import token_hex, token_urlsafe
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from mcp_server_claude.call_types import Limits
from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.frozen_dataclass import frozen_dataclass
from mcp_server_claude.store import budget_reservations, user_rows
from mcp_server_claude.store.error_translation import store_errors_as
from mcp_server_claude.store.sqlite_connection import DATABASE_FILE
from mcp_server_claude.store.user_rows import UserRow
from mcp_server_claude.users.user import User

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store, Transaction
    from mcp_server_claude.store.user_rows import UserChanges

P = ParamSpec("P")
T = TypeVar("T")

TOKEN_PREFIX = "mcpc_"  # noqa: S105 - the public prefix of every token
"""Prefix of every token, so that secret scanners recognise a published one."""
SECRET_BYTES = 32
MAX_SECRET_CHARS = 200
USER_NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
RESERVED_NAMES = frozenset({"local", "total"})
"""`local` is the user of a stdio server, `total` the scope of the server's whole budget."""
USER_COUNT_TTL_S = 1.0
"""Seconds for which an empty list of users is remembered."""
SECONDS_PER_DAY = 86_400


@frozen_dataclass(kw_only=True)
class UserListing:
    """A user as operators see them. `issuer` is their identity provider; `last_request_at` is in unix seconds."""

    user: User
    spent_today_usd: float
    last_request_at: float | None
    issuer: str


class UserDirectory:
    """Adds, authenticates, changes and lists the users of a server."""

    def __init__(self, settings: Settings, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns seconds that never go back."""
        self._settings = settings
        self._store = store
        self._clock = clock
        self._has_users = False
        self._count_expires_at = -math.inf

    async def has_users(self) -> bool:
        """Return True if any user exists, or has existed since this object was made.

        Removing the last user must not turn authentication off.

        Raises:
            ConfigurationError: The store cannot be read.
        """
        if not self._has_users and self._clock() >= self._count_expires_at:
            self._has_users = await self._read_store(user_rows.count_users) > 0
            self._count_expires_at = self._clock() + USER_COUNT_TTL_S
        if not self._has_users:
            self._check_for_unreadable_users()
        return self._has_users

    async def authenticate_token(self, token: str) -> User | None:
        """Return the user of a token, or None for an unknown token.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        if not _looks_like_token(token):
            return None
        hashed = _hash_secret(token)
        return self._verified_user(await self._read_store(user_rows.find_by_token, hashed), hashed)

    async def sign_in(self, token: str) -> tuple[str, User] | None:
        """Begin a browser session for the user of a token. Returns the session secret and the user, None if unknown.

        Raises:
            ConfigurationError: The ledger cannot be written.
        """
        if not _looks_like_token(token):
            return None
        secret, hashed, now = token_urlsafe(SECRET_BYTES), _hash_secret(token), time.time()
        until = now + self._settings.session_days * SECONDS_PER_DAY
        user = self._verified_user(
            await self._write_store(_create_session, hashed, _hash_secret(secret), now, until), hashed
        )
        return None if user is None else (secret, user)

    async def authenticate_session(self, secret: str) -> User | None:
        """Return the user of a browser session, or None if it is unknown or has expired.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        if not 0 < len(secret) <= MAX_SECRET_CHARS:
            return None
        row = await self._read_store(user_rows.find_by_session, _hash_secret(secret), time.time())
        return None if row is None else self._to_user(row)

    async def sign_out(self, secret: str) -> None:
        """End a browser session.

        Raises:
            ConfigurationError: The ledger cannot be written.
        """
        if 0 < len(secret) <= MAX_SECRET_CHARS:
            await self._write_store(user_rows.delete_session, _hash_secret(secret))

    async def authenticate_identity(self, issuer: str, subject: str, name_hint: str = "") -> User:
        """Return the user of an identity provider's subject. The first request adds one with the default limits.

        Raises:
            RequestError: The user was removed.
            ConfigurationError: The ledger cannot be read or written.
        """
        self._check_for_unreadable_users()  # it may hold that they were removed
        row = await self._read_store(user_rows.find_by_identity, issuer, subject)
        if row is None:
            row = await self._write_store(
                user_rows.get_or_create_by_identity, issuer, subject, candidate_names(name_hint), time.time()
            )
        if row.removed_at is not None:
            raise RequestError("The operator has revoked this user's access.", kind="forbidden")
        self._has_users = True
        return self._to_user(row)

    async def add_user(
        self, name: str, changes: UserChanges | None = None, *, restore: bool = False
    ) -> tuple[User, str]:
        """Add a user with a role and limits. Returns the user and the token, which cannot be read again.

        `restore` adds a removed user again, with access to the same conversations.

        Raises:
            RequestError: The name is invalid, in use, or belonged to a removed user.
            ConfigurationError: The ledger cannot be written.
        """
        token = f"{TOKEN_PREFIX}{token_urlsafe(SECRET_BYTES)}"
        row = UserRow(
            name=parse_user_name(name), token_hash=_hash_secret(token), created_at=time.time(), **(changes or {})
        )
        await self._write_store(_insert_or_restore, row, restore=restore)
        self._has_users = True
        return self._to_user(row), token

    async def rotate_token(self, name: str) -> str:
        """Replace a user's token and return the new one. The old token and every session end at once.

        Raises:
            RequestError: There is no such user.
            ConfigurationError: The ledger cannot be written.
        """
        token = f"{TOKEN_PREFIX}{token_urlsafe(SECRET_BYTES)}"
        if not await self._write_store(user_rows.replace_token, parse_user_name(name), _hash_secret(token)):
            raise _no_such_user(name)
        return token

    async def remove_user(self, name: str) -> None:
        """Revoke a user's access. Their requests stay in the ledger under their name.

        Raises:
            RequestError: There is no such user.
            ConfigurationError: The ledger cannot be written.
        """
        if not await self._write_store(user_rows.mark_removed, parse_user_name(name), time.time()):
            raise _no_such_user(name)

    async def change_user(self, name: str, changes: UserChanges) -> User:
        """Change a user's role or limits, from their next request on.

        Raises:
            RequestError: There is no such user.
            ConfigurationError: The ledger cannot be written.
        """
        name = parse_user_name(name)
        changed = await self._write_store(user_rows.update_user, name, changes, budget_reservations.budget_day())
        row = await self._read_store(user_rows.find_user, name)
        if not changed or row is None:
            raise _no_such_user(name)
        return self._to_user(row)

    async def list_users(self) -> list[UserListing]:
        """Return every user who has access, sorted by name.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        return [
            UserListing(
                user=self._to_user(seen.user_row),
                spent_today_usd=seen.spent_micros / 1e6,
                last_request_at=seen.last_request_at,
                issuer=seen.user_row.issuer or "",
            )
            for seen in await self._read_store(user_rows.users_with_activity, budget_reservations.budget_day())
        ]

    async def spent_today_usd(self, name: str) -> float:
        """Return the US dollars that a user's requests have cost since midnight UTC, without open reservations.

        Raises:
            ConfigurationError: The ledger cannot be read.
        """
        return (
            await self._read_store(
                budget_reservations.spent_on_day, budget_reservations.user_scope(name), budget_reservations.budget_day()
            )
            / 1e6
        )

    def _verified_user(self, user_row: UserRow | None, token_hash: str) -> User | None:
        """Compare the hash again in constant time, because the index lookup depends on the database's collation."""
        if user_row is None or not hmac.compare_digest(user_row.token_hash or "", token_hash):
            return None
        self._has_users = True
        return self._to_user(user_row)

    def _to_user(self, user_row: UserRow) -> User:
        """Build a user from its row, with the server's defaults for unset limits."""
        settings = self._settings
        usd_per_day = settings.user_usd_per_day if user_row.usd_per_day is None else user_row.usd_per_day
        calls_per_minute = (
            settings.user_calls_per_minute if user_row.calls_per_minute is None else user_row.calls_per_minute
        )
        concurrent = settings.user_concurrent if user_row.concurrent is None else user_row.concurrent
        limits = Limits(
            usd_per_day=None if usd_per_day is None or math.isinf(usd_per_day) else usd_per_day,
            calls_per_minute=calls_per_minute,
            concurrent=concurrent,
        )
        return User(name=user_row.name, role=user_row.role, limits=limits)

    def _check_for_unreadable_users(self) -> None:
        """Check that no database file exists while the store is in memory: it may list users who must authenticate.

        Raises:
            ConfigurationError: A file exists, or cannot be looked for.
        """
        if self._store.durable:
            return
        with suppress(OSError):  # the directory cannot be searched either
            if not (self._settings.data_dir / DATABASE_FILE).exists():
                return
        raise ConfigurationError(f"The list of users cannot be read. {self._store.last_error}", kind="store")

    async def _read_store(
        self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with store_errors_as("The users could not be read"):
            return await self._store.read(operation, *args, **kwargs)

    async def _write_store(
        self, operation: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with store_errors_as("The users could not be changed"):
            return await self._store.write(operation, *args, **kwargs)


def parse_user_name(name: str) -> str:
    """Return a user name in lower case, as it is stored.

    Raises:
        RequestError: The name is invalid or reserved.
    """
    bare = name.strip()
    lowered = bare.lower()
    if not bare.isascii() or not USER_NAME_PATTERN.fullmatch(lowered) or lowered in RESERVED_NAMES:
        raise RequestError(
            "A user name has up to 64 characters: letters a-z, digits, `.`, `_`, `@` and `-`. It begins with a letter "
            f"or a digit. These names are reserved: {', '.join(sorted(RESERVED_NAMES))}."
        )
    return lowered


def candidate_names(hint: str) -> tuple[str, ...]:
    """Return names for an identity provider's user, best first: `ada`, `ada-2`, …, `ada-3f9c01d2`."""
    base = re.sub(r"[^a-z0-9._@-]+", "-", hint[:200].lower()).strip("-._@")[:48] or "user"
    plain = () if base in RESERVED_NAMES else (base,)
    return (*plain, *(f"{base}-{number}" for number in range(2, 10)), *(f"{base}-{token_hex(4)}" for _ in range(8)))


def _create_session(tx: Transaction, token_hash: str, session_hash: str, now: float, until: float) -> UserRow | None:
    """Look the token up in the session's own transaction, so that a token rotated meanwhile begins no session."""
    row = user_rows.find_by_token(tx, token_hash)
    if row is not None:
        user_rows.create_session(tx, session_hash, row.name, now=now, until=until)
    return row


def _insert_or_restore(tx: Transaction, user_row: UserRow, *, restore: bool) -> None:
    if user_rows.insert_user(tx, user_row):
        return
    known = user_rows.find_user(tx, user_row.name)
    if known is None or known.removed_at is None:
        raise RequestError(
            f"A user named {user_row.name} already exists. `user set` changes limits, `user rotate` the token."
        )
    if not restore:
        removed = time.strftime("%Y-%m-%d", time.gmtime(known.removed_at))
        raise RequestError(
            f"A user named {user_row.name} was removed on {removed}. A new user of that name can read the "
            "conversations of the removed one. Choose another name, or pass --again if it is the same person."
        )
    user_rows.restore_user(tx, user_row, budget_reservations.budget_day())


def _no_such_user(name: str) -> RequestError:
    return RequestError(f"No user is named {name}. `mcp-server-claude user list` shows all users.", kind="not_found")


def _looks_like_token(token: str) -> bool:
    return token.startswith(TOKEN_PREFIX) and len(token) <= MAX_SECRET_CHARS


def _hash_secret(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()

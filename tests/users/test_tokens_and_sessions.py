"""Who may ask: tokens, sessions, identities, and the limits that come with them."""

from __future__ import annotations

import hashlib
import math
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import pytest

from mcp_server_claude.call_types import Limits
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError
from mcp_server_claude.settings import Settings
from mcp_server_claude.store import Store, StoreError
from mcp_server_claude.store.sqlite_connection import DATABASE_FILE
from mcp_server_claude.users.tokens_and_sessions import (
    USER_COUNT_TTL_S,
    UserDirectory,
    candidate_names,
    parse_user_name,
)
from mcp_server_claude.users.user import LOCAL, User

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio
ISSUER = "https://id.example"


class Clock:
    """A clock that advances only when it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Open(Protocol):
    """Another process's view of the same file."""

    def __call__(self, **fields: object) -> UserDirectory: ...


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_directory(tmp_path: Path, clock: Clock) -> Iterator[Open]:
    stores: list[Store] = []

    def start(**fields: object) -> UserDirectory:
        stores.append(Store.open(tmp_path / "data"))
        assert stores[-1].durable
        return UserDirectory(Settings.model_validate({"data_dir": tmp_path / "data"} | fields), stores[-1], clock)

    yield start
    for store in stores:
        store.close_blocking()


def on_disk(tmp_path: Path) -> str:
    """Everything that the ledger's files hold, as text."""
    return "".join(path.read_bytes().decode("latin-1") for path in sorted((tmp_path / "data").glob("store.db*")))


# --------------------------------------------------------------------- tokens


async def test_a_token_has_256_random_bits_and_is_stored_only_as_a_hash(open_directory: Open, tmp_path: Path) -> None:
    users = open_directory()
    user, token = await users.add_user("Ada")
    assert user.name == "ada"
    assert re.fullmatch(r"mcpc_[A-Za-z0-9_-]{43}", token)
    assert await users.authenticate_token(token) == user
    assert token not in on_disk(tmp_path)
    assert token.removeprefix("mcpc_") not in on_disk(tmp_path)
    assert hashlib.sha256(token.encode()).hexdigest() in on_disk(tmp_path)
    assert (await users.add_user("bob"))[1] != token


@pytest.mark.parametrize(
    "wrong", ["", "mcpc_", "mcpc_wrong", "x" * 10_000, "mcpc_" + "é" * 43, "mcpc_\udc80", "mcpc_\x00", "' or 1=1 --"]
)
async def test_an_invalid_token_belongs_to_no_user(open_directory: Open, wrong: str) -> None:
    users = open_directory()
    _, token = await users.add_user("ada")
    assert await users.authenticate_token(wrong) is None
    assert await users.authenticate_token(token + wrong if wrong else token.upper()) is None
    assert await users.authenticate_token(hashlib.sha256(token.encode()).hexdigest()) is None
    assert await users.sign_in(wrong) is None
    assert await users.authenticate_session(wrong) is None
    assert await users.authenticate_session(token) is None
    await users.sign_out(wrong)


async def test_a_rotated_or_removed_token_ends_in_every_process_with_the_next_request(
    open_directory: Open,
) -> None:
    here, there = open_directory(), open_directory()
    _, token = await here.add_user("ada")
    signed_in = await there.sign_in(token)
    assert signed_in is not None
    assert await there.authenticate_token(token)
    renewed = await here.rotate_token("ada")
    assert await there.authenticate_token(token) is None
    assert await there.authenticate_session(signed_in[0]) is None
    assert await there.sign_in(token) is None
    assert await there.authenticate_token(renewed)
    signed_in = await there.sign_in(renewed)
    assert signed_in is not None
    await here.remove_user("ada")
    assert await there.authenticate_token(renewed) is None
    assert await there.authenticate_session(signed_in[0]) is None


# --------------------------------------------------------------------- sessions


async def test_a_session_stands_for_its_user_until_sign_out_and_its_secret_is_not_on_disk(
    open_directory: Open, tmp_path: Path
) -> None:
    users = open_directory()
    ada, token = await users.add_user("ada")
    begun = await users.sign_in(token)
    assert begun is not None
    secret, user = begun
    assert user == ada
    assert await open_directory().authenticate_session(secret) == ada
    assert secret not in on_disk(tmp_path)
    other = await users.sign_in(token)
    assert other is not None
    await users.sign_out(secret)
    assert await users.authenticate_session(secret) is None
    assert await users.authenticate_session(other[0]) == ada


async def test_a_session_ends_after_the_configured_number_of_days(open_directory: Open, tmp_path: Path) -> None:
    users = open_directory(session_days=2.0)
    begun = await users.sign_in((await users.add_user("ada"))[1])
    assert begun is not None
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_FILE)) as connection:
        (lasts,) = connection.execute("select expires_at - created_at from session").fetchone()
        assert lasts == pytest.approx(2 * 86_400)
        connection.execute("update session set expires_at = expires_at - 2 * 86400")
        connection.commit()
    assert await users.authenticate_session(begun[0]) is None


# --------------------------------------------------------------------- whether there are any


async def test_a_user_added_by_the_shell_is_recognised_within_a_second_and_removing_the_last_one_keeps_sign_in(
    open_directory: Open, clock: Clock
) -> None:
    server, shell = open_directory(), open_directory()
    assert not await server.has_users()
    await shell.add_user("ada")
    clock.now += USER_COUNT_TTL_S
    assert await server.has_users()
    await shell.remove_user("ada")
    clock.now += 100
    assert await server.has_users()
    assert not await open_directory().has_users()


async def test_a_change_of_users_counts_at_once(open_directory: Open) -> None:
    server, shell = open_directory(), open_directory()
    assert not await server.has_users()
    _, token = await shell.add_user("ada")
    assert await server.authenticate_token(token)
    assert await server.has_users()


async def test_with_an_unreadable_file_of_users_nobody_counts_as_local(tmp_path: Path) -> None:
    where = tmp_path / "data"
    where.mkdir()
    (where / DATABASE_FILE).write_text("this is no database")
    store = Store.open(where)
    try:
        with pytest.raises(ConfigurationError, match=r"The list of users cannot be read\. The ledger is kept in mem"):
            await UserDirectory(Settings(data_dir=where), store).has_users()
    finally:
        store.close_blocking()


async def test_without_a_file_there_are_no_users(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    store = Store.open(tmp_path / "data")
    try:
        assert not await UserDirectory(Settings(data_dir=tmp_path / "data"), store).has_users()
    finally:
        store.close_blocking()


async def test_an_unreadable_ledger_admits_nobody(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "data")
    users = UserDirectory(Settings(data_dir=tmp_path / "data"), store)
    _, token = await users.add_user("ada")
    store.close_blocking()
    for ask in (
        users.authenticate_token(token),
        users.authenticate_session("x"),
        users.sign_in(token),
        users.authenticate_identity("i", "s"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            await ask
        assert raised.value.kind == "store"
        assert isinstance(raised.value.__cause__, StoreError)


# --------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["a", "ada", "7", "a.b_c@d-e", "x" * 64, " Ada "])
def test_a_name_is_stored_in_lower_case(name: str) -> None:
    assert parse_user_name(name) == name.strip().lower()


@pytest.mark.parametrize(
    "name", ["", " ", "-a", ".", "@x", "a b", "a/b", "x" * 65, "é", "\u212aelvin", "local", "TOTAL", "a\nb", "a:b", "٣"]
)
async def test_an_invalid_name_is_rejected(open_directory: Open, name: str) -> None:
    with pytest.raises(RequestError, match="A user name has up to 64"):
        await open_directory().add_user(name)


async def test_a_name_in_use_or_used_before_is_rejected_unless_it_is_the_same_person(open_directory: Open) -> None:
    users = open_directory()
    await users.add_user("ada", {"usd_per_day": 5.0})
    with pytest.raises(RequestError, match="A user named ada already exists"):
        await users.add_user("ADA", restore=True)
    await users.remove_user("ada")
    with pytest.raises(RequestError, match=r"conversations of the removed one\. Choose another name, or pass --again"):
        await users.add_user("ada")
    user, token = await users.add_user("ada", {"role": "operator"}, restore=True)
    assert (
        await users.authenticate_token(token)
        == user
        == User(name="ada", role="operator", limits=Limits(calls_per_minute=60, concurrent=8))
    )


async def test_an_unknown_user_cannot_be_changed(open_directory: Open) -> None:
    users = open_directory()
    for ask in (users.rotate_token("bob"), users.remove_user("bob"), users.change_user("bob", {"concurrent": 1})):
        with pytest.raises(CallError) as raised:
            await ask
        assert raised.value.kind == "not_found"
        assert str(raised.value).startswith("No user is named bob.")


# --------------------------------------------------------------------- identities


async def test_a_person_at_an_identity_provider_is_one_user_with_the_default_limits(open_directory: Open) -> None:
    users = open_directory(user_usd_per_day=2.0)
    ada = await users.authenticate_identity(ISSUER, "sub-1", "Ada@Example.org")
    assert ada == User(name="ada@example.org", limits=Limits(usd_per_day=2.0, calls_per_minute=60, concurrent=8))
    assert await open_directory(user_usd_per_day=2.0).authenticate_identity(ISSUER, "sub-1", "renamed") == ada
    assert await users.has_users()
    assert (
        await users.authenticate_identity("https://other.example", "sub-1", "ada@example.org")
    ).name == "ada@example.org-2"


async def test_an_identity_never_gets_the_name_of_another_user_and_is_not_restored_after_removal(
    open_directory: Open,
) -> None:
    users = open_directory()
    _, token = await users.add_user("ada")
    other_person = await users.authenticate_identity(ISSUER, "sub-2", "ada")
    assert other_person.name == "ada-2"
    await users.remove_user("ada-2")
    with pytest.raises(RequestError, match="The operator has revoked this user's access") as raised:
        await users.authenticate_identity(ISSUER, "sub-2", "ada")
    assert raised.value.kind == "forbidden"
    assert (await users.authenticate_identity(ISSUER, "sub-3", "ada")).name == "ada-3"
    assert await users.authenticate_token(token)


@pytest.mark.parametrize("hint", ["", "local", "Total", "Ådä Löve", "../../etc", "-", "x" * 500, "a\nb", "用户", "@@"])
async def test_every_name_hint_leads_to_a_valid_name(open_directory: Open, hint: str) -> None:
    user = await open_directory().authenticate_identity(ISSUER, "sub", hint)
    assert parse_user_name(user.name) == user.name
    assert all(parse_user_name(name) == name for name in candidate_names(hint))


async def test_many_persons_of_one_name_all_get_a_name(open_directory: Open) -> None:
    users = open_directory()
    names = {(await users.authenticate_identity(ISSUER, f"sub-{n}", "ada")).name for n in range(40)}
    assert len(names) == 40
    assert {"ada", "ada-2", "ada-9"} < names


# --------------------------------------------------------------------- limits, and what was spent


async def test_limits_are_those_of_the_user_else_of_the_settings(open_directory: Open) -> None:
    users = open_directory(user_usd_per_day=1.5, user_calls_per_minute=10, user_concurrent=2)
    plain, token = await users.add_user("ada")
    assert plain.limits == Limits(usd_per_day=1.5, calls_per_minute=10, concurrent=2)
    changed = await users.change_user("ada", {"usd_per_day": math.inf, "calls_per_minute": 0, "role": "operator"})
    assert changed == User(name="ada", role="operator", limits=Limits(concurrent=2))
    assert await users.authenticate_token(token) == changed
    assert (await users.change_user("ada", {"usd_per_day": 0.0})).limits.usd_per_day == 0
    assert (await users.change_user("ada", {"usd_per_day": None, "concurrent": None})).limits.usd_per_day == 1.5
    assert User(name="local", role="operator", limits=Limits()) == LOCAL


async def test_the_cost_of_a_user_is_reported_from_the_first_day_on(open_directory: Open) -> None:
    users = open_directory()
    await users.add_user("ada")
    assert await users.spent_today_usd("ada") == 0
    assert await users.spent_today_usd("local") == 0
    (listed,) = await users.list_users()
    assert (listed.user.name, listed.spent_today_usd, listed.last_request_at, listed.issuer) == ("ada", 0, None, "")

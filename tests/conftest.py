from __future__ import annotations

import functools
import gc
import inspect
import os
import signal
import traceback
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import settings

from mcp_server_claude.simulator import Pace, Simulator
from support.quick_run import THOROUGH, ShortJitter, examples
from support.user_environment import user_variables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

    from support.postgres_server import PostgresServer


DATABASES = ("sqlite", pytest.param("postgres", marks=pytest.mark.slow))

MAX_TEST_S = 900.0
"""Seconds after which an asynchronous test that hangs fails with the line that it waits at. Nothing that works takes so
long on any machine. What hangs elsewhere, as in a fixture, ends by `timeout` in pyproject.toml."""

settings.register_profile("here", deadline=None, max_examples=examples(100))  # how fast a machine is proves nothing
settings.load_profile("here")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in the background so
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and the processes of the tests would inherit it


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def _nobodys_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tests see no key, setting or profile of the user who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.upper().startswith(("MCP_CLAUDE_", "ANTHROPIC_")):
                patch.delenv(name)
        home = tmp_path_factory.mktemp("home")
        for name, value in user_variables(home).items():
            patch.setenv(name, value)
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_retry_delays() -> Iterator[None]:
    """The servers in the tests' own process wait a tenth as long before a retry, unless the run is thorough."""
    with pytest.MonkeyPatch.context() as patch:
        if not THOROUGH:
            patch.setattr("mcp_server_claude.engine.request_loop.random", ShortJitter)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector, which takes a third of the time and finds nothing."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let an asynchronous test that hangs fail."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        pyfuncitem.obj = _ending(pyfuncitem.obj)
    return (yield)


def _ending(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(**fixtures: object) -> None:
        waits_at = ""
        with anyio.move_on_after(MAX_TEST_S) as limit:
            try:
                await test(**fixtures)
            except anyio.get_cancelled_exc_class() as cancelled:
                waits_at = "".join(traceback.format_exception(cancelled))
                raise
        if limit.cancelled_caught:
            pytest.fail(f"No end within {MAX_TEST_S:.0f} seconds. It waited here:\n{waits_at}")

    return run


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses `each_database` on both, unless it is marked `sqlite_only`."""
    if "each_database" in metafunc.fixturenames:
        is_for_one = metafunc.definition.get_closest_marker("sqlite_only") is not None
        metafunc.parametrize("each_database", DATABASES[:1] if is_for_one else DATABASES, indirect=True)


@pytest.fixture
def each_database(request: pytest.FixtureRequest) -> Iterator[None]:
    """The database of the servers of a test, see `server_database`: SQLite, and with `--all` PostgreSQL too."""
    if request.param == "sqlite":
        yield
        return
    from support.server_database import postgres_for_each_directory

    with postgres_for_each_directory(request.getfixturevalue("postgres_server")):
        yield


@pytest.fixture
async def upstream() -> AsyncIterator[Simulator]:
    """The Messages API, offline and at full speed."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
async def api() -> AsyncIterator[Simulator]:
    """The same for all tests of a module."""
    async with Simulator(pace=Pace(ttft_s=0, tokens_per_s=0)) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server, one for each process of the tests."""
    from support.postgres_server import running_postgres  # psycopg takes a quarter of a second

    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)

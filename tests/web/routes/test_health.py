"""What an operator's machines ask: is it up, can it answer, what has it done."""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mcp_server_claude.settings import Settings
from mcp_server_claude.web.auth.metrics_token import has_metrics_token
from support.http_server import http_server_thread
from support.mcp_session import FAKE_KEY
from support.server_database import change_rows, database_fields

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2

    from mcp_server_claude.simulator import Simulator

pytestmark = pytest.mark.anyio

SCRAPER = "a-token-for-prometheus-alone"


def samples(page: str) -> dict[str, dict[tuple[str, str], float]]:
    """The samples of a page by name, each by the labels that distinguish models and token types."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = sample.labels.get("gen_ai_request_model", ""), sample.labels.get("gen_ai_token_type", "")
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


async def post_chat(client: httpx2.AsyncClient, message: str) -> httpx2.Response:
    return await client.post("/chat", json={"message": message}, headers={"Accept": "text/plain"})


async def test_liveness_and_readiness_are_public(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=["ada"]) as here, here.client() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_without_a_key_the_server_is_live_but_not_ready(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, api_key=None) as here, here.client() as client:
        assert (await client.get("/healthz")).status_code == 200
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["credential"])


async def test_a_store_that_cannot_be_written_is_reported_without_its_path(upstream: Simulator, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a directory should be")
    async with http_server_thread(tmp_path / "data", upstream.url) as here, here.client() as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["store"])
    assert str(tmp_path) not in answer.text


async def test_a_store_whose_file_was_removed_or_replaced_is_reported(upstream: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "data" / "store.db"
    async with http_server_thread(tmp_path / "data", upstream.url) as here, here.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        file.rename(tmp_path / "away.db")
        file.write_bytes(b"a backup, put there while the server ran")
        with anyio.fail_after(60):
            while (answer := await client.get("/readyz")).status_code == 200:
                pass  # a finding is good for a second
    assert answer.json()["reasons"] == ["store"]


async def test_a_store_whose_write_ahead_log_was_cut_is_reported_and_logged_once(
    upstream: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as here, here.client() as client:
        assert (await post_chat(client, "one")).status_code == 200
        os.truncate(tmp_path / "data" / "store.db-wal", 0)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["store"])
        for _ in range(2):  # what can be read depends on what was written since
            assert (await post_chat(client, "two")).status_code in {200, 503}
    logged = [record.message for record in caplog.records if "Stop the server, and restore a backup" in record.message]
    assert logged
    assert len(logged) == len(set(logged))


@pytest.mark.usefixtures("each_database")
async def test_a_store_whose_tables_do_not_fit_is_reported(upstream: Simulator, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    fields: dict[str, Any] = database_fields(data_dir)
    async with http_server_thread(data_dir, upstream.url, **fields) as here, here.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        change_rows(data_dir, "alter table entry rename to entry_of_another_version")
        with anyio.fail_after(60):
            while (answer := await client.get("/readyz")).status_code == 200:
                pass  # a finding is good for a second
    assert answer.json()["reasons"] == ["store"]


async def test_a_readiness_check_leaves_nothing_in_the_ledger(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as here, here.client() as client:
        assert (await client.get("/readyz")).status_code == 200
        with closing(sqlite3.connect(tmp_path / "data" / "store.db")) as connection:
            assert connection.execute("select count(*) from process where id = 'readyz'").fetchone() == (0,)


async def test_prometheus_reads_tokens_seconds_and_dollars(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as here, here.client() as client:
        assert (await post_chat(client, "Hello?")).status_code == 200
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    metrics = samples(response.text)
    [cost] = metrics["mcp_server_claude_cost_usd_total"].values()
    assert cost > 0
    assert set(metrics["gen_ai_client_operation_duration_seconds_count"].values()) == {1.0}
    assert set(metrics["gen_ai_client_operation_time_to_first_chunk_seconds_count"].values()) == {1.0}
    assert {kind for _, kind in metrics["gen_ai_client_token_usage_sum"]} == {"input", "output"}
    assert "process_resident_memory_bytes" in metrics or sys.platform != "linux"
    assert FAKE_KEY not in response.text
    assert "local" not in response.text


async def test_the_metrics_are_for_operators_and_holders_of_their_token(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=["ada"], metrics_token=SCRAPER) as here:
        async with here.client("ada") as client:
            assert (await client.get("/metrics")).status_code == 403
        async with here.client() as client:
            assert (await client.get("/metrics")).status_code == 401
        async with here.client(Authorization=f"Bearer {SCRAPER}") as client:
            assert (await client.get("/metrics")).status_code == 200
            assert (await post_chat(client, "Hello?")).status_code == 401
        async with here.client(Authorization=f"Bearer {SCRAPER}x") as client:
            assert (await client.get("/metrics")).status_code == 401


async def test_an_operator_may_read_the_metrics(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url, users=["ada"]) as here, here.client("ada") as client:
        assert here.services is not None
        await (await here.services.open()).users.change_user("ada", {"role": "operator"})
        assert (await client.get("/metrics")).status_code == 200


async def test_users_are_counted_by_name_only_where_configured(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(
        tmp_path / "data", upstream.url, users=["ada"], metrics_token=SCRAPER, telemetry_users=True
    ) as here:
        async with here.client("ada") as client:
            assert (await post_chat(client, "Hello?")).status_code == 200
        async with here.client(Authorization=f"Bearer {SCRAPER}") as client:
            assert 'user_id="ada"' in (await client.get("/metrics")).text


async def test_invented_model_names_are_not_metric_labels(upstream: Simulator, tmp_path: Path) -> None:
    async with http_server_thread(tmp_path / "data", upstream.url) as here, here.client() as client:
        for number in range(3):
            await client.post("/chat", json={"message": "Hello?", "model": f"claude-made-up-{number}"})
        assert "made-up" not in (await client.get("/metrics")).text


@pytest.mark.parametrize("token", ["", "${METRICS_TOKEN}", "<your token>"])
def test_a_placeholder_token_grants_no_access(token: str) -> None:
    assert not has_metrics_token(f"Bearer {token}", Settings.model_validate({"metrics_token": token}))

"""The retention of files that code wrote, at Anthropic and in the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest
from pydantic import SecretStr

from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.engine.output_file_downloads import MAX_DELETIONS_PER_BATCH, OutputFiles
from mcp_server_claude.settings import Settings
from mcp_server_claude.store import Store, output_file_records
from support.cloud_upstream import CannedResponse, cloud_upstream
from support.mcp_session import FAKE_KEY

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

REFUSAL = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "It is in use."}}).encode()
DELETED = json.dumps({"id": "file_1", "type": "file_deleted"}).encode()


def record(number: int) -> output_file_records.OutputFileRecord:
    return output_file_records.OutputFileRecord(
        id=f"o_{number}",
        call_id="c_1",
        user="local",
        file_id=f"file_{number:03d}",
        name="tea.csv",
        mime_type="text/csv",
        bytes=3,
        created_at=float(number),
    )


async def test_all_expired_files_are_deleted_except_the_one_that_the_api_rejects(tmp_path: Path) -> None:
    count = MAX_DELETIONS_PER_BATCH + 20
    store = await anyio.to_thread.run_sync(Store.open, tmp_path)
    async with cloud_upstream(
        CannedResponse("/v1/files/file_000", REFUSAL, "application/json", status=400),
        CannedResponse("/v1/files/", DELETED, "application/json"),
    ) as upstream:
        claude = ClaudeClient(Settings(api_key=SecretStr(FAKE_KEY), base_url=upstream.url))
        try:
            await store.write(output_file_records.record_output_files, [record(number) for number in range(count)])
            await OutputFiles(claude, store).delete_expired(before=1e6)
            left = await store.write(output_file_records.expired_output_files, 1e6, count)
        finally:
            await claude.close()
            await store.close()
    assert [file.file_id for file in left] == ["file_000"]
    assert len(upstream.requests_to("/v1/files/")) == count

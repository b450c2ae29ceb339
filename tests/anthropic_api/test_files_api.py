"""The Files API as the server uses it: what it says wrongly, for a while, or not at all."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mcp_server_claude.anthropic_api import files_api
from mcp_server_claude.anthropic_api.client import ClaudeClient
from mcp_server_claude.call_types import Call
from mcp_server_claude.engine.file_uploads import FileUploads
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError, TemporaryError
from mcp_server_claude.files import FilePolicy
from mcp_server_claude.settings import Settings
from support.cloud_upstream import CannedResponse, cloud_upstream
from support.mcp_session import FAKE_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from support.cloud_upstream import CloudUpstream

pytestmark = pytest.mark.anyio

JSON = "application/json"
FILE = {
    "id": "file_011",
    "type": "file",
    "filename": "../../a\u202eb\r\n.csv",
    "mime_type": "text/csv",
    "size_bytes": 5,
    "created_at": "2026-11-20T09:30:00Z",
}


def problem(status: int, kind: str = "overloaded_error", *, path: str = "/v1/files", **more: str) -> CannedResponse:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": "No."}}).encode()
    return CannedResponse(path, body, JSON, status, headers=tuple(more.items()), times=1)


def json_response(value: object, path: str = "/v1/files") -> CannedResponse:
    return CannedResponse(path, json.dumps(value).encode(), JSON)


@asynccontextmanager
async def asking(*answers: CannedResponse) -> AsyncGenerator[tuple[ClaudeClient, CloudUpstream]]:
    async with cloud_upstream(*answers) as cloud:
        claude = ClaudeClient(Settings.model_validate({"api_key": FAKE_KEY, "base_url": cloud.url}))
        try:
            yield claude, cloud
        finally:
            await claude.close()


async def test_a_file_name_is_made_safe_for_a_line_and_a_path() -> None:
    async with asking(json_response(FILE)) as (claude, _):
        assert await files_api.get_metadata(claude, "file_011") == files_api.FileMetadata(
            name="ab.csv", mime_type="text/csv", size_bytes=5
        )


@pytest.mark.parametrize(
    "value",
    [{}, [], "x", {"filename": 1, "mime_type": ["a"], "size_bytes": "5"}, {"mime_type": "a\r\nb", "filename": "/"}],
)
async def test_invalid_metadata_of_a_gateway_is_tolerated(value: object) -> None:
    async with asking(json_response(value)) as (claude, _):
        about = await files_api.get_metadata(claude, "file_011")
        assert about == files_api.FileMetadata(name="file_011", mime_type=files_api.DEFAULT_MIME_TYPE, size_bytes=None)


async def test_a_temporary_error_is_tolerated_and_a_permanent_one_is_reported() -> None:
    async with asking(problem(529), problem(429, "rate_limit_error", **{"retry-after": "0"}), json_response(FILE)) as (
        claude,
        cloud,
    ):
        assert (await files_api.get_metadata(claude, "file_011")).size_bytes == 5
        assert len(cloud.requests) == 3
    async with asking(replace(problem(529), times=files_api.MAX_ATTEMPTS), json_response(FILE)) as (claude, cloud):
        with pytest.raises(TemporaryError):
            await files_api.get_metadata(claude, "file_011")
        assert len(cloud.requests) == files_api.MAX_ATTEMPTS


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(429, "rate_limit_error", **{"retry-after": "3600"}), "rate_limit"),
        (problem(401, "authentication_error"), "authentication"),
        (problem(403, "permission_error"), "permission"),
        (problem(400, "invalid_request_error"), "invalid_request"),
    ],
)
async def test_an_error_that_no_retry_can_mend_is_reported_at_once(answer: CannedResponse, kind: str) -> None:
    async with asking(answer, json_response(FILE)) as (claude, cloud):
        with pytest.raises(CallError) as failure:
            await files_api.upload_file(claude, "a.csv", b"1,2", "text/csv", 3600)
        assert failure.value.kind == kind
        assert len(cloud.requests) == 1


async def test_an_upload_without_an_id_is_an_error() -> None:
    async with asking(json_response({"ok": True})) as (claude, _):
        with pytest.raises(TemporaryError, match="not a file of the Files API"):
            await files_api.upload_file(claude, "a.csv", b"1,2", "text/csv", 3600)


async def test_an_upload_has_its_base_name_and_its_expiry() -> None:
    async with asking(json_response(FILE)) as (claude, cloud):
        assert await files_api.upload_file(claude, "src/a.csv", b"1,2", "text/csv", 3600) == "file_011"
        (sent,) = cloud.requests
        assert b'filename="a.csv"' in sent.raw
        assert b"3600" in sent.raw
        assert "anthropic-beta" not in sent.headers


async def test_deleting_a_file_that_no_longer_exists_succeeds() -> None:
    async with asking(problem(404, "not_found_error")) as (claude, _):
        await files_api.delete_file(claude, "file_011")
    async with asking(problem(403, "permission_error")) as (claude, _):
        with pytest.raises(ConfigurationError):
            await files_api.delete_file(claude, "file_011")


async def test_a_platform_without_a_files_api_is_reported_and_nothing_is_sent() -> None:
    settings = Settings.model_validate({"platform": "vertex", "uploads": True})
    claude = ClaudeClient(settings)
    with pytest.raises(RequestError, match="has no Files API"):
        await files_api.get_metadata(claude, "file_011")
    rules = FileUploads(settings, claude).file_policy_for(FilePolicy(roots=()), Call(prompt="x", tools=("code",)))
    assert not rules.for_code

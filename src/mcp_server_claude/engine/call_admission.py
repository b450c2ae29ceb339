"""The admission of a call: its arguments are checked, its model resolved and its files read before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio.to_thread

from mcp_server_claude import files
from mcp_server_claude.anthropic_api import models
from mcp_server_claude.engine.call_deadline import CallDeadline
from mcp_server_claude.engine.fallback_model import FallbackModel
from mcp_server_claude.engine.prepared_call import PreparedCall
from mcp_server_claude.engine.structured_output import OutputSchema
from mcp_server_claude.errors import CallError, ConfigurationError, RequestError
from mcp_server_claude.store import output_file_records, store_errors_as

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.client import ClaudeClient
    from mcp_server_claude.anthropic_api.models import ClaudeModel, ModelListCache, StaticModelList
    from mcp_server_claude.anthropic_api.thinking_config import ThinkingDisplay
    from mcp_server_claude.call_types import Call, Listener
    from mcp_server_claude.engine.file_uploads import FileUploads
    from mcp_server_claude.engine.output_file_downloads import OutputFiles
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store import Store


class CallAdmission:
    """Admits calls: each once, before it waits for its thread or for a slot."""

    def __init__(
        self,
        settings: Settings,
        claude: ClaudeClient,
        model_list: ModelListCache | StaticModelList,
        store: Store,
        file_policy: files.FilePolicy,
        uploads: FileUploads,
        output_files: OutputFiles,
    ) -> None:
        self._settings = settings
        self._claude = claude
        self._model_list = model_list
        self._store = store
        self._file_policy = file_policy
        self._uploads = uploads
        self._output_files = output_files

    async def admit(self, call: Call, listener: Listener | None = None) -> PreparedCall:
        """The call with its model resolved and its files read. Files are uploaded only for a `listener`.

        Raises:
            CallError: The call cannot be sent like this, or its deadline has passed.
        """
        deadline = CallDeadline(self._settings.deadline_s)
        with deadline.enforce():
            return await self._admit(call, listener, deadline)

    async def prepare_sent_call(self, call: Call) -> PreparedCall:
        """A call without files that was sent, as its answer is read. Nothing is refused that concerns requests alone.

        Its model may have retired since, left the list, or lost a capability; its answer is billed nevertheless.

        Raises:
            RequestError: It has a schema that this version does not take.
        """
        catalog = await self._model_list.get_catalog()
        model = catalog.model_of_id(call.model)
        schema = None
        if call.schema is not None:
            takes_schema = model.structured_outputs or model.accepts_forced_tool
            schema = OutputSchema(call.schema, model if takes_schema else replace(model, structured_outputs=True))
        return PreparedCall(call=call, model=model, output_schema=schema)

    async def _admit(self, call: Call, listener: Listener | None, deadline: CallDeadline) -> PreparedCall:
        self._check_budget(call)
        await self._claude.get_client()
        model = await self._resolve_model(call)
        if call.batch:
            _check_batch(call, model, self._claude.platform.title, self._claude.platform.unsupported)
        schema = None if call.schema is None else OutputSchema(call.schema, model)
        _check_tools_beside_schema(call, model, schema)
        fallback = await self._admit_fallback(call, model, schema)
        if schema is not None:
            call = replace(call, prompt=schema.add_instruction(call.prompt), notes=(*call.notes, *schema.notes))
        call = replace(call, model=model.id)
        if call.files:
            call = await self._read_files(call, model, listener)
        return PreparedCall(
            call=call,
            model=model,
            output_schema=schema,
            fallback=fallback,
            thinking_display=self._thinking_display(call),
            deadline=deadline,
        )

    def _thinking_display(self, call: Call) -> ThinkingDisplay:
        """The display of thinking. A summary delays the first text, so it is the default only if a person watches."""
        if self._settings.thinking_display != "auto":
            return self._settings.thinking_display
        return "summarized" if call.shows_status and self._claude.is_anthropic_address else ""

    def _check_budget(self, call: Call) -> None:
        budgeted = self._settings.budget_usd_per_day is not None or call.limits.usd_per_day is not None
        if budgeted and not self._store.is_current():
            raise ConfigurationError(f"A budget is set, but it cannot be kept. {self._store.last_error}", kind="store")

    async def _resolve_model(self, call: Call) -> ClaudeModel:
        """The model that a call names, checked for the call's arguments."""
        catalog = await self._model_list.get_catalog()
        platform = self._claude.platform
        model = catalog.resolve_model(call.model, default=self._settings.model or "sonnet")
        model = model.without_features(platform.unsupported_for(model.id))
        platform.check_call(call)
        models.check_model_accepts(model, effort=call.effort, max_tokens=call.max_tokens, tools=call.tools)
        return model

    async def _admit_fallback(self, call: Call, requested: ClaudeModel, schema: OutputSchema | None) -> FallbackModel:
        """The configured fallback model, checked for this call in the same way as the requested model."""
        name = self._settings.fallback_model
        if not name:
            return FallbackModel()
        try:
            model = await self._resolve_model(replace(call, model=name))
            if schema is not None:
                _check_tools_beside_schema(call, model, schema.for_model(model))
        except CallError as failure:
            return FallbackModel.unavailable(name, failure)
        return FallbackModel() if model.id == requested.id else FallbackModel(model=model)

    async def _check_file_ids(self, call: Call) -> None:
        """Refuse ids of the Files API that were not issued to this user, where the policy asks for that.

        "Never take a `file_id` from end users": every file can be read in the whole workspace
        (https://platform.claude.com/docs/en/build-with-claude/files, as documented by November 2026).
        """
        named = () if self._file_policy.any_file_id else files.named_file_ids(call.files)
        if not named:
            return
        with store_errors_as("The file ids could not be checked"):
            issued = await self._store.write(output_file_records.issued_file_ids, named, call.user)
        if foreign := [file_id for file_id in named if file_id not in issued]:
            raise RequestError(
                f"{foreign[0]} is not a file that this server issued to you. Send the file's content, or name its path "
                "or its https URL. The operator can allow other ids (MCP_CLAUDE_ALLOW_FILE_IDS).",
                kind="not_found",
            )

    async def _read_files(self, call: Call, model: ClaudeModel, listener: Listener | None) -> Call:
        """The call with attachments in place of files."""
        await self._check_file_ids(call)
        names = await self._output_files.replace_names(call.files, call.user, self._file_policy.max_file_bytes)
        policy = self._uploads.file_policy_for(self._file_policy, call)
        limit = files.RunLimit()
        read = partial(
            files.build_attachments, names, policy, images=model.images, pdf=model.pdf, model=model.id, limit=limit
        )
        try:
            attachments = await anyio.to_thread.run_sync(read, abandon_on_cancel=True)
        finally:
            limit.cancel()
        blocks = await self._uploads.upload_blocks(attachments, call, listener)
        call = replace(call, files=(), attachments=blocks, notes=(*call.notes, *attachments.notes))
        self._claude.platform.check_call(call)
        return call


def _check_batch(call: Call, model: ClaudeModel, platform: str, unsupported: frozenset[str]) -> None:
    """Refuse what a message batch does not take: it has nobody who could run tools, and no conversation waits for it.

    Raises:
        RequestError: The call asks for it, or there are no batches here.
    """
    if "batch" in unsupported:
        raise RequestError(
            f"{platform}, which this server uses, has no message batches. Ask without batch.", kind="unsupported"
        )
    if not model.batch:
        raise RequestError(
            f"{model.id} cannot be asked in a batch. Ask without batch, or another model.", kind="unsupported"
        )
    if call.thread or call.history:
        raise RequestError(
            "batch and thread cannot be combined: the answer may take 24 hours. Ask without one of them.",
            kind="unsupported",
        )
    if "read" in call.tools:
        raise RequestError(
            'batch and tools=["read"] cannot be combined: nobody could run the tool. Name the files instead.',
            kind="unsupported",
        )


def _check_tools_beside_schema(call: Call, model: ClaudeModel, schema: OutputSchema | None) -> None:
    """Refuse tools where the schema itself is a tool that Claude must call.

    Raises:
        RequestError: The model has no structured outputs, and the call asks for tools too.
    """
    if call.tools and schema is not None and schema.uses_answer_tool:
        raise RequestError(
            f"schema and tools cannot be combined with {model.id}: it has no structured outputs here. Ask with tools "
            "first, then for the JSON in the same thread, or ask another model.",
            kind="unsupported",
        )

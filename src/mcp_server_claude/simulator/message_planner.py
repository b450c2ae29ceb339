"""The planner of messages: checks one request, counts its input and plans the events of its answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mcp_server_claude.simulator import (
    answer_text,
    fallbacks,
    generated_text,
    model_catalog,
    random_faults,
    request_validation,
)
from mcp_server_claude.simulator.compaction import COMPACTION_BETA, check_compaction, summary_tokens
from mcp_server_claude.simulator.event_plan import DeclinedAttempt, build_event_plan
from mcp_server_claude.simulator.file_store import offers_code_execution
from mcp_server_claude.simulator.image_sizes import image_size, scaled_image_tokens
from mcp_server_claude.simulator.json_body import as_list, as_text
from mcp_server_claude.simulator.media_limits import check_media, image_data
from mcp_server_claude.simulator.rate_limits import RateLimiter
from mcp_server_claude.simulator.response_planning import plan_response
from mcp_server_claude.simulator.sampling_iterations import (
    SamplingIteration,
    compacted_usage,
    compaction_iteration,
    tool_loop_usage,
)
from mcp_server_claude.simulator.server_tools import CodeRun, result_tokens, search_count
from mcp_server_claude.simulator.thinking_binding import (
    BINDING_BETA,
    CheckedThinking,
    ThinkingContext,
    account_name,
    check_thinking,
    with_url_contents,
)
from mcp_server_claude.simulator.token_counting import (
    InputUsage,
    PromptCache,
    count_input_tokens,
    flat_image_tokens,
    token_count,
)
from mcp_server_claude.simulator.tool_changes import check_tool_changes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp_server_claude.simulator.answer_text import ScriptedAnswer
    from mcp_server_claude.simulator.api_errors import ApiError
    from mcp_server_claude.simulator.catalog_model import CatalogModel
    from mcp_server_claude.simulator.event_plan import EventPlan, ResponsePlan
    from mcp_server_claude.simulator.fallbacks import FallbackCredit
    from mcp_server_claude.simulator.file_store import FileStore
    from mcp_server_claude.simulator.json_body import Object
    from mcp_server_claude.simulator.model_catalog import ModelList
    from mcp_server_claude.simulator.prompt_directives import Directive
    from mcp_server_claude.simulator.random_faults import RandomFaults
    from mcp_server_claude.simulator.rate_limits import RateLimits
    from mcp_server_claude.simulator.request_log import LoggedRequest

EXTENDED_OUTPUT_BETA = "output-300k-2026-03-24"
EXTENDED_OUTPUT_TOKENS = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerConfig:
    """The behavior of models where a prompt does not choose another."""

    models: ModelList
    today: str
    rate_limits: RateLimits
    delta_chars: int
    default_thinking: bool
    enforce_thinking_binding: bool
    new_account: bool
    inference_geo: str
    defaults: Directive
    random_faults: RandomFaults


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedRequest:
    """A message request that has passed every check, with the thinking that the API drops already left out."""

    body: Object
    model: CatalogModel
    key: str
    betas: str
    checked: CheckedThinking
    answer: ScriptedAnswer
    credit: FallbackCredit | None = None
    is_batch: bool = False

    @property
    def directive(self) -> Directive:
        return self.answer.directive

    @property
    def failure(self) -> ApiError | None:
        """The HTTP error with which the directive wants the request to fail, if any."""
        return random_faults.directed_error(self.answer.directive)


class MessagePlanner:
    """The models of the API, with their prompt cache and their count of faults."""

    def __init__(self, config: PlannerConfig, files: FileStore) -> None:
        self._config = config
        self._files = files
        self._cache = PromptCache()
        self._rate_limiter = RateLimiter(config.rate_limits)
        self._fault_counts: Counter[str] = Counter()
        self._url_versions: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget every cached prefix and count of faults, and fill the buckets of the rate limits."""
        self._cache.clear()
        self._rate_limiter.clear()
        self._fault_counts.clear()

    def change_url_content(self, url: str) -> None:
        """Let other bytes be behind a URL from now on."""
        self._url_versions[url.partition("?")[0]] += 1

    def answer_to(self, body: Object) -> str:
        """The text this API would say now to a request, with `max_tokens` and stops, without faults."""
        found = self._limit_repeats(answer_text.plan_answer(body, self._config.defaults), count_attempt=False)
        model = model_catalog.find_model(as_text(body.get("model")), self._config.models)
        if model is None:
            return found.text
        model = self._with_default_thinking(model)
        return plan_response(body, found, model, input_usage=InputUsage(uncached=0)).text

    def count_tokens(self, body: Object, key: str, headers: Mapping[str, str]) -> int:
        """The input tokens of a request, as `count_tokens` returns them.

        Raises:
            RequestRejectedError: The API does not take the request.
        """
        model = request_validation.requested_model(body, self._config.models, self._config.today)
        version = request_validation.requested_version(headers)
        request_validation.check_request(body, model, version, counting=True)
        check_tool_changes(body, model, headers.get("anthropic-beta", ""))
        self._files.check_references(body, counting=True)
        check_media(body, model, self._stored_file)
        checked = self._drop_invalid_thinking(body, model, key, headers, is_batch=False)
        return count_input_tokens(checked.body, partial(self._tokens_of_image, model))

    def accept(
        self, body: Object, key: str, headers: Mapping[str, str], record: LoggedRequest, *, is_batch: bool = False
    ) -> AcceptedRequest:
        """Check a request and choose what becomes of it; `record` learns its model and fault.

        Raises:
            RequestRejectedError: The API does not take the request.
            InvalidDirectiveError: The prompt holds a directive that cannot be read.
        """
        version = request_validation.requested_version(headers)
        model = self._with_default_thinking(
            request_validation.requested_model(body, self._config.models, self._config.today)
        )
        betas = headers.get("anthropic-beta", "")
        if is_batch and EXTENDED_OUTPUT_BETA in betas and model.takes_extended_output:
            model = replace(model, max_tokens=EXTENDED_OUTPUT_TOKENS)
        record.model = model.id
        record.speed = "fast" if body.get("speed") == "fast" and model.fast_mode != "ignored" else "standard"
        if not is_batch:
            self._check_rate_limits(key, model, record)
        request_validation.check_request(body, model, version)
        request_validation.check_service(body, model, self._config.today, betas)
        self._files.check_references(body)
        check_media(body, model, self._stored_file)
        check_compaction(body, model, betas)
        check_tool_changes(body, model, betas)
        fallbacks.check_fallbacks(body, model, betas)
        credit = fallbacks.redeem_credit(body, model, betas, account_name(key))
        checked = self._drop_invalid_thinking(body, model, key, headers, is_batch=is_batch)
        length = count_input_tokens(checked.body, partial(self._tokens_of_image, model))
        request_validation.check_prompt_length(length, model)
        found = self._limit_repeats(answer_text.plan_answer(body, self._config.defaults), count_attempt=True)
        chosen = self._config.random_faults.apply_to(found.directive)
        found = replace(found, directive=chosen)
        record.fault, record.is_continuation = chosen.fault, found.resumed
        return AcceptedRequest(
            body=body,
            model=model,
            key=key,
            betas=betas,
            checked=checked,
            answer=found,
            credit=credit,
            is_batch=is_batch,
        )

    def plan(self, request: AcceptedRequest, record: LoggedRequest) -> tuple[EventPlan, InputUsage]:
        """Charge the input of a request and plan its answer; `record` learns what the bill needs."""
        used = fallbacks.with_credit(self._charge_input(request, request.model, record), request.credit)
        part = self._with_compaction(self._plan_answer(request, request.answer, request.model, used), request)
        answering = request.model
        if part.stop_reason == "refusal":
            answering, part = self._plan_fallback(request, part, record)
        part = self._with_files_and_container(part, request.body)
        results = [tokens for use in part.server_tool_uses if (tokens := result_tokens(use)) is not None]
        part = replace(part, final_usage=tool_loop_usage(part.input_usage, results))
        if BINDING_BETA in request.betas:
            part = replace(part, input_transformations=request.checked.transformations)
        if request.is_batch:
            part = replace(part, service_tier="batch")
        if part.speed is not None:
            part = replace(part, speed=record.speed)
        record.inference_geo, record.refusal_category = part.inference_geo, part.refusal_category
        record.service_tier = part.service_tier
        context = ThinkingContext(
            model=answering,
            account=account_name(request.key),
            body=with_url_contents(request.body, self._url_versions),
            previous=request.checked.previous,
        )
        record.web_searches = search_count(part.server_tool_uses)
        plan = build_event_plan(part, context, record.request_id)
        if not request.is_batch:
            account, is_fast = account_name(request.key), record.speed == "fast"
            self._rate_limiter.charge(account, request.model, used, plan.output_tokens, is_fast=is_fast)
            record.rate_limit_headers = self._rate_limiter.headers(account, request.model, is_fast=is_fast)
        return plan, part.input_usage

    def _charge_input(self, request: AcceptedRequest, model: CatalogModel, record: LoggedRequest) -> InputUsage:
        count_image = partial(self._tokens_of_image, model)
        return self._cache.charge(request.checked.body, model, f"{request.key}\0{record.speed}", count_image)

    def _plan_answer(
        self, request: AcceptedRequest, answer: ScriptedAnswer, model: CatalogModel, used: InputUsage
    ) -> ResponsePlan:
        part = plan_response(
            request.body,
            answer,
            model,
            input_usage=used,
            betas=request.betas,
            delta_chars=self._config.delta_chars,
            inference_geo=self._config.inference_geo,
        )
        has_beta = COMPACTION_BETA in request.betas or fallbacks.FALLBACK_BETA in request.betas
        return replace(part, shows_iterations=has_beta)

    def _with_compaction(self, part: ResponsePlan, request: AcceptedRequest) -> ResponsePlan:
        """The plan with a summary before its answer, where the request or its prompt asks for one."""
        tokens = summary_tokens(request.body, part.input_usage.total, request.directive.compact)
        if not tokens:
            return part
        question: Object = {**request.body, "messages": as_list(request.checked.body.get("messages"))[-1:]}
        question_tokens = count_input_tokens(question, partial(self._tokens_of_image, request.model))
        return replace(
            part,
            summary=generated_text.generate_answer(request.answer.prompt, system="", turn_number=1, tokens=tokens),
            input_usage=compacted_usage(question_tokens, tokens),
            earlier_iterations=(compaction_iteration(request.model.id, part.input_usage, tokens),),
            shows_iterations=True,
        )

    def _plan_fallback(
        self, request: AcceptedRequest, refused: ResponsePlan, record: LoggedRequest
    ) -> tuple[CatalogModel, ResponsePlan]:
        """The answer of another model after a refusal, or the refusal with the credit that it carries."""
        model, used, account = request.model, refused.input_usage, account_name(request.key)
        name = fallbacks.requested_fallback(request.body, model, request.directive.fallback)
        answering = model_catalog.find_model(name, self._config.models)
        if answering is None:
            token = fallbacks.credit_token(request.body, model, request.betas, account, used)
            return model, replace(refused, credit_token=token, has_prefill_claim=bool(refused.text))
        answering = self._with_default_thinking(answering)
        answer = replace(request.answer, directive=replace(request.directive, stop=None, at=None))
        part = self._plan_answer(request, answer, answering, self._charge_input(request, answering, record))
        thought = refused.thinking.text if refused.thinking else ""
        declined = SamplingIteration(
            kind="message",
            model=model.id,
            input_usage=used,
            output_tokens=token_count(len(thought) + len(refused.text)),
            declined=True,
            declined_category=refused.refusal_category,
        )
        return answering, replace(
            part,
            model=answering.id,
            requested_model=refused.model,
            summary=refused.summary,
            declined=DeclinedAttempt(model=refused.model, text=refused.text, category=refused.refusal_category),
            earlier_iterations=(*refused.earlier_iterations, declined),
            shows_iterations=True,
        )

    def _check_rate_limits(self, key: str, model: CatalogModel, record: LoggedRequest) -> None:
        """Count a request against the rate limits, which `record` shows from now on.

        Raises:
            RequestRejectedError: A limit is reached.
        """
        account, is_fast = account_name(key), record.speed == "fast"
        record.rate_limit_headers = self._rate_limiter.headers(account, model, is_fast=is_fast)
        self._rate_limiter.charge_request(account, model, is_fast=is_fast)
        record.rate_limit_headers = self._rate_limiter.headers(account, model, is_fast=is_fast)

    def _stored_file(self, file_id: str) -> tuple[str, bytes]:
        file = self._files.get_file(file_id)
        return file.mime_type, file.data

    def _tokens_of_image(self, model: CatalogModel, block: Object) -> int:
        """The tokens of an image by its size; where only a URL is known, a flat number."""
        data = image_data(block, self._stored_file)
        size = None if data is None else image_size(data)
        if size is None:
            return flat_image_tokens(block)
        return scaled_image_tokens(size, takes_large_images=model.takes_large_images)

    def _with_default_thinking(self, model: CatalogModel) -> CatalogModel:
        """The model, which thinks without being asked only where the configuration keeps the documented default."""
        if self._config.default_thinking:
            return model
        return replace(model, thinks_by_default=model.always_thinks)

    def _drop_invalid_thinking(
        self, body: Object, model: CatalogModel, key: str, headers: Mapping[str, str], *, is_batch: bool
    ) -> CheckedThinking:
        """The request without the thinking that the API drops.

        Raises:
            RequestRejectedError: A thinking block is not valid here.
        """
        if not self._config.enforce_thinking_binding:
            return CheckedThinking(body=body)
        return check_thinking(
            with_url_contents(body, self._url_versions),
            model,
            account=account_name(key),
            betas=headers.get("anthropic-beta", ""),
            new_account=self._config.new_account,
            is_batch=is_batch,
        )

    def _with_files_and_container(self, part: ResponsePlan, body: Object) -> ResponsePlan:
        """The plan with the stored files that its code makes, and the container in which it runs."""
        runs = any(isinstance(use, CodeRun) for use in part.server_tool_uses)
        uses = tuple(
            replace(
                use,
                output_file_ids=()
                if use.is_pending
                else tuple(map(self._files.store_tool_output, use.output_file_ids)),
            )
            if isinstance(use, CodeRun)
            else use
            for use in part.server_tool_uses
        )
        container = self._files.open_container(body.get("container")) if runs and offers_code_execution(body) else None
        return replace(part, server_tool_uses=uses, container=container)

    def _limit_repeats(self, answer: ScriptedAnswer, *, count_attempt: bool) -> ScriptedAnswer:
        """The answer, without its fault, or else its stop, once that has happened as often as asked."""
        chosen = answer.directive
        stop = chosen.stop if chosen.stop != "pause_turn" else None
        if chosen.times is None or (chosen.fault is None and stop is None and chosen.batch is None):
            return answer
        if self._fault_counts[answer.conversation] >= chosen.times:
            lasting = chosen.stop if stop is None or chosen.fault is not None else None
            return replace(answer, directive=replace(chosen, fault=None, batch=None, stop=lasting))
        self._fault_counts[answer.conversation] += count_attempt
        return answer

"""`claude_info`: what there is to ask, what was spent, how this server is set up. Small tables, nothing billed."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal, assert_never

import anyio.to_thread
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import Field

from mcp_server_claude import __version__, number_formatting, pricing
from mcp_server_claude.errors import ConfigurationError, RequestError
from mcp_server_claude.server import tool_results
from mcp_server_claude.server.panel.panel_tool import PANEL_META
from mcp_server_claude.server.strict_tool import READ_ONLY_HINTS, RESULT_META, StrictTool
from mcp_server_claude.server.tool_dependencies import ServicesDep, UserDep
from mcp_server_claude.settings_sources import variable_name

if TYPE_CHECKING:
    from mcp_server_claude.anthropic_api.models import ClaudeModel
    from mcp_server_claude.services.service_access import ServiceAccess
    from mcp_server_claude.settings import Settings
    from mcp_server_claude.store.request_ledger import UsageSummary
    from mcp_server_claude.users.user import User

TIME_SPAN = re.compile(r"^(\d{1,4})\s*([hdw])$")
URL_USERINFO = re.compile(r"//[^/?#\s]*@")
HOURS_PER_UNIT = {"h": 1, "d": 24, "w": 168}
USAGE_COLUMNS = ("requests", "failed", "in", "cached", "out", "cost")
PUBLIC_SETTINGS = (
    "model",
    "deadline_s",
    "detach_after_s",
    "max_body_bytes",
    "max_files",
    "fallback_model",
    "inline_chars",
    "platform",
    "progress",
    "retention_days",
)
"""The settings that concern the user; the others are between the operator and the machine."""


async def claude_info(
    about: Annotated[Literal["models", "usage", "budget", "config"], Field(description="What to show.")] = "usage",
    since: Annotated[
        str, Field(description="For usage: today, 24h, 7d, or a date such as 2026-11-01 (UTC).")
    ] = "today",
    *,
    services: ServicesDep,
    user: UserDep,
) -> CallToolResult:
    """Show the models with limits and prices, the tokens and dollars spent, what is left of the day's budget, or this
    server's configuration.
    """
    match about:
        case "models":
            return tool_results.text_result(await models_table(services))
        case "usage":
            return tool_results.text_result(await usage_table(services, user, since))
        case "budget":
            return tool_results.text_result(await budget_text(services, user))
        case "config":
            return tool_results.text_result(await config_text(services, user))
        case _:
            assert_never(about)


def info_tool() -> StrictTool:
    """The tool as clients see it."""
    return StrictTool.for_function(
        claude_info,
        title="Claude: models, usage, configuration",
        annotations=ToolAnnotations(title="Claude info", open_world_hint=False, **READ_ONLY_HINTS),
        meta=RESULT_META
        | PANEL_META
        | {"anthropic/searchHint": "claude models prices cost spend usage budget configuration"},
    )


async def models_table(services: ServiceAccess) -> str:
    """A table of the models that can be asked, newest first."""
    catalog = await services.model_catalog()
    rows = [_model_row(model) for model in catalog.callable_models]
    head = ("model", "line", "context", "max out", "effort", "can", "$ in/out per MTok", "note")
    source = {"api": "the Models API", "disk": "the Models API, kept on disk", "file": "this package's own list"}
    text = f"From {source[catalog.source]}, {catalog.as_of}. Prices: {pricing.price_list_version()}."
    if catalog.source == "file":
        text += " The API gave no list of models; other ids are passed on as they are given."
        if services.settings.platform != "anthropic":
            text += f" Without what {services.settings.platform} lacks (MCP_CLAUDE_PLATFORM)."
    return f"{tool_results.markdown_table(head, rows)}\n\n{text}"


async def usage_table(services: ServiceAccess, user: User, since: str) -> str:
    """Usage since a moment by model, with a total: the user's own, or everybody's for an operator."""
    from mcp_server_claude.server.ledger_queries import read_spending

    moment = parse_since(since)
    store = services.store
    everybody = user.role == "operator"
    spent = await read_spending(services, moment.timestamp(), None if everybody else user.name)
    text = f"Since {moment:%Y-%m-%d %H:%M} UTC."
    if store.last_error and everybody:
        text += f" {store.last_error}"
    if not spent.by_model:
        return f"No usage. {text}"
    rows = [_usage_row(total.model or "(none)", total) for total in spent.by_model]
    if len(rows) > 1:
        rows.append(_usage_row("total", spent.total))
    tables = [tool_results.markdown_table(("model", *USAGE_COLUMNS), rows)]
    if everybody and len(spent.by_user) > 1:
        tables.append(
            tool_results.markdown_table(
                ("user", *USAGE_COLUMNS), [_usage_row(total.user, total) for total in spent.by_user]
            )
        )
    return "\n\n".join([*tables, text])


async def budget_text(services: ServiceAccess, user: User) -> str:
    """The rest of the day's budgets and their reset: the user's own, or all for an operator."""
    from mcp_server_claude.server.ledger_queries import read_budgets

    budgets, reset_at = await read_budgets(services, user)
    anew = f"It resets at {reset_at:%Y-%m-%d %H:%M} UTC."
    if not budgets:
        setting = " (MCP_CLAUDE_BUDGET_USD_PER_DAY)" if user.role == "operator" else ""
        return f"There is no daily budget{setting}; max_usd limits a single call."
    rows = [(each.owner, *number_formatting.format_distinct_usd(each.left_usd, each.usd_per_day)) for each in budgets]
    if len(rows) == 1:
        ((_, left, cap),) = rows
        return f"{left} of {cap} is left for today, with running calls at their maximum cost. {anew}"
    table = tool_results.markdown_table(("budget", "left today", "a day"), rows)
    return f"{table}\n\nRunning calls are counted at their maximum cost. {anew}"


async def config_text(services: ServiceAccess, user: User) -> str:
    """Every setting with its source, secrets masked, and which key is in use. Paths and keys only for an operator."""
    settings = services.settings
    lines = [f"mcp-server-claude {__version__}"]
    names = [name for name in type(settings).model_fields if user.role == "operator" or name in PUBLIC_SETTINGS]
    if user.role != "operator":
        rows = [(variable_name(name), _mask_secrets(getattr(settings, name))) for name in names]
        return "\n".join(lines) + "\n\n" + tool_results.markdown_table(("setting", "value"), rows)
    store = services.store
    if settings.platform == "anthropic":
        lines += _platform_lines(settings)
    else:  # a cloud's configuration is read from files, and its package is imported
        lines += await anyio.to_thread.run_sync(_platform_lines, settings)
    lines.append(f"ledger: {store.location if store.durable else store.last_error}")
    lines += [f"problem: {problem}" for problem in settings.problems]
    rows = [(variable_name(name), _mask_secrets(getattr(settings, name)), settings.source_of(name)) for name in names]
    return "\n".join(lines) + "\n\n" + tool_results.markdown_table(("setting", "value", "from"), rows)


def parse_since(since: str, now: float | None = None) -> datetime:
    """The moment that `today`, `24h`, `7d`, `2w` or a date means, in UTC.

    Raises:
        RequestError: It is none of these.
    """
    present = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    word = since.strip().lower()
    if word in {"", "today"}:
        return present.replace(hour=0, minute=0, second=0, microsecond=0)
    if ago := TIME_SPAN.match(word):
        return present - timedelta(hours=int(ago[1]) * HOURS_PER_UNIT[ago[2]])
    try:
        moment = datetime.fromisoformat(word.upper())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RequestError("since must be today, a span such as 24h or 7d, or a date such as 2026-11-01.") from None


def _model_row(model: ClaudeModel) -> tuple[str, ...]:
    rates = pricing.find_rates(model.id)
    can = [
        name
        for name, able in (
            ("think", bool(model.thinking_types - {"disabled"})),
            ("image", model.images),
            ("pdf", model.pdf),
            ("schema", model.structured_outputs),
            ("web", model.web_search),
            ("code", model.code_execution),
            ("batch", model.batch),
        )
        if able
    ]
    return (
        model.id,
        model.line or "-",
        number_formatting.format_tokens(model.context_tokens) if model.context_tokens else "?",
        number_formatting.format_tokens(model.max_output_tokens) if model.max_output_tokens else "?",
        _effort_range(model),
        " ".join(can),
        f"{rates.input.normalize():f}/{rates.output.normalize():f}" if rates else "unknown",
        model.lifecycle_note or "-",
    )


def _effort_range(model: ClaudeModel) -> str:
    return f"{model.efforts[0]}…{model.efforts[-1]}" if len(model.efforts) > 1 else "".join(model.efforts) or "-"


def _usage_row(name: str, total: UsageSummary) -> tuple[str, ...]:
    cost = number_formatting.format_usd(total.cost_micros / 1_000_000)
    if total.unpriced:
        cost += f" (+ {total.unpriced} without a known price)"
    return (
        name,
        str(total.requests),
        str(total.failures),
        number_formatting.format_tokens(total.input_tokens + total.cache_creation_input_tokens),
        number_formatting.format_tokens(total.cache_read_input_tokens),
        ("~" if total.estimated else "") + number_formatting.format_tokens(total.output_tokens),
        cost,
    )


def _platform_lines(settings: Settings) -> list[str]:
    """The platform, and the key that is sent there."""
    from mcp_server_claude.anthropic_api.platforms import PLATFORMS, find_credential

    try:
        credential = find_credential(settings)
    except ConfigurationError as failure:
        return [f"platform: {PLATFORMS[settings.platform].title}", f"key: none. {failure}"]
    warning = f" {credential.warning}" if credential.warning else ""
    key = f"key: from {credential.source}, sent to {_mask_secrets(credential.base_url)}.{warning}"
    return [f"platform: {PLATFORMS[settings.platform].description(credential)}", key]


def _mask_secrets(value: object) -> str:
    """A value for anyone's eyes: a SecretStr prints as asterisks, and so does what a URL has before its host."""
    return "(not set)" if value is None or value == "" else URL_USERINFO.sub("//***@", str(value))

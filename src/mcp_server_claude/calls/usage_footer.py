"""The line that ends an answer: its model, tokens, cost and time, the same over MCP and at the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server_claude import number_formatting, pricing

if TYPE_CHECKING:
    from mcp_server_claude.call_types import Usage


def usage_footer(usage: Usage, notes: tuple[str, ...] = ()) -> str:
    """One line on what an answer took: `[claude-opus-5-5 · 1.2k in (48k cached) · 900 out · $0.031 · 12 s]`."""
    parts = [
        usage.model or "claude",
        f"{number_formatting.format_tokens(usage.input_tokens + usage.cache_creation_input_tokens)} in",
    ]
    if usage.cache_read_input_tokens:
        parts[-1] += (
            f" ({number_formatting.format_tokens(usage.cache_read_input_tokens)} cached{_cache_saving_text(usage)})"
        )
    parts.append(f"{'~' if usage.estimated else ''}{number_formatting.format_tokens(usage.output_tokens)} out")
    if usage.web_searches:
        parts.append(number_formatting.format_count(usage.web_searches, "search", "searches"))
    parts.append(number_formatting.format_usd(usage.cost_usd) if usage.cost_usd is not None else "price unknown")
    parts.extend(usage.service_notes)
    parts.append(number_formatting.format_seconds(usage.duration_s))
    if usage.retries:
        parts.append(number_formatting.format_count(usage.retries, "retry", "retries"))
    if usage.thread:
        parts.append(f"thread {usage.thread}")
    if usage.call_id:
        parts.append(usage.call_id)
    parts.extend(notes)
    return f"[{' · '.join(parts)}]"


def _cache_saving_text(usage: Usage) -> str:
    """The amount that cache reads saved over sending the same tokens again."""
    rates = pricing.find_rates(usage.model, fast=usage.speed == "fast", regional=usage.is_regional)
    if rates is None:
        return ""
    dollars = float(usage.cache_read_input_tokens * (rates.input - rates.cache_read)) / 1e6
    return f", saved {number_formatting.format_usd(dollars)}"

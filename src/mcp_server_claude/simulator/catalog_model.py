"""One model of the simulator: its limits, the requests that it takes, its lifecycle, and its JSON.

The values follow Anthropic's documentation as of November 2026 (platform.claude.com/docs: "Models overview", "Model
deprecations", "Thinking", "Effort", "Prompt caching", "Preserved thinking", "Mid-conversation system messages", "Fast
mode", "Images and vision"). docs/simulator.md names the age of each rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mcp_server_claude.simulator.json_body import Object

PrefixCheck = Literal["none", "new_accounts", "every_account"]
"""The accounts on which a model rejects thinking whose prefix has changed, where the request does not choose."""

MILLION_TOKENS = 1_000_000
FIRST_LARGE_IMAGE_DAY = "2026-04-16"
ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")
FOUR_EFFORTS = ("low", "medium", "high", "max")
THREE_EFFORTS = ("low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogModel:
    """One model: identity, limits (in tokens) and the requests that it takes.

    `created_on`, `deprecated_on`, `retires_on` and `fast_mode_ends_on` are days (`YYYY-MM-DD`, UTC). `fast_mode` is
    `beta` where `speed: "fast"` needs a beta header, `ignored` where such a request runs at standard speed.
    """

    id: str
    display_name: str
    line: str
    created_on: str
    max_input_tokens: int = MILLION_TOKENS
    max_tokens: int = 128_000
    efforts: tuple[str, ...] = ()
    default_effort: str = "high"
    thinking: tuple[str, ...] = ("adaptive", "disabled")
    always_thinks: bool = False
    thinks_by_default: bool = False
    omits_thinking: bool = True
    prefix_check: PrefixCheck = "none"
    binds_account: bool = False
    forced_tools: bool = True
    system_messages: bool = False
    inference_geo: bool = True
    prefill: bool = False
    min_cacheable_tokens: int = 1024
    fast_mode: Literal["none", "available", "beta", "ignored"] = "none"
    fast_mode_ends_on: str | None = None
    deprecated_on: str | None = None
    retires_on: str | None = None
    aliases: tuple[str, ...] = ()
    images: bool = True
    pdf: bool = True
    structured_outputs: bool = True
    web_search: bool = True
    code_execution: bool = True
    programmatic_calls: bool = True

    @property
    def takes_large_images(self) -> bool:
        """True from Claude Opus 4.7 on: images of up to 2,576 pixels a side are not scaled down."""
        return self.created_on >= FIRST_LARGE_IMAGE_DAY

    @property
    def max_media(self) -> int:
        """The most images, and the most PDF pages, of a request."""
        return 600 if self.max_input_tokens >= MILLION_TOKENS else 100

    @property
    def rate_limit_class(self) -> str:
        """The models that share a rate limit: Opus 4 and Sonnet 4 each together, every later model on its own."""
        family = f"claude-{self.line}-4"
        return family if self.id.startswith(family) else self.id

    def lifecycle_on(self, day: str) -> Literal["active", "deprecated", "retired"]:
        """The state of the model on a day (`YYYY-MM-DD`)."""
        if self.retires_on is None:
            return "active"
        return "retired" if self.retires_on <= day else "deprecated"

    def takes_fast_mode(self, day: str) -> bool:
        """True when the model serves `speed: "fast"` on that day (`YYYY-MM-DD`)."""
        ended = self.fast_mode_ends_on is not None and self.fast_mode_ends_on <= day
        return self.fast_mode in {"available", "beta"} and not ended

    @property
    def takes_programmatic_calls(self) -> bool:
        """True when code that this model runs may call its other tools (Claude 4.6 and later)."""
        return self.programmatic_calls and self.code_execution

    @property
    def takes_extended_output(self) -> bool:
        """True when a batch may ask this model for 300,000 tokens (beta): Opus and Sonnet from 4.6, Haiku 5.5."""
        return self.line in {"opus", "sonnet", "haiku"} and not self.prefill

    def takes_server_tool(self, tool_type: str) -> bool:
        """True when this model takes a server tool of that type; from 2026 on, code runs those of the web."""
        if tool_type.startswith(("web_search", "web_fetch")):
            return self.web_search and (self.takes_programmatic_calls or "_2026" not in tool_type)
        return self.code_execution or not tool_type.startswith("code_execution")


def model_json(model: CatalogModel, day: str) -> Object:
    """The model as `GET /v1/models/{id}` returns it on a day (`YYYY-MM-DD`)."""
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.display_name,
        "created_at": _timestamp(model.created_on),
        "lifecycle": model.lifecycle_on(day),
        "deprecated_at": _timestamp(model.deprecated_on),
        "retires_at": _timestamp(model.retires_on),
        "line": model.line or None,
        "max_input_tokens": model.max_input_tokens,
        "max_tokens": model.max_tokens,
        "capabilities": _capabilities(model),
    }


def _timestamp(day: str | None) -> str | None:
    return f"{day}T00:00:00Z" if day else None


def _capabilities(model: CatalogModel) -> Object:
    yes: Object = {"supported": True}
    effort: Object = {level: {"supported": level in model.efforts} for level in ALL_EFFORTS}
    types: Object = {
        kind: {"supported": kind in model.thinking} for kind in ("adaptive", "between_tools", "disabled", "enabled")
    }
    return {
        "batch": yes,
        "citations": yes,
        "code_execution": {"supported": model.takes_programmatic_calls},
        "context_management": {
            "supported": True,
            "clear_thinking_20251015": yes,
            "clear_tool_uses_20250919": yes,
            "compact_20260112": {"supported": not model.prefill},
        },
        "effort": {"supported": bool(model.efforts)} | effort,
        "image_input": {"supported": model.images},
        "pdf_input": {"supported": model.pdf},
        "server_tools": {
            "supported": model.web_search or model.code_execution,
            "code_execution": {"supported": model.code_execution},
            "web_search": {"supported": model.web_search},
        },
        "structured_outputs": {"supported": model.structured_outputs},
        "thinking": {"supported": True, "types": types},
    }

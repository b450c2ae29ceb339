"""Whether an event of a stream has the shape that its type says. The SDK builds its models without validating them.

So a gateway's `message_start` without a message arrives as an object that only looks like one.
"""

from __future__ import annotations

from typing import cast

TEXT_FIELD_BY_DELTA = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
}
"""The field of each kind of delta that must be text."""


def is_valid_event(event: object) -> bool:
    """Whether what `Answer` reads of an event is there. Types that the API may add are let through."""
    match getattr(event, "type", None):
        case "content_block_delta":
            return _has_index(event) and _is_valid_delta(getattr(event, "delta", None))
        case "content_block_start":
            return _has_index(event) and _is_sdk_model(getattr(event, "content_block", None))
        case "content_block_stop":
            return _has_index(event)
        case "message_start":
            message = getattr(event, "message", None)
            content: object = getattr(message, "content", None) or []
            return (
                _is_sdk_model(message)
                and isinstance(content, list)
                and all(map(_is_sdk_model, cast("list[object]", content)))
            )
        case kind:
            return isinstance(kind, str)


def _is_valid_delta(delta: object) -> bool:
    kind = getattr(delta, "type", None)
    if not isinstance(kind, str):
        return False
    if name := TEXT_FIELD_BY_DELTA.get(kind):
        return isinstance(getattr(delta, name, None), str)
    return kind != "citations_delta" or _is_sdk_model(getattr(delta, "citation", None))


def _has_index(event: object) -> bool:
    return isinstance(getattr(event, "index", None), int)


def _is_sdk_model(part: object) -> bool:
    """Whether a part is a model of the SDK, which a JSON object has become."""
    return hasattr(part, "model_dump")

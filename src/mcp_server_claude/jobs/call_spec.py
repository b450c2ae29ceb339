"""A call as the spec of a job: the JSON values from which another process makes the same call."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from mcp_server_claude.call_types import Call, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

SPEC_FIELDS = (
    "prompt",
    "system",
    "model",
    "effort",
    "max_tokens",
    "max_usd",
    "thread",
    "starts_thread",
    "tools",
    "files",
    "schema",
    "tool",
    "source",
    "client",
    "user",
    "trace_id",
    "project",
    "batch",
)
"""The fields of a call that its client decides, and its user. The rest is made when the call is prepared."""


def spec_of_call(call: Call, project: str = "") -> dict[str, object]:
    """The spec from which `call_from_spec` makes the call again. `project` is that of a call which names none."""
    spec: dict[str, object] = {name: getattr(call, name) for name in SPEC_FIELDS}
    spec["project"] = call.project or project
    return spec | {"tools": list(call.tools), "files": list(call.files), "limits": asdict(call.limits)}


def approval_digest(call: Call, *further: object) -> str:
    """The digest by which a repeated call is recognized: all that its client decides, and its user.

    `further` are JSON values that belong to the call too, such as the items of a job.
    """
    parts = ({**spec_of_call(call), "trace_id": ""}, *further)
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def call_from_spec(spec: Mapping[str, object], **changes: object) -> Call:
    """A call with a new id, made from a spec and these changes. Fields of other versions are ignored."""
    values: dict[str, Any] = {name: spec[name] for name in SPEC_FIELDS if name in spec}
    for name in ("tools", "files"):
        values[name] = tuple(values.get(name, ()))
    limits = cast("dict[str, Any]", spec.get("limits", {}))
    known = Limits.__dataclass_fields__
    values["limits"] = Limits(**{name: value for name, value in limits.items() if name in known})
    return Call(**values, **cast("dict[str, Any]", changes))

from __future__ import annotations

import pytest

from mcp_server_claude.server.argument_tolerance import tolerated_arguments
from mcp_server_claude.server.progress_notifications import StatusLine
from mcp_server_claude.server.tools import build_tools

PROPERTIES = {
    "prompt": {"type": "string"},
    "model": {"type": "string"},
    "files": {"type": "array"},
    "schema": {"type": "object"},
    "dry_run": {"type": "boolean"},
    "max_usd": {"type": "number"},
    "effort": {"type": "string", "enum": ["low", "high"]},
    "tools": {"type": "array", "items": {"type": "string", "enum": ["web", "read"]}},
    "items": {"type": "array"},
    "thread": {"type": "string"},
    "id": {"type": "string"},
}


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ({"model": "null"}, {}),
        ({"model": None}, {}),
        ({"files": ["null"]}, {}),
        ({"files": '["a.py"]'}, {"files": ["a.py"]}),
        ({"files": '"[\\"a.py\\"]"'}, {"files": ["a.py"]}),
        ({"files": "a.py"}, {"files": ["a.py"]}),
        ({"files": "[locale]/a.py"}, {"files": ["[locale]/a.py"]}),
        ({"schema": '{"type": "object"}'}, {"schema": {"type": "object"}}),
        ({"schema": '"{\\"type\\": \\"object\\"}"'}, {"schema": {"type": "object"}}),
        ({"dry_run": "true"}, {"dry_run": True}),
        ({"max_usd": "0.5"}, {"max_usd": 0.5}),
        ({"prompt": "null", "model": '{"a": 1}'}, {"prompt": "null", "model": '{"a": 1}'}),
        ({"effort": "HIGH"}, {"effort": "high"}),
        ({"effort": ' "high" '}, {"effort": "high"}),
        ({"effort": "highest"}, {"effort": "highest"}),
        ({"model": '"opus"'}, {"model": "opus"}),
        ({"tools": "web,read"}, {"tools": ["web", "read"]}),
        ({"tools": ["WEB", " read"]}, {"tools": ["web", "read"]}),
        ({"tools": ["bash", 5]}, {"tools": ["bash", 5]}),
        ({"files": "a,b.py"}, {"files": ["a,b.py"]}),
        ({"items": "src/*.py"}, {"items": ["src/*.py"]}),
        ({"items": '["a", "b"]'}, {"items": ["a", "b"]}),
        ({"toolCallId": "x", "sessionId": "y", "action": "z", "chatInput": "w"}, {}),
        ({"wait_for_previous": True}, {}),
        ({"modle": "opus"}, {"modle": "opus"}),
        ({"thread": "claude://threads/t_1"}, {"thread": "t_1"}),
        ({"thread": "t_1", "id": "claude://calls/c_1?offset=10&limit=20"}, {"thread": "t_1", "id": "c_1"}),
        ({"id": "claude://jobs/j_1/output"}, {"id": "j_1"}),
        ({"id": "claude://nope/1"}, {"id": "claude://nope/1"}),
        ({"prompt": "claude://threads/t_1"}, {"prompt": "claude://threads/t_1"}),
    ],
)
def test_arguments_as_clients_send_them_are_understood(sent: dict[str, object], meant: dict[str, object]) -> None:
    assert tolerated_arguments(sent, PROPERTIES, ["prompt", "items"]) == meant


def test_no_enum_of_a_tool_has_an_empty_string() -> None:
    for tool in build_tools():
        for schema in tool.parameters["properties"].values():
            assert "" not in schema.get("enum", [])


def test_a_status_line_keeps_the_space_between_pieces() -> None:
    line = StatusLine()
    for piece in ("tea ", "for ", "two"):
        line.add_text(piece)
    assert line.render().endswith("tea for two")

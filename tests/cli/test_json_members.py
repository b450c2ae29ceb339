"""Members that are set within the text of a JSON object with comments."""

from __future__ import annotations

from typing import cast

import pytest

from mcp_server_claude.cli.json_members import append_element, parse_jsonc, set_member


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{\n  "a": {\n    "b": 1\n  }\n}'),
        ("{ }\n", '{\n  "a": {\n    "b": 1\n  }\n}\n'),
        ("{\n  // nothing\n}", '{\n  // nothing\n  "a": {\n    "b": 1\n  }\n}'),
        ('{"x": 2}', '{"x": 2,\n  "a": {\n    "b": 1\n  }\n}'),
        ('{\n    "x": 2\n}', '{\n    "x": 2,\n    "a": {\n        "b": 1\n    }\n}'),
        ('{\n\t"x": 2, // two, or more\n}', '{\n\t"x": 2, // two, or more\n\t"a": {\n\t\t"b": 1\n\t}\n}'),
        ('{\n  "x": 2 // two, or more\n}', '{\n  "x": 2, // two, or more\n  "a": {\n    "b": 1\n  }\n}'),
        ('{\n  "x": 2 /* , */ , /* } */\n}', '{\n  "x": 2 /* , */ , /* } */\n  "a": {\n    "b": 1\n  }\n}'),
        ('{"a": {"c": "// }, /* "}}', '{"a": {"c": "// }, /* ",\n    "b": 1\n  }}'),
        ('{"a": {"b": [1, 2,], "c": 3}}', '{"a": {"b": 1, "c": 3}}'),
        (
            '// "a": {"b": 5}\n{"a": {/* one */ "b": 0 /* zero */}}',
            '// "a": {"b": 5}\n{"a": {/* one */ "b": 1 /* zero */}}',
        ),
        ('{"a\\"": 0, "a": {"b": "\\\\"}}', '{"a\\"": 0, "a": {"b": 1}}'),
    ],
)
def test_a_member_is_set_and_all_other_text_stays(before: str, after: str) -> None:
    assert set_member(before, ("a", "b"), 1) == after
    expected = cast("dict[str, dict[str, object]]", parse_jsonc(before))
    expected.setdefault("a", {})["b"] = 1
    assert parse_jsonc(after) == expected
    assert set_member(after, ("a", "b"), 1) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{\n  "a": [\n    {\n      "b": 1\n    }\n  ]\n}'),
        ('{"a": []}', '{"a": [\n    {\n      "b": 1\n    }\n  ]}'),
        ('{\n  "a": [\n    // none\n  ]\n}', '{\n  "a": [\n    // none\n    {\n      "b": 1\n    }\n  ]\n}'),
        (
            '{\n  "a": [\n    // two\n    [2, "]"], // or more\n  ]\n}',
            '{\n  "a": [\n    // two\n    [2, "]"], // or more\n    {\n      "b": 1\n    }\n  ]\n}',
        ),
        (
            '{\n  "a": [\n    {"b": 0} /* zero */\n  ],\n  "c": 3\n}',
            '{\n  "a": [\n    {"b": 0}, /* zero */\n    {\n      "b": 1\n    }\n  ],\n  "c": 3\n}',
        ),
    ],
)
def test_an_element_is_appended_and_all_other_text_stays(before: str, after: str) -> None:
    assert append_element(before, "a", {"b": 1}) == after
    expected = cast("dict[str, list[object]]", parse_jsonc(before))
    expected.setdefault("a", []).append({"b": 1})
    assert parse_jsonc(after) == expected


def test_what_is_no_array_has_no_elements() -> None:
    with pytest.raises(ValueError, match="no array"):
        append_element('{"a": {}}', "a", 1)


@pytest.mark.parametrize("text", ['{"a": 1', '{"a": ', '{"a"', "{", '{"a": {"b": 1}', "", '{"a" 1}', '{"a": [1'])
def test_a_text_that_was_cut_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(ValueError, match="line 1 column"):
        set_member(text, ("a", "b"), 1)
    with pytest.raises(ValueError, match="line 1 column"):
        append_element(text, "a", 1)


@pytest.mark.parametrize("text", ["[]", "3", '{"a": 3}', '{"a": [1]}'])
def test_what_is_no_object_has_no_members(text: str) -> None:
    with pytest.raises(ValueError, match="no object"):
        set_member(text, ("a", "b"), 1)


@pytest.mark.parametrize("text", ["{", "{'a': 1}", '{"a": 1 /* }', "{,}", '{"a": 1,,}', "// {}", '{"a": "\n"}'])
def test_what_json_with_comments_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        parse_jsonc(text)

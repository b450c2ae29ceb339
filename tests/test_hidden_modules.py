"""Modules whose import fails for a while."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import pytest

from mcp_server_claude.hidden_modules import hide_modules

UNUSED = "this"
"""A module of the standard library that nothing imports."""


def test_a_hidden_module_cannot_be_imported_in_the_block_and_can_afterwards() -> None:
    assert UNUSED not in sys.modules
    with hide_modules(UNUSED), pytest.raises(ImportError):
        importlib.import_module(UNUSED)
    assert UNUSED not in sys.modules
    assert importlib.util.find_spec(UNUSED) is not None


def test_a_module_that_is_imported_already_stays() -> None:
    with hide_modules("json", UNUSED):
        assert sys.modules["json"] is importlib.import_module("json")
    assert sys.modules["json"] is importlib.import_module("json")


def test_hidden_modules_are_shown_again_after_an_error() -> None:
    with pytest.raises(LookupError), hide_modules(UNUSED):
        raise LookupError
    assert UNUSED not in sys.modules

"""`scripts/venv` finds the versions of Python that CI tests."""

from __future__ import annotations

import re

from support.paths import REPOSITORY


def test_each_python_of_ci_is_one_that_the_script_looks_for() -> None:
    workflow = (REPOSITORY / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    matrix = re.search(r"python: \[(.+)\]", workflow)
    search = re.search(r"for name in (.+);", (REPOSITORY / "scripts" / "venv").read_text(encoding="utf-8"))
    assert matrix
    assert search
    versions = re.findall(r"\d+\.\d+", matrix[1])
    assert versions
    assert {f"python{version}" for version in versions} <= set(search[1].split())

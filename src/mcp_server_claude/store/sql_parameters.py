"""Statements with `:name` parameters in the form that psycopg takes."""

from __future__ import annotations

import re
from functools import lru_cache

MAX_CACHED_STATEMENTS = 1024

_TOKEN = re.compile(
    r"""
    (?P<quoted> '(?:[^']|'')*' | "[^"]*" )       # a string or a quoted name
    | (?P<percent> % )
    | (?<![:\w]) : (?P<name> [a-z_][a-z0-9_]* )
    """,
    re.VERBOSE,
)


@lru_cache(MAX_CACHED_STATEMENTS)
def to_psycopg_sql(sql: str) -> str:
    """Return a statement with `%(name)s` for each `:name`, and `%%` for each `%`. Strings and names are kept."""
    return _TOKEN.sub(_replace_token, sql)


def _replace_token(token: re.Match[str]) -> str:
    if token["name"]:
        return f"%({token['name']})s"
    return token[0].replace("%", "%%")

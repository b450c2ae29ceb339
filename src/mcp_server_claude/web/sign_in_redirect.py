"""Addresses around signing in: the sign-in page, and the page that a user returns to afterwards."""

from __future__ import annotations

import re
from urllib.parse import urlencode

REDIRECT_PATH = re.compile(r"/(?:t/[a-z0-9_]{1,60}|usage(?:\?[\w.~%&=+-]{1,1000})?)", re.ASCII)
"""The pages that can be returned to: a thread, or the usage page with its filters."""


def sign_in_url(to: str, *, wrong: bool = False) -> str:
    """The address of the sign-in page that leads on to `to`; `wrong` shows that the token was rejected."""
    query = {"wrong": "1"} if wrong else {}
    if (path := safe_redirect_path(to)) != "/":
        query["to"] = path
    return f"/signin?{urlencode(query)}" if query else "/signin"


def safe_redirect_path(address: str) -> str:
    """The address if it is one of our pages, else `/`: a link cannot redirect to another site after the sign-in."""
    return address if REDIRECT_PATH.fullmatch(address) else "/"

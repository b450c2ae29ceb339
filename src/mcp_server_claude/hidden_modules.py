"""Optional modules that are hidden from an import, because what they are for does not happen in this process."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def hide_modules(*names: str) -> Generator[None]:
    """Let imports of these modules fail in the block, as if they were not installed, unless they are imported already.

    For packages whose importers do without them: a None in `sys.modules` is an `ImportError`
    (https://docs.python.org/3/reference/import.html#the-module-cache).
    """
    modules = cast("dict[str, object]", sys.modules)
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            modules.pop(name, None)

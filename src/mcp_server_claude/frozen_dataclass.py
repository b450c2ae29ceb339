"""Frozen dataclasses whose methods are shared.

The standard library compiles `__eq__`, `__hash__`, `__repr__`, `__setattr__` and `__delattr__` for each class, and for
`slots=True` makes the class a second time and keeps the first one (Python 3.11). That is 17 KB a class, where these
have 6, and a server that answers over stdio has 130 of them.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields
from functools import cache, partial
from reprlib import recursive_repr
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import DataclassInstance

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen_dataclass(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen dataclass, which behaves as one of `dataclasses.dataclass` does.

    Not known are `field(hash=…)`, subclasses that are no dataclasses and set attributes of their own, and a hash for a
    class with an `__eq__` of its own.
    """
    return partial(_add_methods, kw_only=kw_only)


def _add_methods(cls: type[T], *, kw_only: bool) -> type[T]:
    for name, method in _VALUE_METHODS.items():
        if name not in vars(cls):
            setattr(cls, name, method)
    made = dataclass(frozen=True, eq=False, repr=False, kw_only=kw_only)(cls)
    for name, method in _FREEZING_METHODS.items():  # in place of the compiled ones, of which none is referred to then
        setattr(made, name, method)
    return made


def _is_equal(self: DataclassInstance, other: object) -> bool:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return _compared_values(self) == _compared_values(cast("DataclassInstance", other))


def _hash_values(self: DataclassInstance) -> int:
    return hash(_compared_values(self))


@recursive_repr()
def _describe(self: DataclassInstance) -> str:
    values = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{self.__class__.__qualname__}({values})"


def _refuse_assignment(_self: object, name: str, _value: object) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(_self: object, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _compared_values(self: DataclassInstance) -> tuple[object, ...]:
    return tuple([getattr(self, name) for name in _compared_names(self.__class__)])


@cache
def _compared_names(cls: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(cls) if each.compare)


_VALUE_METHODS = {"__eq__": _is_equal, "__hash__": _hash_values, "__repr__": _describe}
_FREEZING_METHODS = {"__setattr__": _refuse_assignment, "__delattr__": _refuse_deletion}

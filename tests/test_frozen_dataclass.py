"""Frozen dataclasses with shared methods behave as those of the standard library."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, replace

import pytest

from mcp_server_claude.frozen_dataclass import frozen_dataclass


@frozen_dataclass(kw_only=True)
class Shared:
    """A value whose methods are shared."""

    name: str
    sizes: tuple[int, ...] = ()
    note: str = field(default="", compare=False, repr=False)
    tags: list[str] = field(default_factory=list[str], compare=False)


@frozen_dataclass(kw_only=True)
class Larger(Shared):
    """One with a further field."""

    weight: float = 0.0


@frozen_dataclass()
class Positional:
    """A value with positional arguments."""

    left: object
    right: object = None


@dataclass(frozen=True)
class Compiled:
    """The same as `Positional`, by the standard library."""

    left: object
    right: object = None


def test_instances_with_equal_fields_are_equal_and_have_one_hash() -> None:
    one, other = Shared(name="a", sizes=(1,), note="x"), Shared(name="a", sizes=(1,), note="y", tags=["t"])
    assert one == other
    assert hash(one) == hash(other)
    assert one != replace(one, sizes=(2,))
    assert len({one, other, replace(one, name="b")}) == 2


def test_instances_of_two_classes_differ() -> None:
    assert Shared(name="a") != Larger(name="a")
    assert Positional(1, 2) != (1, 2)


def test_a_field_cannot_be_assigned_or_deleted() -> None:
    for value in (Shared(name="a"), Larger(name="a")):
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
            setattr(value, "name", "b")  # noqa: B010 - pyright refuses the statement
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'name'"):
            delattr(value, "name")
        assert value.name == "a"


def test_an_instance_is_described_by_its_fields() -> None:
    assert repr(Larger(name="a", note="hidden")) == "Larger(name='a', sizes=(), tags=[], weight=0.0)"
    assert repr(Positional(1, 2)) == repr(Compiled(1, 2)).replace("Compiled", "Positional")


def test_an_instance_that_contains_itself_is_described() -> None:
    items: list[object] = []
    value = Positional(items)
    items.append(value)
    assert repr(value) == "Positional(left=[...], right=None)"


def test_a_class_keeps_the_methods_that_it_defines_itself() -> None:
    @frozen_dataclass()
    class Quiet:
        """A value that is not printed."""

        secret: str

        def __repr__(self) -> str:
            return "Quiet()"

    assert repr(Quiet("x")) == "Quiet()"
    assert Quiet("x") == Quiet("x")


def test_an_instance_is_copied_pickled_and_matched() -> None:
    value = Positional(1, "b")
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value  # noqa: S301 - bytes of its own
    match value:
        case Positional(left, right):
            assert (left, right) == (1, "b")
    assert asdict(value) == {"left": 1, "right": "b"}
    assert [each.name for each in fields(value)] == ["left", "right"]

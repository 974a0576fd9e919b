"""A dataclass of ours is one of the standard library's in all that can be seen of it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ps.dataclass import dataclass

KINDS: dict[str, dict[str, bool]] = {
    "mutable": {},
    "frozen": {"frozen": True},
    "mutable, by identity": {"eq": False},
    "frozen, by identity": {"frozen": True, "eq": False},
    "frozen, without a repr": {"frozen": True, "repr": False},
    "frozen, in order": {"frozen": True, "order": True},
    "mutable, in order": {"order": True},
    "frozen, with weak references": {"frozen": True, "weakref_slot": True},
}


def declared(make: Callable[[type], type]) -> list[type]:
    """Return classes with every kind of field that we declare."""

    @make
    class Nothing:
        """No field."""

    @make
    class Point:
        """Needed, with a default, made anew, not shown, not compared, not hashed, not given."""

        x: float
        name: str = "p"
        seen: list[int] = dataclasses.field(default_factory=list, hash=False)
        secret: int = dataclasses.field(default=3, repr=False)
        mood: str = dataclasses.field(default="", compare=False)
        fixed: int = dataclasses.field(default=7, init=False)
        made: dict[str, int] = dataclasses.field(default_factory=dict, init=False, hash=False)
        DIMENSIONS: ClassVar[int] = 1

    @make
    class Checked:
        """Refuses a value, computes another, and has a hash and a repr of its own."""

        x: float
        twice: float = dataclasses.field(init=False, compare=False)

        def __post_init__(self) -> None:
            if self.x < 0:
                raise ValueError("less than nothing")
            object.__setattr__(self, "twice", 2 * self.x)

        def __hash__(self) -> int:
            return 5

        def __repr__(self) -> str:
            return f"<{self.x}>"

    @make
    class Own:
        """Is equal as it says."""

        x: float

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own)

    @make
    class Base:
        """One that another inherits from."""

        x: float
        y: int = 2

    @make
    class Derived(Base):
        """Has its own field and another default for the base's."""

        z: str = "z"
        y: int = 3

    class Plain(Base):
        """Is no dataclass, and may have what it likes."""

    return [Nothing, Point, Checked, Own, Base, Derived, Plain]


def tried(what: Callable[[], Any]) -> Any:
    """Return a result, or the kind and the words of an error."""
    try:
        return what()
    except (TypeError, AttributeError, ValueError) as error:
        return type(error), str(error).replace("FrozenInstanceError", "")


def change(value: Any, name: str) -> Any:
    setattr(value, name, 11)
    return getattr(value, name)


def remove(value: Any, name: str) -> bool:
    delattr(value, name)
    return hasattr(value, name)


def seen(cls: type) -> dict[str, Any]:
    """Return all that can be seen of a class and its objects."""
    names = [field.name for field in dataclasses.fields(cls)]
    objects = [tried(lambda given=given: cls(**given)) for given in ({}, {"x": 1.0}, {"x": 2.0}, {"x": -1.0})]
    objects += [tried(lambda given=given: cls(*given)) for given in ((1.0,), (1.0, 5), (math.nan,), range(9))]
    objects += [tried(lambda: cls(**dict.fromkeys(names, 4))), tried(lambda: cls(unknown=1))]
    made = [one for one in objects if isinstance(one, cls)]
    found: dict[str, Any] = {
        "errors": [one for one in objects if not isinstance(one, cls)],
        "signature": str(inspect.signature(cls)),
        "match": cls.__match_args__,  # type: ignore[attr-defined]
        "slots": cls.__dict__.get("__slots__"),
        "doc": cls.__doc__,
        "qualified": [cls.__init__.__qualname__, cls.__init__.__module__],
        "annotations": cls.__init__.__annotations__,
        "frozen": cls.__dataclass_params__.frozen,  # type: ignore[attr-defined]
        "hashable": cls.__hash__ is not None,
        "nan": [one == one for one in made],
        "equal": [[one == other for other in made] for one in made],
        "less": [[tried(lambda a=a, b=b: a < b) for b in made] for a in made],
        "at least": [[tried(lambda a=a, b=b: a >= b) for b in made] for a in made],
        "same hash": [[tried(lambda a=a, b=b: hash(a) == hash(b)) for b in made] for a in made],
        "other class": [tried(lambda one=one: one.__eq__(3)) for one in made],
    }
    lists = [one.seen for one in made if "seen" in names and isinstance(one.seen, list)]
    found["each its own"] = [a is b for a in lists for b in lists]
    for one in made:
        shown = repr(one)
        found.setdefault("shown", []).append(shown if " object at 0x" not in shown else "by address")
        found.setdefault("as a dict", []).append(str(dataclasses.asdict(one)))
        found.setdefault("replaced", []).append(
            str(tried(lambda one=one: dataclasses.asdict(dataclasses.replace(one))))
        )
        for other in (copy.copy(one), copy.deepcopy(one), tried(lambda one=one: weakref.ref(one)())):
            found.setdefault("copied", []).append(str(dataclasses.asdict(other)) if isinstance(other, cls) else other)
        for name in names:
            found.setdefault("changed", []).append(tried(lambda one=one, name=name: change(one, name)))
            found.setdefault("removed", []).append(tried(lambda one=one, name=name: remove(one, name)))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_standard_librarys_in_all_that_can_be_seen(kind: str) -> None:
    ours = declared(dataclass(slots=True, **KINDS[kind]))  # type: ignore[call-overload]
    theirs = declared(dataclasses.dataclass(slots=True, **KINDS[kind]))  # type: ignore[call-overload]
    for our, their in zip(ours, theirs, strict=True):
        assert seen(our) == seen(their), our.__name__


@dataclass(frozen=True, slots=True)
class Kept:
    """One that can be found by its name."""

    x: float
    shown: tuple[int, ...] = ()


def test_it_is_pickled() -> None:
    assert pickle.loads(pickle.dumps(Kept(2.0, (1,)))) == Kept(2.0, (1,))


def test_one_that_holds_itself_is_shown() -> None:
    @dataclass(slots=True)
    class Ring:
        """A ring."""

        next: Any = None

    ring = Ring()
    ring.next = ring
    assert repr(ring).endswith("Ring(next=...)")


def test_equality_and_hash_are_compiled_once_when_they_are_asked_for() -> None:
    @dataclass(frozen=True, slots=True)
    class Pair:
        """Two."""

        a: int
        b: int

    first = Pair.__eq__
    assert Pair(1, 2) == Pair(1, 2) and hash(Pair(1, 2)) == hash((1, 2))
    compiled = Pair.__eq__
    assert Pair(1, 2) != Pair(1, 3) and compiled is Pair.__eq__ is not first
    assert first(Pair(1, 2), Pair(1, 2)) is True


def test_a_frozen_one_takes_no_other_attribute() -> None:
    for do in (change, remove):
        with pytest.raises(dataclasses.FrozenInstanceError):
            do(Kept(1.0), "unknown")


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(TypeError, match=r"dataclasses\.dataclass"):
        dataclass(slots=False)

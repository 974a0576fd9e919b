"""What all messages are: frozen dataclasses whose repr is one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

from ps.dataclass import constructor
from ps.protocol.ranges import MOST_DIMENSIONS, MOST_TENSORS, AtMost, Name, Section, Size

Shape = Annotated[tuple[Size, ...], AtMost(MOST_DIMENSIONS)]
Packed = Annotated[tuple[tuple[Name, Section, Shape], ...], AtMost(MOST_TENSORS)]
"""A layout on the wire: (name, section, shape) of each tensor, in order."""


class Message:
    """Base of all messages; ``payload`` says whether one raw tensor frame follows the header.

    ``large`` messages hold a layout or all members and may have a long header. ``answers``: see ``message``.
    """

    __slots__ = ()
    payload: ClassVar[bool] = False
    large: ClassVar[bool] = False
    answers: ClassVar[tuple[str, ...]] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message) or type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()  # how it is copied

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def __repr__(self) -> str:
        shown = ((field.name, repr(getattr(self, field.name))) for field in fields(self))  # type: ignore[arg-type]
        brief = (f"{name}={text if len(text) <= 60 else text[:57] + '...'}" for name, text in shown)
        return f"{type(self).__name__}({', '.join(brief)})"


M = TypeVar("M", bound=Message)


NUMBERED: dict[int, type[Message]] = {}
"""Number on the wire -> message. A number is never given to another message; 43 was once one."""


@dataclass_transform(frozen_default=True)
def message(number: int, *, answers: tuple[str, ...] = ()) -> Callable[[type[M]], type[M]]:
    """Declare a message: a frozen, slotted dataclass with the one-line repr of its base.

    ``number`` is its own on the wire; ``answers`` are the names of those that may answer it, where somebody waits for
    one, besides Error.
    """

    def register(cls: type[M]) -> type[M]:
        made = dataclass(slots=True, init=False, repr=False, eq=False)(cls)
        made.__init__ = constructor(made, frozen=True)  # type: ignore[method-assign]
        if number in NUMBERED:
            raise TypeError(f"{made.__name__} and {NUMBERED[number].__name__} have the number {number}")
        made.answers = answers
        NUMBERED[number] = made
        return made

    return register

"""What all messages are: frozen dataclasses whose repr is one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, TypeVar, dataclass_transform

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
        made = dataclass(frozen=True, slots=True, repr=False)(cls)
        if number in NUMBERED:
            raise TypeError(f"{made.__name__} and {NUMBERED[number].__name__} have the number {number}")
        made.answers = answers
        NUMBERED[number] = made
        return made

    return register

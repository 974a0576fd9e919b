"""What all messages are: frozen dataclasses whose repr is one line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar, TypeVar, dataclass_transform

Packed = tuple[tuple[str, str, tuple[int, ...]], ...]
"""A layout on the wire: (name, dtype, shape) of each tensor, in order."""

Natural = Annotated[int, "0 or more"]
Amount = Annotated[float, "0 or more"]
"""Numbers of which none below 0 gets through decoding."""


class Message:
    """Base of all messages; ``payload`` says whether one raw tensor frame follows the header.

    ``large`` messages hold a layout or all members and may have a long header.
    """

    __slots__ = ()
    payload: ClassVar[bool] = False
    large: ClassVar[bool] = False

    def __repr__(self) -> str:
        shown = ((field.name, repr(getattr(self, field.name))) for field in fields(self))  # type: ignore[arg-type]
        brief = (f"{name}={text if len(text) <= 60 else text[:57] + '...'}" for name, text in shown)
        return f"{type(self).__name__}({', '.join(brief)})"


M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True)
def message(cls: type[M]) -> type[M]:
    """Make a message: a frozen, slotted dataclass with the one-line repr of its base."""
    return dataclass(frozen=True, slots=True, repr=False)(cls)

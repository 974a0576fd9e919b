"""The ways in which a sum of deltas is kept secret, one line each."""

from __future__ import annotations

from typing import ClassVar, Protocol

from ps.dataclass import dataclass
from ps.number import number
from ps.spec import Registry


class Masking(Protocol):
    """How deltas are made integers under masks, and by whom these are taken off."""

    masks: ClassVar[bool]
    """Whether there are any."""
    helper: ClassVar[bool]
    """Whether a second party knows them, instead of the clients themselves."""
    clip: float
    """The largest magnitude of an element."""
    bits: int
    """Bits of an element; 0 for the most that there is room for."""
    ring: int
    """Bits of a word."""
    rotate: int
    """Whether deltas are rotated before they are clipped."""
    weight: float
    """The most examples that a client counts for; 0: all count alike."""


@dataclass(frozen=True, slots=True)
class Unmasked:
    """Deltas travel as they are."""

    masks: ClassVar[bool] = False
    helper: ClassVar[bool] = False
    clip: ClassVar[float] = 0.0
    bits: ClassVar[int] = 0
    ring: ClassVar[int] = 16
    rotate: ClassVar[int] = 0
    weight: ClassVar[float] = 0.0


@dataclass(frozen=True, slots=True)
class _Masked:
    """The numbers that masks of either kind take."""

    masks: ClassVar[bool] = True
    clip: float = number(0.25, above=0, at_most=1e6)
    bits: int = number(0, at_least=0, at_most=24, whole=True)
    ring: int = number(16, at_least=16, at_most=32, whole=True)
    rotate: int = number(0, at_least=0, at_most=1, whole=True)
    weight: float = number(0.0, at_least=0, at_most=1e12)


@dataclass(frozen=True, slots=True)
class Pairwise(_Masked):
    """Clients mask with each other: SecAgg+, Bell et al., CCS 2020."""

    helper: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class HelperMasking(_Masked):
    """A second party, which never sees a delta, knows the masks, and tells the sum of those in a sum."""

    helper: ClassVar[bool] = True


MASKINGS: Registry[Masking] = Registry(
    "secure", {"helper": HelperMasking, "none": Unmasked, "pairwise": Pairwise}, pluggable=False
)

"""Codec, the interface every compression fulfils; CompressSpec, how a job names one; and the registry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol, cast

from numpy.typing import DTypeLike

from ps.compress.bf16 import BF16
from ps.compress.decoded import Decoded
from ps.compress.fp16 import FP16
from ps.compress.identity import Identity
from ps.compress.int8 import Int8
from ps.compress.key import Key
from ps.compress.onebit import OneBit
from ps.compress.powersgd import PowerSGD
from ps.compress.randomk import RandomK
from ps.compress.topk import TopK
from ps.errors import ConfigError
from ps.optim import spec
from ps.xp import Array


class Codec(Protocol):
    """A lossy map between the vector of one chunk and a frame of bytes: numbers and functions, no state of its own."""

    @property
    def slots(self) -> tuple[str, ...]:
        """The memories, shaped like the gradient, that its paper wants at who sends gradients."""

    @property
    def momentum(self) -> float:
        """The factor of the velocity that is remembered instead of gradients; 0 for none."""

    def init(self, values: Array) -> dict[str, Array]:
        """Return what the codec itself keeps from frame to frame of one chunk, on the side of ``values``."""

    def max_bytes(self, size: int, dtype: DTypeLike) -> int:
        """Return the length that no frame of ``size`` elements exceeds."""

    def encode(self, values: Array, key: Key, state: dict[str, Array], out: Array | None = None) -> Array:
        """Return the frame of ``values``, 1-D uint8 on their side: the start of ``out``, if given, or a new array.

        ``values`` is 1-D, float32 or float64, at least one element, finite, and only read; NaN and Inf make a
        frame that ``open`` may refuse. ``state``, from ``init``, is changed in place. UsageError when ``out`` is
        shorter than the frame, no uint8 vector, or on another side.
        """

    def open(self, frame: Array, size: int, dtype: DTypeLike, key: Key, *, trusted: bool = False) -> Decoded:
        """Return what a frame says, checked first and completely: BadMessage when it could not have been encoded.

        ``size``, ``dtype`` and ``key`` are those of ``encode``, as the receiver knows them; nothing in the frame
        decides how much memory is taken. ``frame`` is 1-D uint8 and in host memory. ``trusted`` skips the checks:
        only for a frame that this process made, on whatever side it is.
        """


CODECS: spec.Table = {
    "bf16": BF16,
    "fp16": FP16,
    "int8": Int8,
    "none": Identity,
    "onebit": OneBit,
    "powersgd": PowerSGD,
    "randomk": RandomK,
    "topk": TopK,
}


@dataclass(frozen=True, slots=True)
class CompressSpec:
    """A codec's name and all its numbers, checked; equal specs have equal text.

    >>> CompressSpec.parse("topk:0.001,momentum=0.9")
    CompressSpec(name='topk', numbers=(('ratio', 0.001), ('momentum', 0.9), ('warmup', 0)))
    >>> str(CompressSpec.parse("powersgd"))
    'powersgd:rank=4,columns=0'
    """

    name: str
    numbers: spec.Numbers = ()

    def __post_init__(self) -> None:
        given = dict(self.numbers)
        if given and self.name in CODECS and not dataclasses.fields(CODECS[self.name]):
            raise ConfigError(f"compress {self.name} takes no numbers, not even {next(iter(given))}")
        object.__setattr__(self, "numbers", spec.complete("compress", CODECS, self.name, given))

    @classmethod
    def parse(cls, text: str) -> CompressSpec:
        """Read ``name``, ``name:number`` or ``name:number,key=number,…``; ConfigError when it is wrong.

        The number without a key is the codec's first: topk's and randomk's ratio, powersgd's rank.
        """
        return cls(*spec.parse_short("compress", CODECS, text))

    def __str__(self) -> str:
        return spec.text(self.name, self.numbers)

    def build(self) -> Codec:
        """Return the codec."""
        return cast(Codec, CODECS[self.name](**dict(self.numbers)))

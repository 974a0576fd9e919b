"""Ranges: what a field of a message may hold beyond its type, declared beside it, and the kinds of fields there are.

Every field, and every field of what is inside one, has a range: numbers two ends, texts, lists and maps a greatest
length. ``fields`` makes the checks of them. Nothing beyond its range gets through decoding, so that whoever takes a
message may calculate with it, keep it and show it.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

from ps.dataclass import dataclass
from ps.number import MOST, MOST_MEMBERS, MOST_RATE


@dataclass(frozen=True, slots=True)
class Within:
    """A number from ``low`` to ``high``, both included; NaN is in no range."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AtMost:
    """At most ``count`` characters of a text, elements of a list, or bytes of a map.

    ``cut``: it is for people, and whoever sends more sends the beginning of it.
    """

    count: int
    cut: bool = False


MOST_TENSORS = 20_000
MOST_NAME = 200
"""Characters of a tensor's name."""
MOST_DIMENSIONS = 64
"""Of a tensor, as far as one is read; a layout has fewer."""
MOST_ADDRESSES = 8
MOST_CHUNKS = 1 << 20
MOST_KEYS = 20_000
"""Keys that a scheduler lets in, at most."""
MOST_HELD = 28_000
"""Chunks in one UploadState."""
MOST_ASKED = 1000
"""Requests in one Inquire."""
MOST_ENTRIES = 5000
"""Entries of a ledger in one RoundOrder."""
MOST_NOTES = 10_000
"""Contributions in one RoundStatus."""
MOST_STEPS = 1 << 53
"""Clocks, versions, epochs and the like: whole numbers up to here are floats too, and one more is still a number."""
MOST_AHEAD = 1 << 20
"""Clocks, and words about a rate, that a member may be ahead of all that were counted. An honest one is by a few; who
is not believed beyond this cannot bring either to the last number there is, after which nobody could say another."""
MOST_STAGES = 1000
MOST_MICROBATCHES = 1 << 31
MOST_CHANNELS = 8 * MOST_STAGES
"""Kinds of transfers, times stages."""
MOST_RANK = (1 << 31) - 1
MOST_SECONDS = 1e9
_LARGEST = sys.float_info.max
_INFINITE = float("inf")

Sign = Annotated[int, Within(-1, 1)]
Number = Annotated[int, Within(0, (1 << 63) - 1)]
"""What tells one thing from another: a request, a task."""
Random = Annotated[int, Within(0, (1 << 62) - 1)]
Member = Annotated[int, Within(0, (1 << 62) - 1)]
Rank = Annotated[int, Within(0, MOST_RANK)]
RankOrAny = Annotated[int, Within(-1, MOST_RANK)]
"""A rank; -1 for any, or for none yet."""
Pid = Annotated[int, Within(0, (1 << 32) - 1)]
Count = Annotated[int, Within(0, MOST_STEPS)]
"""Clocks, versions, epochs, attempts, and other things that are counted up from 0."""
Later = Annotated[int, Within(0, 1 << 62)]
"""A clock or version that is told to a peer: it may be some after the highest that a peer can name."""
CountOrNone = Annotated[int, Within(-1, MOST_STEPS)]
"""A version; -1 for none."""
LaterOrNone = Annotated[int, Within(-1, 1 << 62)]
Chunk = Annotated[int, Within(0, MOST_CHUNKS - 1)]
ServerCount = Annotated[int, Within(1, MOST_MEMBERS)]
Size = Annotated[int, Within(0, 1 << 40)]
"""Bytes, or elements of a tensor's dimension."""
Seconds = Annotated[float, Within(0.0, MOST_SECONDS)]
Fraction = Annotated[float, Within(0.0, 1.0)]
Weight = Annotated[float, Within(0.0, _LARGEST)]
"""Examples, weights and factors."""
Finite = Annotated[float, Within(-_LARGEST, _LARGEST)]
Squares = Annotated[float, Within(0.0, _INFINITE)]
"""A squared L2 norm; infinite when it is too large to be told."""
LearningRate = Annotated[float, Within(0.0, MOST_RATE)]
Decay = Annotated[float, Within(0.0, MOST)]
"""A weight decay."""

Name = Annotated[str, AtMost(MOST_NAME)]
"""A tensor's name."""
MOST_GROUP = 500
"""Characters of a group of tensors: its name and numbers."""
Section = Annotated[str, AtMost(MOST_GROUP + 30)]
"""A dtype, and what else tensors have in common, see ``layout.section_of``."""
Address = Annotated[str, AtMost(300)]
Mark = Annotated[str, AtMost(300)]
KeyName = Annotated[str, AtMost(64)]
KeyHex = Annotated[str, AtMost(64)]
"""A CURVE key: 64 hexadecimal digits."""
Host = Annotated[str, AtMost(255, cut=True)]
Place = Annotated[str, AtMost(300)]
Prose = Annotated[str, AtMost(2000, cut=True)]
"""What is said to people: errors and reasons."""

Secret = Annotated[str, AtMost(100)]
"""What a job's proofs are made with."""

Settings = Annotated[dict[str, Any], AtMost(64 << 10)]
Report = Annotated[dict[str, Any], AtMost(16 << 10, cut=True)]
"""What a member says of itself to be shown. What does not fit is left out."""
Picture = Annotated[dict[str, Any], AtMost(4_000_000)]
"""A job as ``psctl status`` shows it."""
Plain = Annotated[dict[str, Any], AtMost(64 << 10)]
"""Plain values that mean something to programs."""

"""Promises of Early: what comes before the job is known is kept, and strangers cannot have much kept."""

from __future__ import annotations

from ps.protocol.messages import Init, InitChunk, Inquire, Pull
from ps.server.shard.early import MOST, MOST_LARGE, Early

LAYOUT = (("w", "float32", (3,)),)


def test_requests_are_kept_up_to_a_bound_and_of_large_ones_a_few() -> None:
    early = Early()
    for number in range(1000):
        early.keep(b"a", Init(number, 5, 1, 1024, LAYOUT))
        early.keep(b"a", InitChunk(2000 + number, 5, 0))
    assert len(early) == MOST_LARGE
    for number in range(1000):
        early.keep(b"a", Pull(5000 + number, 5, 0, 0))
    assert len(early) == MOST
    assert early.known(b"b", Inquire(0, 5, (0, 500, 5000))) == {0, 5000}

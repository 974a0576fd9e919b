"""Promises of the private sum: one client moves it by at most the clip over every tensor, and nothing leaves without
noise that is drawn anew each time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.compress import CODECS, Key
from ps.errors import BadMessage
from ps.privacy.grid import bound_of, step_of
from ps.protocol.layout import Layout
from ps.protocol.messages import RoundOrder
from ps.server.shard.combination import Counted
from ps.server.shard.private_combination import PrivateCombination
from ps.server.shard.staged import square
from support.chances import chi_square_of_normal
from support.delta_parts import Hand, chunks_of, job_of

LAYOUT = Layout.of(
    {"w": np.zeros(700, np.float32), "d": np.zeros(40, np.float64), "mean": np.zeros(30, np.float32)},
    {"mean": "buffer"},
)
JOB = job_of(servers=3, dp="eps=8,delta=1e-5,clip=1.5")
CHUNKS = [chunks_of(LAYOUT, JOB, rank) for rank in range(3)]


def order_of(phase: str = "prepare", *, clip: float = 1.5, noise: float = 3.0, **fields: Any) -> RoundOrder:
    values = {"floor": 1, "first": 0, "entries": (), "count": 0, "weights": (), "factor": 1.0, "share": 1.0, **fields}
    return RoundOrder(0, 1, phase=phase, clip=clip, noise=noise, **values)


def delta(rng: Any, scale: float, codec: str = "none") -> list[dict[int, Any]]:
    """What one client sends to each server, buffers and all."""
    parts = []
    for chunks in CHUNKS:
        part: dict[int, Any] = {}
        for index, chunk in chunks.items():
            values = (rng.standard_normal(chunk.size) * scale).astype(chunk.dtype)
            if codec != "none" and chunk.compressible:
                coder, key = CODECS.parse(codec).build(), Key(0, 0, index, 0)
                frame = coder.encode(values, key, coder.init(values))
                values = coder.open(frame, chunk.size, np.dtype(chunk.dtype), key)
            part[index] = values
        parts.append(part)
    return parts


def sums_of(deltas: list[list[dict[int, Any]]], clip: float = 1.5) -> dict[int, Any]:
    """The un-noised sums of all servers, in whole steps, by chunk."""
    bounds = []
    for one in deltas:
        squares = sum(square(values, exact=True) for part in one for values in part.values())
        bounds.append(bound_of(math.sqrt(squares), clip))
    found: dict[int, Any] = {}
    for rank, chunks in enumerate(CHUNKS):
        combination = PrivateCombination(4, chunks)
        for one, bound in zip(deltas, bounds, strict=True):
            combination.add(Counted(1.0, 1.0, bound, one[rank], clip))
        found |= {index: combination._sums.get(index, np.zeros(c.size, np.int64)) for index, c in chunks.items()}
    return found


@given(st.integers(0, 10_000), st.sampled_from([1e-6, 0.01, 0.1, 1.0, 1e8]), st.integers(0, 3))
def test_removing_one_client_moves_the_sum_by_at_most_the_clip_over_every_tensor(
    seed: int, scale: float, who: int
) -> None:
    rng = np.random.default_rng(seed)
    deltas = [delta(rng, scale * (1 + 9 * (n == who))) for n in range(4)]
    every, others = sums_of(deltas), sums_of([one for n, one in enumerate(deltas) if n != who])
    moved = sum(int(a) ** 2 for index in every for a in every[index] - others[index])
    assert moved <= (1.5 / step_of(1.5)) ** 2, "in whole numbers, without rounding"
    kinds = {
        chunk.kind for chunks in CHUNKS for index, chunk in chunks.items() if (every[index] != others[index]).any()
    }
    if scale > 1e-6:
        assert kinds == {"trainable", "buffer"}, "buffers are part of it"


@pytest.mark.parametrize("codec", ["int8", "topk:0.2", "fp16"])
def test_compressed_deltas_are_clipped_as_they_are_decoded(codec: str) -> None:
    rng = np.random.default_rng(1)
    one = delta(rng, 5.0, codec)
    moved = math.sqrt(sum(float(np.sum(np.square(a.astype(np.float64)))) for a in sums_of([one]).values()))
    assert 1.49 < moved * step_of(1.5) <= 1.5


def test_servers_actual_noise_is_gaussian_with_the_ordered_deviation() -> None:
    found = []
    for _ in range(60):
        for chunks in CHUNKS:
            combination = PrivateCombination(4, chunks)
            combination.add(Counted(1.0, 1.0, 1.0, {i: np.zeros(c.size, c.dtype) for i, c in chunks.items()}, 1.5))
            found += [np.asarray(part, np.float64) for part in combination.parts(order_of()).values()]
    assert chi_square_of_normal(np.concatenate(found) * 4 / 3.0, 200) > 1e-6


def test_noise_is_drawn_anew_each_time_for_every_chunk_and_server() -> None:
    combinations = [PrivateCombination(4, chunks) for chunks in CHUNKS]
    drawn = [part for c in combinations for _ in range(2) for part in c.parts(order_of()).values() if part is not None]
    short = min(part.size for part in drawn)
    rows = np.array([np.asarray(part[:short], np.float64) for part in drawn])
    assert len({row.tobytes() for row in rows}) == len(drawn)


def test_what_is_divided_by_does_not_depend_on_how_many_came() -> None:
    chunks = CHUNKS[0]
    index, chunk = next(iter(chunks.items()))
    found = []
    for count in (1, 2):
        combination = PrivateCombination(4, chunks)
        for _ in range(count):
            combination.add(Counted(1.0, 1.0, 1.0, {index: np.full(chunk.size, 0.01, chunk.dtype)}, 1.5))
        part = combination.parts(order_of(noise=0.0015))[index]
        assert part is not None
        found.append(float(part.mean()))
    deviation = 0.0015 / 4 / math.sqrt(chunk.size)  # of a mean: the noise is another each time
    assert found == pytest.approx([0.01 / 4, 0.02 / 4], rel=0, abs=6 * deviation)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"clip": 0.0}, "a clip of 0"),
        ({"noise": 0.0}, "noise of 0"),
        ({"noise": 1e-9}, "noise of 1e-09"),
        ({"noise": 1e300}, "noise of 1e"),
        ({"phase": "measure"}, "distances"),
    ],
)
def test_an_order_without_what_was_paid_for_is_refused(fields: dict[str, Any], why: str) -> None:
    order = order_of(**fields)
    assert why in PrivateCombination(4, CHUNKS[0]).refusal([], order, complete=True)


@pytest.mark.parametrize("entry", [(2.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0, 1.5)])
def test_an_entry_that_counts_for_more_than_one_is_refused(entry: tuple[float, float, float]) -> None:
    assert "each client counts once" in PrivateCombination(4, CHUNKS[0]).refusal([entry], order_of(), complete=False)


def private_hand(path: str | None = None) -> Hand:
    layout = Layout.of({"w": np.zeros(6, np.float32), "seen": np.zeros(2, np.float32)}, {"seen": "buffer"})
    return Hand(job_of(dp="eps=8,delta=1e-5,clip=1"), path, layout).begin()


def test_a_shard_publishes_with_noise_and_an_attempt_that_is_repeated_has_another() -> None:
    entry = [(1, 1.0, 1.0, 0.5)]
    prepared = []
    hand = private_hand()
    for attempt in (1, 2):
        hand.upload(attempt, 1.0)
        entry = [(attempt, 1.0, 1.0, 0.3)]
        assert hand.order("prepare", entry, attempt=attempt, clip=1.0, noise=2.0).phase == "prepared"
        assert hand.shard._prepared is not None
        prepared.append(np.concatenate([np.asarray(part) for part in hand.shard._prepared.parts.values()]))
    assert not np.isclose(prepared[0], prepared[1]).any()
    hand.order("publish", entry, attempt=2, clip=1.0, noise=2.0)
    weights = np.concatenate([state.weights for state in hand.shard.chunks.values()])
    np.testing.assert_array_equal(weights, prepared[1])


def test_what_was_prepared_is_published_as_it_is_by_the_process_that_comes_after(tmp_path: Path) -> None:
    hand = private_hand(str(tmp_path / "s"))
    hand.upload(1, 1.0)
    entry = [(1, 1.0, 1.0, 0.3)]
    hand.order("prepare", entry, clip=1.0, noise=2.0)
    assert hand.shard._prepared is not None
    kept = {index: np.array(part) for index, part in hand.shard._prepared.parts.items()}
    again = Hand(hand.job, str(tmp_path / "s"), hand.layout)
    again.order("publish", entry, clip=1.0, noise=2.0)
    for index, state in again.shard.chunks.items():
        np.testing.assert_array_equal(state.weights, kept[index])


def test_an_order_without_clip_or_noise_changes_nothing_in_a_shard() -> None:
    hand = private_hand()
    hand.upload(1, 1.0)
    with pytest.raises(BadMessage, match="a clip of 0"):
        hand.order("prepare", [(1, 1.0, 1.0, 0.3)])
    with pytest.raises(BadMessage, match="noise of 0"):
        hand.order("prepare", [(1, 1.0, 1.0, 0.3)], clip=1.0)


def correlated_hand(path: str | None = None) -> Hand:
    layout = Layout.of({"w": np.zeros(6, np.float32)})
    about = job_of(dp="ftrl:eps=8,delta=1e-5,clip=1,separation=1", clients_per_round=4)
    hand = Hand(about, path, layout)
    return hand if path and Path(path).exists() else hand.begin()


def publish(hand: Hand, version: int, **fields: Any) -> str:
    """Have a round without contributions be; return the phase of the server when it is to have prepared."""
    phase = hand.order("prepare", [], version=version, attempt=version + 1, clip=1.0, noise=2.0, **fields).phase
    if phase == "prepared":
        hand.order("publish", [], version=version, attempt=version + 1, clip=1.0, noise=2.0, **fields)
    return str(phase)


def test_a_shard_goes_on_with_its_noise_and_takes_it_back_in_the_rounds_that_follow() -> None:
    hand = correlated_hand()
    for row in range(4):
        assert publish(hand, row, sequence=0, row=row) == "prepared"


def test_a_shard_without_the_keys_of_a_sequence_prepares_nothing_of_it_but_of_the_next(tmp_path: Path) -> None:
    hand = correlated_hand()
    assert publish(hand, 0, sequence=0, row=3) == "broken"
    hand = correlated_hand()
    assert publish(hand, 0, sequence=0, row=0) == "prepared"
    assert publish(hand, 1, sequence=1, row=0) == "prepared"
    assert publish(hand, 2, sequence=0, row=1) == "broken"


def test_keys_of_noise_are_in_no_file(tmp_path: Path) -> None:
    hand = correlated_hand(str(tmp_path / "s"))
    for row in range(3):
        publish(hand, row, sequence=0, row=row)
    assert hand.shard._noise is not None
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert kept and len(hand.shard._noise._keys) == 3
    assert not any(key in kept for key in hand.shard._noise._keys)


def test_a_counter_is_refused_by_name() -> None:
    with pytest.raises(BadMessage, match=r"count int64\[1\] \(counter\) is added up exactly"):
        Hand(job_of(dp="eps=8,delta=1e-5,clip=1")).begin()

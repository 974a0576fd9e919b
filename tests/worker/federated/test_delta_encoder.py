"""DeltaEncoder: whatever the codec leaves out of a delta is sent later, and what did not count is sent again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from ps import xp
from ps.compress import CODECS, Key
from ps.config import job_from
from ps.protocol.layout import Chunk, Layout
from ps.testing import STRICT
from ps.worker.federated.delta_encoder import DeltaEncoder

SIZE, RANK = 500, 3
LAYOUT = Layout.of(
    {"w": np.zeros(SIZE, np.float32), "mean": np.zeros(40), "seen": np.zeros(3, np.int64)},
    {"mean": "buffer", "seen": "counter"},
).with_controls()
CHUNKS = LAYOUT.chunks(2, 1024)
FEEDBACK = ("onebit", "topk:0.1", "randomk:0.1", "powersgd:2", "topk:0.1,momentum=0.5")
"""The codecs that remember what they left out."""


def encoder(compress: str) -> DeltaEncoder:
    return DeltaEncoder(
        job_from({"mode": "federated", "compress": compress, "servers": 2, "optimizer": "sgd:lr=0.1"}), RANK
    )


def delta(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    made = {key: random.standard_normal(size) for key, (_, size) in LAYOUT.sections().items()}
    return {key: (vector * 100).astype(key.partition("/")[0]) for key, vector in made.items()}


def opened(compress: str, frames: Mapping[int, np.ndarray], round: int, section: str) -> np.ndarray:
    """Return what a server reads in the frames of one section."""
    return np.concatenate([part(compress, frames[c.index], c, round) for c in CHUNKS if c.section == section])


def part(compress: str, frame: np.ndarray, chunk: Chunk, round: int) -> np.ndarray:
    codec, key = CODECS.parse(compress).build(), Key(0, round, chunk.index, RANK)
    out = np.empty(chunk.size, chunk.dtype)
    codec.open(frame.view(np.uint8), chunk.size, np.dtype(chunk.dtype), key).write(out)
    return out


def residual(made: DeltaEncoder, section: str) -> np.ndarray:
    return np.concatenate([made.state[c.index]["residual"] for c in CHUNKS if c.section == section])


def test_without_compression_a_frame_is_the_chunk_itself() -> None:
    made, values = encoder("none"), delta(0)
    frames = made.pack(values, CHUNKS, 0)
    assert sorted(frames) == [chunk.index for chunk in CHUNKS]
    for chunk in CHUNKS:
        assert frames[chunk.index].tobytes() == values[chunk.section][chunk.start : chunk.stop].tobytes()
    assert not made.state


@pytest.mark.parametrize("compress", sorted(CODECS))
def test_what_is_not_trained_travels_as_it_is_whatever_the_codec(compress: str) -> None:
    values = delta(1)
    frames = encoder(compress).pack(values, CHUNKS, 0)
    for chunk in (chunk for chunk in CHUNKS if chunk.kind in ("buffer", "counter", "control")):
        assert frames[chunk.index].tobytes() == values[chunk.section][chunk.start : chunk.stop].tobytes()


@pytest.mark.parametrize("compress", ["fp16", "bf16", "int8"])
def test_a_codec_without_memory_says_each_delta_nearly_as_it_is(compress: str) -> None:
    made = encoder(compress)
    for round in range(3):
        values = delta(round)
        got = opened(compress, made.pack(values, CHUNKS, round), round, "float32")
        np.testing.assert_allclose(got, values["float32"], atol=5)
    assert not any(made.state.values())


@pytest.mark.parametrize("compress", FEEDBACK[:-1])
def test_over_the_rounds_all_is_sent_but_what_is_still_remembered(compress: str) -> None:
    section = "float32"
    made, wanted, sent = encoder(compress), np.zeros(SIZE), np.zeros(SIZE)
    for round in range(5):
        values = delta(round)
        frames = made.pack(values, CHUNKS, round)
        wanted += values[section]
        sent += opened(compress, frames, round, section)
    assert np.abs(residual(made, section)).max() > 1
    np.testing.assert_allclose(sent + residual(made, section), wanted, atol=0.01)


@pytest.mark.parametrize("compress", FEEDBACK)
def test_nothing_is_lost_of_a_delta_that_was_refused(compress: str) -> None:
    made, values = encoder(compress), delta(0)
    made.pack(delta(7), CHUNKS, 0)
    kept = residual(made, "float32")
    frames = made.pack(values, CHUNKS, 1)
    sent, left = opened(compress, frames, 1, "float32"), residual(made, "float32")
    made.give_back(frames, CHUNKS, 1)
    np.testing.assert_allclose(residual(made, "float32"), left + sent, atol=1e-3)
    if "momentum" not in compress:
        np.testing.assert_allclose(residual(made, "float32"), kept + values["float32"], atol=0.01)


@pytest.mark.parametrize("compress", sorted(CODECS))
def test_a_refused_delta_of_a_codec_without_memory_is_gone_and_that_is_no_error(compress: str) -> None:
    made = encoder(compress)
    made.give_back(made.pack(delta(0), CHUNKS, 0), CHUNKS, 0)
    assert set(made.state) <= {chunk.index for chunk in CHUNKS if chunk.kind == "trainable"}


@pytest.mark.parametrize("compress", FEEDBACK)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_delta_with_nan_is_not_remembered_for_ever(compress: str, bad: float) -> None:
    made, spoilt = encoder(compress), delta(0)
    made.pack(delta(1), CHUNKS, 0)
    spoilt["float32"][3] = bad
    with np.errstate(all="ignore"):
        frames = made.pack(spoilt, CHUNKS, 1)
        made.give_back(frames, CHUNKS, 1)
    assert all(np.isfinite(array).all() for state in made.state.values() for array in state.values())
    after = made.pack(delta(2), CHUNKS, 2)
    assert np.isfinite(opened(compress, after, 2, "float32")).all()


@pytest.mark.parametrize("compress", sorted(CODECS))
def test_the_same_seed_gives_the_same_frames(compress: str) -> None:
    one, other = ({i: f.tobytes() for i, f in encoder(compress).pack(delta(0), CHUNKS, 4).items()} for _ in range(2))
    assert one == other


@pytest.mark.parametrize("compress", [name for name in sorted(CODECS) if name != "none"])
def test_what_a_device_has_is_packed_there_also_after_a_restart(compress: str, strict_device: xp.Device) -> None:
    here, there, restarted = encoder(compress), encoder(compress), encoder(compress)
    for round in range(2):
        values = delta(round)
        placed = {key: STRICT.to_device(vector) for key, vector in values.items()}
        expected = here.pack(values, CHUNKS, round)
        frames = (restarted if round else there).pack(placed, CHUNKS, round)
        assert {i: f.tobytes() for i, f in frames.items()} == {i: f.tobytes() for i, f in expected.items()}
        made = restarted if round else there
        made.give_back(frames, CHUNKS, round)
        here.give_back(expected, CHUNKS, round)
        assert all(isinstance(a, STRICT.array_type) for state in made.state.values() for a in state.values())
        if not round:  # from disk all come as host arrays
            restarted.state = {i: {k: xp.to_host(a) for k, a in s.items()} for i, s in there.state.items()}


def test_what_is_restored_on_the_host_takes_back_a_delta_before_anything_is_packed(strict_device: xp.Device) -> None:
    made, values = encoder("topk:0.1"), delta(0)
    frames = made.pack({key: STRICT.to_device(vector) for key, vector in values.items()}, CHUNKS, 0)
    restarted = encoder("topk:0.1")
    restarted.state = {i: {k: xp.to_host(a) for k, a in s.items()} for i, s in made.state.items()}
    restarted.give_back(frames, CHUNKS, 0)
    np.testing.assert_allclose(residual(restarted, "float32"), values["float32"], atol=1e-3)

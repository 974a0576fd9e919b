"""Promises of noise that clients add in shares: each delta is within the clip whatever it was, the noise of those who
are in a sum has the variance that is accounted for, and nothing beside it tells of a delta."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.config.privacy import conditions_of, noise_share_of
from ps.config.secure import encoding_of, frames_of
from ps.errors import ConfigError
from ps.privacy import PrivacyBudget
from ps.protocol.layout import Layout
from ps.secure.frames import WEIGHT_UNIT, MaskedFrames
from ps.secure.identity import ThrowawaySigner, anybody
from ps.worker.federated.delta_masker import DeltaMasker
from ps.xp import HostArray
from support.chances import chi_square_of_normal
from support.delta_parts import job_of

LAYOUT = Layout.of(
    {"w": np.zeros(3000, np.float32), "b": np.zeros(40, np.float32), "mean": np.zeros(60, np.float32)},
    {"mean": "buffer"},
)
SIZES = {"w": 3000, "b": 40, "mean": 60}
JOB: dict[str, Any] = {
    "dp": "skellam:eps=8,delta=1e-5,clip=1",
    "secure": "pairwise:ring=32",
    "secure_min": 6,
    "workers": 12,
    "clients_per_round": 10,
    "rounds": 5,
}


class Bare:
    """Masks that are none: what a client sends is what is under them."""

    masks: Sequence[tuple[bytes, int]] = ()


def job(**more: Any) -> Any:
    return job_of(**{**JOB, **more})


def masker(about: Any) -> DeltaMasker:
    chunks = LAYOUT.chunks(about.servers, about.chunk_bytes)
    return DeltaMasker(about, chunks, "1", ThrowawaySigner(), anybody)


def frames_for(about: Any) -> MaskedFrames:
    frames = frames_of(about, LAYOUT.chunks(about.servers, about.chunk_bytes))
    assert frames is not None
    return frames


def delta(about: Any, scale: float, seed: int = 0) -> dict[int, HostArray]:
    rng = np.random.default_rng(seed)
    return {
        chunk.index: rng.normal(0, scale, chunk.size).astype(np.float32).view(np.uint8)
        for chunk in LAYOUT.chunks(about.servers, about.chunk_bytes)
    }


def noise_of(about: Any, clients: int, rounds: int = 1) -> HostArray:
    """Return the noise of a sum of so many clients, which all send nothing, in steps."""
    frames, found = frames_for(about), []
    sender = masker(about)
    for _ in range(rounds):
        sums = [sender.frames(delta(about, 0.0), 1.0, 0, Bare()) for _ in range(clients)]  # type: ignore[arg-type]
        for chunk in LAYOUT.chunks(about.servers, about.chunk_bytes):
            total = sum(each[chunk.index].view(frames.encoding.dtype) for each in sums)
            values = frames.decode(chunk, np.asarray(total, frames.encoding.dtype), clients, 0).values
            found.append(values * about.goal / frames.encoding.step)
    return np.concatenate(found)


@pytest.mark.parametrize("clients", [6, 10])
def test_the_noise_of_a_sum_of_the_fewest_is_what_is_accounted_for_and_of_more_it_is_more(clients: int) -> None:
    about = job()
    budget = PrivacyBudget(about.specs.privacy.build(), conditions_of(about, 3100))
    share = noise_share_of(about, 3100)
    promised = budget.noise * share.norm * math.sqrt(clients / 6)
    noise = noise_of(about, clients, rounds=40)
    assert chi_square_of_normal(noise / promised, 200) > 1e-6
    assert chi_square_of_normal(noise / promised * 1.03, 200) < 1e-6, "and a test that would see 3 % less"


def test_clients_that_tell_their_shares_are_left_out_of_what_is_promised() -> None:
    alone, watched = (noise_share_of(job(dp=f"{JOB['dp']},colluding={many}"), 3100) for many in (0, 4))
    assert watched.variance == pytest.approx(alone.variance * 6 / 2)


@settings(max_examples=30, deadline=None)
@given(
    scale=st.sampled_from([0.0, 1e-6, 1e-3, 0.05, 1.0, 1e10, 1e30]),
    seed=st.integers(0, 99),
    rotate=st.booleans(),
    ring=st.sampled_from([16, 32]),
)
def test_removing_one_client_moves_the_sum_by_at_most_the_norm_over_every_tensor(
    scale: float, seed: int, rotate: bool, ring: int
) -> None:
    about = job(secure=f"pairwise:ring={ring},rotate={int(rotate)}", dp="skellam:noise=2,delta=1e-5,clip=1")
    frames, share = frames_for(about), noise_share_of(about, 3100)
    chunks = LAYOUT.chunks(about.servers, about.chunk_bytes)
    plain = {index: part.view(np.float32) for index, part in delta(about, scale, seed).items()}
    scaled = share.scaled(plain)
    turned = {chunk.index: frames.turn(chunk, scaled[chunk.index], 0) for chunk in chunks}
    whole = share.whole(turned, frames.encoding, np.random.default_rng(seed))
    norm = math.sqrt(sum(int(part @ part) for part in whole.values()))
    assert norm <= share.norm and share.norm < 1.02 * about.specs.privacy.build().clip / frames.encoding.step + 60


def test_rounding_is_right_on_average() -> None:
    about = job()
    share, encoding = noise_share_of(about, 3100), encoding_of(about)
    values = {0: np.random.default_rng(1).normal(0, 0.01, 3100)}
    total = sum(share.whole(values, encoding, np.random.default_rng(seed))[0] for seed in range(500))
    assert np.abs(total / 500 - values[0] / encoding.step).max() < 5 / math.sqrt(500)


def test_a_sum_is_divided_by_the_same_whoever_is_in_it_buffers_too() -> None:
    about = job(dp="skellam:noise=0.001,delta=1e-5,clip=1")
    frames, sender = frames_for(about), masker(about)
    for count in (6, 9):
        parts = [delta(about, 0.01, seed) for seed in range(count)]
        sums = [sender.frames(part, 77.0, 0, Bare()) for part in parts]  # type: ignore[arg-type]
        for chunk in LAYOUT.chunks(about.servers, about.chunk_bytes):
            total = np.sum([each[chunk.index].view("<u4") for each in sums], axis=0, dtype=np.uint32)
            found = frames.decode(chunk, total, count, 0)
            wanted = np.sum([part[chunk.index].view(np.float32) for part in parts], axis=0) / about.goal
            assert np.abs(found.values - wanted).max() < 1e-3 and found.clipped == 0


def test_nothing_beside_the_noisy_numbers_depends_on_the_delta_or_on_examples() -> None:
    about = job()
    frames, sender = frames_for(about), masker(about)
    for chunk in LAYOUT.chunks(about.servers, about.chunk_bytes):
        body = chunk.size
        trailers = {
            sender.frames(delta(about, scale), examples, 3, Bare())[chunk.index].view("<u4")[body:].tobytes()  # type: ignore[arg-type]
            for scale, examples in ((0.0, 1.0), (1e9, 1.0), (0.01, 1e6))
        }
        assert len(trailers) == 1 and frames.words(chunk) > body
    assert WEIGHT_UNIT == 1 << 16


def test_two_uploads_of_one_delta_have_different_noise() -> None:
    about = job()
    sender = masker(about)
    first, second = (sender.frames(delta(about, 0.01), 1.0, 0, Bare())[0].view("<u4") for _ in range(2))  # type: ignore[arg-type]
    body = LAYOUT.chunks(about.servers, about.chunk_bytes)[0].size
    assert np.mean(first[:body] == second[:body]) < 0.01


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"secure": "pairwise:ring=16,bits=10"}, "a ring of 16 bits has room for"),
        ({"secure": "pairwise:ring=16,bits=16"}, "they would wrap"),
        ({"secure": "pairwise:ring=32,bits=24"}, "and 65536 are the most"),
        ({"dp": "skellam:eps=0.02,delta=1e-9,clip=1", "secure": "pairwise:ring=16"}, "they would wrap"),
    ],
)
def test_noise_for_which_there_is_no_room_is_refused_with_the_numbers(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        noise_share_of(job(**settings), 3100)
    assert why in str(refused.value)


def test_noise_fits_two_bytes_an_element_where_many_must_survive() -> None:
    about = job(secure="pairwise:ring=16", secure_min=90, workers=100, clients_per_round=100)
    assert noise_share_of(about, 100_000).variance > 0 and encoding_of(about).bits == 6

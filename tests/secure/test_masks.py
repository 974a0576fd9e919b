"""Promises of masks: they cancel in the sum, whoever drops out, and a part of them is made without the rest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from ps.errors import BadMessage
from ps.secure.cohort import degree, neighbours, threshold
from ps.secure.identity import ThrowawaySigner
from ps.secure.masks import apply_masks, derive, words
from ps.secure.pairwise import WillNot
from ps.secure.sharing import combine, split
from ps.secure.sums import TOO_FEW
from support.masked import MaskingCohort

DTYPES = [np.dtype("<u2"), np.dtype("<u4")]
RNG = np.random.default_rng(5)


def vectors(count: int, dtype: np.dtype, size: int = 37) -> dict[int, np.ndarray]:
    high = np.iinfo(dtype).max
    return {task: RNG.integers(0, high, size, dtype, endpoint=True) for task in range(1, count + 1)}


def total_of(parts: list[np.ndarray]) -> np.ndarray:
    out = np.zeros_like(parts[0])
    for part in parts:
        out += part
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_masks_cancel_to_the_bit_for_every_set_of_drop_outs_of_eight(dtype: np.dtype) -> None:
    sums = 0
    for size in range(1, 9):
        for survivors in itertools.combinations(range(1, 9), size):
            if size < threshold(8):
                continue
            cohort = MaskingCohort(8)  # new keys for each: none of them is ever used for two sets
            plain = vectors(8, dtype)
            total = total_of([cohort.masked(task, plain[task], 64) for task in survivors])
            apply_masks(total, 64, cohort.unsealing(survivors).left(), inverse=True)
            assert np.array_equal(total, total_of([plain[task] for task in survivors])), survivors
            sums += 1
    assert sums == sum(math.comb(8, size) for size in range(threshold(8), 9))


def test_below_the_threshold_nothing_can_be_put_together() -> None:
    for size in range(3, threshold(8)):
        cohort = MaskingCohort(8)
        survivors = tuple(range(1, size + 1))
        with pytest.raises(WillNot, match="signed the same survivors"):
            cohort.unsealing(survivors)
    cohort = MaskingCohort(8)
    found = cohort.unsealing(range(1, 9), answering=range(1, threshold(8)))
    assert not found.complete
    with pytest.raises(BadMessage, match="shares of a secret"):
        found.left()


def test_masks_cancel_for_a_hundred_with_random_drop_outs_in_a_regular_graph() -> None:
    cohort = MaskingCohort(100)
    assert {len(near) for near in cohort.edges.values()} == {degree(100)} and degree(100) < 99
    plain = vectors(100, DTYPES[0])
    survivors = sorted(RNG.choice(np.arange(1, 101), 91, replace=False).tolist())
    total = total_of([cohort.masked(task, plain[task]) for task in survivors])
    apply_masks(total, 0, cohort.unsealing(survivors).left(), inverse=True)
    assert np.array_equal(total, total_of([plain[task] for task in survivors]))


@pytest.mark.parametrize("count", [3, 5, 32, 33, 100, 1000])
def test_who_has_a_neighbour_is_its_neighbour_and_all_have_as_many(count: int) -> None:
    found = neighbours({task: f"offer {task}" for task in range(1, count + 1)})
    assert all(task in found[other] for task, near in found.items() for other in near)
    assert {len(near) for near in found.values()} == {degree(count)}
    assert all(len(set(near)) == len(near) and task not in near for task, near in found.items())


def test_a_part_of_the_masks_is_that_part_of_all_of_them() -> None:
    key = derive(b"secret", "a part")
    for dtype in DTYPES:
        whole = words(key, 0, 4096, dtype)
        for start in (0, 16, 1600, 4080):
            part = words(key, start, 8, dtype)
            assert np.array_equal(part, whole[start // dtype.itemsize :][:8])


def test_an_upload_is_as_random_as_noise() -> None:
    """Chi-square of bytes and of pairs of neighbouring bits, over 10^7 bytes of an upload that is all zeros."""
    cohort = MaskingCohort(4)
    upload = cohort.masked(2, np.zeros(5_000_000, np.dtype("<u2"))).view(np.uint8)
    counts = np.bincount(upload, minlength=256)
    chi = float((np.square(counts - upload.size / 256) / (upload.size / 256)).sum())
    assert abs(chi - 255) < 6 * math.sqrt(2 * 255)
    pairs = np.bincount(upload[:-1].astype(np.int64) * 256 + upload[1:], minlength=65536)
    expected = (upload.size - 1) / 65536
    chi = float((np.square(pairs - expected) / expected).sum())
    assert abs(chi - 65535) < 6 * math.sqrt(2 * 65535)
    ones = int(np.unpackbits(upload).sum())
    assert abs(ones - 4 * upload.size) < 6 * math.sqrt(2 * upload.size)


def test_another_clients_delta_changes_nothing_that_servers_and_others_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """By construction: with the same coins everything that is said is the same, to the bit, whatever the deltas are.

    What differs are two uploads whose sum is the same. Each is hidden by a mask of the pair's own, whose key neither
    the servers learn, from what is unmasked, nor any of the others, from what they hold.
    """
    coins: list[int] = []

    def transcript() -> tuple[MaskingCohort, object]:
        coins.clear()
        cohort = MaskingCohort(7)
        left = cohort.unsealing(range(1, 8)).left()
        said = [
            cohort.offers,
            cohort.bundles,
            [client.consent(range(1, 8)) for client in cohort.clients.values()],
            left,
        ]
        return cohort, said

    def draw(count: int) -> bytes:
        coins.append(0)
        return derive(b"coins", len(coins), size=count)

    monkeypatch.setattr("os.urandom", draw)
    signers = [ThrowawaySigner() for _ in range(7)]
    monkeypatch.setattr("support.masked.ThrowawaySigner", _each(signers))
    monkeypatch.setattr("Crypto.Protocol.SecretSharing.rng", draw)
    first, one = transcript()
    monkeypatch.setattr("support.masked.ThrowawaySigner", _each(signers))
    second, other = transcript()
    assert one == other
    zero, delta = np.zeros(640, np.uint16), np.arange(640, dtype=np.uint16)
    here = first.masked(1, zero) + first.masked(2, delta)
    there = second.masked(1, delta) + second.masked(2, zero)
    assert np.array_equal(here, there), "servers' sum, and what is unmasked of it, is the same"
    pair = {key for key, _ in first.clients[1].masks} & {key for key, _ in first.clients[2].masks}
    known = {key for key, _ in first.unsealing(range(1, 8)).left()}
    others = {key for task in range(3, 8) for key, _ in first.clients[task].masks}
    assert len(pair) == 1 and not pair & (known | others)


def _each(signers: list[ThrowawaySigner]) -> Callable[[], ThrowawaySigner]:
    rest = iter(signers)
    return lambda: next(rest)


def test_fewer_than_three_are_refused_with_that_sentence() -> None:
    with pytest.raises(WillNot, match=TOO_FEW):
        MaskingCohort(2)
    cohort = MaskingCohort(4)
    with pytest.raises(WillNot, match=TOO_FEW):
        cohort.clients[1].consent((1, 2))


def test_no_client_says_both_of_its_secrets_of_another_one() -> None:
    cohort = MaskingCohort(8)
    cohort.clients[1].consent(range(1, 8))
    with pytest.raises(WillNot, match="both masks of one client would be told"):
        cohort.clients[1].consent(range(1, 9))


def test_clients_of_the_operators_own_do_not_count() -> None:
    cohort = MaskingCohort(6, strangers=3)
    assert cohort.edges.keys() == {1, 2, 3}
    with pytest.raises(WillNot, match=TOO_FEW):
        cohort.clients[1].consent((1, 2, 4, 5, 6))


def test_survivors_that_others_have_not_signed_reveal_nothing() -> None:
    cohort = MaskingCohort(8)
    chosen, lie = (1, 2, 3, 4, 5, 6, 7), (2, 3, 4, 5, 6, 7, 8)
    cohort.clients[1].consent(chosen)
    signatures = [(task, cohort.clients[task].consent(lie)) for task in lie]
    with pytest.raises(WillNot, match="have signed the same survivors"):
        cohort.clients[1].reveal(signatures)


def test_shares_give_the_secret_back_and_fewer_do_not() -> None:
    secret = bytes(range(16))
    shares = split(secret, 3, 5)
    for chosen in itertools.combinations(shares, 3):
        assert combine(chosen, 3) == secret
    with pytest.raises(BadMessage):
        combine(shares[:2], 3)

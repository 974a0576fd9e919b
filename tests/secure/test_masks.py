"""Promises of masks: they cancel in the sum, whoever drops out, and a part of them is made without the rest."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from ps.errors import BadMessage
from ps.secure.cohort import degree, neighbours, threshold
from ps.secure.masks import apply_masks, derive, words
from ps.secure.pairwise import TOO_FEW, WillNot
from ps.secure.sharing import combine, split
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


def test_another_clients_delta_changes_nothing_else_that_anybody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same coins, two deltas of one client whose sums are equal give messages, shares and keys alike.

    What differs is its upload and that of whoever makes up for it, by what masks hide that t - 1 others do not know.
    """
    coins = iter(range(10_000))
    monkeypatch.setattr("os.urandom", lambda n: derive(b"coins", next(coins), size=n))

    def transcript(first: np.ndarray, second: np.ndarray) -> tuple[object, ...]:
        nonlocal coins
        coins = iter(range(10_000))
        cohort = MaskingCohort.__new__(MaskingCohort)
        cohort.__init__(4)  # type: ignore[misc]
        uploads = [cohort.masked(1, first), cohort.masked(2, second)]
        survivors = (1, 2, 3, 4)
        keys = cohort.unsealing(survivors).left()
        own = [key for key, _ in keys]
        return uploads, own, cohort

    zero, delta = np.zeros(64, np.uint16), np.arange(64, dtype=np.uint16)
    one_uploads, one_keys, one = transcript(zero, delta)
    other_uploads, other_keys, other = transcript(delta, zero)
    # signatures and ephemeral keys differ by their own chance alone; what is unmasked is one key for each survivor
    assert len(one_keys) == len(other_keys) == 4
    # the pair's own mask is in nobody's hands but theirs: a shift of it maps the one transcript onto the other
    shared = {key for key, _ in one.clients[1].masks} & {key for key, _ in one.clients[2].masks}
    assert len(shared) == 1 and not shared & set(one_keys)
    assert np.array_equal(
        total_of(one_uploads) - total_of(one_keys_masks(one_keys[:2])), total_of([zero, delta]) + rest(one)
    )
    assert np.array_equal(
        total_of(other_uploads) - total_of(one_keys_masks(other_keys[:2])), total_of([zero, delta]) + rest(other)
    )


def one_keys_masks(keys: list[bytes]) -> list[np.ndarray]:
    return [words(key, 0, 64, np.dtype("<u2")) for key in keys]


def rest(cohort: MaskingCohort) -> np.ndarray:
    """What tasks 1 and 2 have in common with 3 and 4, which those know."""
    out = np.zeros(64, np.uint16)
    for task in (1, 2):
        known = {key for key, _ in cohort.clients[3].masks} | {key for key, _ in cohort.clients[4].masks}
        apply_masks(out, 0, [(key, sign) for key, sign in cohort.clients[task].masks if key in known])
    return out


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

"""Promises of a helper: what it knows takes off the masks of a sum, and it tells no sum that says too much."""

from __future__ import annotations

import numpy as np
import pytest

from ps.errors import BadMessage
from ps.secure.helped import HelpedClient, SumOfMasks
from ps.secure.identity import Lists, ThrowawaySigner, anybody
from ps.secure.masks import apply_masks
from ps.secure.pairwise import MaskedTask, WillNot
from ps.secure.sums import TOO_FEW
from ps.secure.weights import digest_of

Box = tuple[int, int, int, str]
BEGUN = digest_of(0, ())


class HelpedCohort:
    """A helper and some clients, each with one task in each round."""

    def __init__(self, count: int, least: int = 3, lists: Lists | None = None, *, steady: bool = True) -> None:
        self.signers = [ThrowawaySigner() for _ in range(count)]
        self.helper = ThrowawaySigner()
        self.sums = SumOfMasks("job", self.helper, lists or anybody, least, steady=steady)
        self.clients: dict[int, HelpedClient] = {}

    def box(self, task: int, round: int, rank: int, weights: bytes = BEGUN) -> Box:
        client = self.clients[task] = HelpedClient(
            MaskedTask("job", round, task, rank), weights, self.signers[rank], self.helper.public.__eq__
        )
        ((_, text),) = client.shares(1, ((0, 0, self.sums.offer()),))
        return task, round, rank, text


def test_the_sum_of_masks_takes_those_of_a_sum_off_whoever_drops_out() -> None:
    cohort = HelpedCohort(6)
    boxes = [cohort.box(10 + rank, 0, rank) for rank in range(6)]
    plain = {10 + rank: np.random.default_rng(rank).integers(0, 1 << 16, 99, np.uint16) for rank in range(6)}
    total = np.zeros(99, np.uint16)
    for task, *_ in boxes[1:5]:
        words = plain[task].copy()
        apply_masks(words, 320, cohort.clients[task].masks)
        assert not np.array_equal(words, plain[task])
        total += words
    masks = np.zeros(99, np.uint16)
    apply_masks(masks, 320, cohort.sums.keys(0, boxes[1:5]))
    wanted = np.zeros(99, np.uint16)
    for task, *_ in boxes[1:5]:
        wanted += plain[task]
    assert np.array_equal(total - masks, wanted)


def test_fewer_than_three_and_fewer_than_it_wants_are_refused() -> None:
    cohort = HelpedCohort(5, least=4)
    boxes = [cohort.box(rank, 0, rank) for rank in range(5)]
    with pytest.raises(WillNot, match=TOO_FEW):
        cohort.sums.keys(0, boxes[:2])
    with pytest.raises(WillNot, match="it wants 4"):
        cohort.sums.keys(0, boxes[:3])
    assert len(cohort.sums.keys(0, boxes[:4])) == 4


def test_no_task_is_told_twice_but_in_the_same_sum() -> None:
    cohort = HelpedCohort(8)
    boxes = [cohort.box(rank, 0, rank) for rank in range(8)]
    first = cohort.sums.keys(0, boxes[:4])
    assert cohort.sums.keys(0, boxes[:4]) == first, "servers may not have heard it"
    for other in (boxes[:5], boxes[:3], boxes[1:5], boxes[3:]):
        with pytest.raises(WillNot, match="overlaps one that was told already"):
            cohort.sums.keys(0, other)


def test_two_sums_of_one_round_that_differ_by_one_client_are_refused_though_their_tasks_are_new() -> None:
    cohort = HelpedCohort(5)
    cohort.sums.keys(0, [cohort.box(rank, 0, rank) for rank in range(4)])
    with pytest.raises(WillNot, match="differs by 1 of its clients"):
        cohort.sums.keys(0, [cohort.box(10 + rank, 0, rank) for rank in range(5)])
    assert cohort.sums.keys(0, [cohort.box(20 + rank, 0, rank) for rank in range(4)])


def test_clients_of_the_operators_own_do_not_count() -> None:
    listed: set[bytes] = set()
    cohort = HelpedCohort(6, lists=listed.__contains__)
    listed |= {signer.public for signer in cohort.signers[:2]}
    boxes = [cohort.box(rank, 0, rank) for rank in range(6)]
    with pytest.raises(WillNot, match="2 clients that this helper lists"):
        cohort.sums.keys(0, boxes)  # the victim, a friend, and four that the operator has made
    listed.add(cohort.signers[2].public)
    assert cohort.sums.keys(0, boxes)
    twice = [(task, *row[1:]) for task, row in enumerate([*boxes[:2], boxes[0]])]
    with pytest.raises(BadMessage):
        cohort.sums.keys(0, twice)


def test_one_client_under_two_tasks_is_one() -> None:
    cohort = HelpedCohort(2)
    boxes = [cohort.box(1, 0, 0), cohort.box(2, 0, 1), cohort.box(3, 0, 1)]
    with pytest.raises(WillNot, match=TOO_FEW):
        cohort.sums.keys(0, boxes)


def test_a_helper_that_is_not_listed_is_told_no_seed() -> None:
    signer, other = ThrowawaySigner(), SumOfMasks("job", ThrowawaySigner(), anybody, 3)
    client = HelpedClient(MaskedTask("job", 0, 1, 0), BEGUN, signer, lambda public: False)
    with pytest.raises(WillNot, match="none that this client lists"):
        client.shares(1, ((0, 0, other.offer()),))
    with pytest.raises(WillNot, match="not signed"):
        HelpedClient(MaskedTask("another job", 0, 1, 0), BEGUN, signer, anybody).shares(1, ((0, 0, other.offer()),))


def test_seeds_for_another_life_of_the_helper_open_nothing() -> None:
    cohort = HelpedCohort(3)
    boxes = [cohort.box(rank, 0, rank) for rank in range(3)]
    again = SumOfMasks("job", cohort.helper, anybody, 3)
    with pytest.raises(BadMessage, match="cannot be opened"):
        again.keys(0, boxes)


def test_no_sum_is_told_of_clients_that_servers_gave_different_weights() -> None:
    crafted = digest_of(0, [b"crafted"])
    cohort = HelpedCohort(6)
    honest = [cohort.box(rank, 0, rank) for rank in range(5)]
    for weights in (crafted, digest_of(9, ())):
        with pytest.raises(WillNot, match="weights"):
            cohort.sums.keys(0, [*honest, cohort.box(5, 0, 5, weights)])
    assert cohort.sums.keys(0, honest)
    for rank in range(6):
        cohort.box(10 + rank, 0, rank)
    with pytest.raises(WillNot, match="other weights"):  # in the next attempt all are given the others
        cohort.sums.keys(0, [cohort.box(20 + rank, 0, rank, crafted) for rank in range(5)])


def test_of_a_buffer_clients_may_begin_with_different_versions_but_not_with_two_of_one() -> None:
    cohort = HelpedCohort(6, steady=False)
    boxes = [cohort.box(rank, rank % 3, rank, digest_of(rank % 3, ())) for rank in range(6)]
    assert cohort.sums.keys(2, boxes)
    crafted = digest_of(1, [b"crafted"])
    later = [cohort.box(10 + rank, 3, rank, digest_of(3, ())) for rank in range(5)]
    with pytest.raises(WillNot, match="other weights"):  # version 1 was in the sum before
        cohort.sums.keys(3, [*later, cohort.box(15, 1, 5, crafted)])
    with pytest.raises(WillNot, match="version 9 of the weights in round 3"):
        cohort.sums.keys(3, [*later, cohort.box(16, 3, 5, digest_of(9, ()))])
    assert cohort.sums.keys(3, later)

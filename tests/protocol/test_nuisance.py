"""Promises of Nuisance: who says hardly anything but wrong things is cut off, who errs now and then is not."""

from __future__ import annotations

from ps.protocol.nuisance import BUDGET, MALFORMED, MOST_PEERS, PER_SECOND, REFUSED, Nuisance


def test_a_thousand_malformed_messages_at_once_are_too_many() -> None:
    nuisance = Nuisance()
    told = [nuisance.is_too_much(b"a", MALFORMED, 0.0) for _ in range(BUDGET // MALFORMED + 1)]
    assert told == [False] * (BUDGET // MALFORMED) + [True]
    assert not nuisance.is_too_much(b"b", MALFORMED, 0.0), "another's is its own"


def test_few_a_second_may_come_for_ever() -> None:
    nuisance, pause = Nuisance(), MALFORMED / PER_SECOND
    assert not any(nuisance.is_too_much(b"a", MALFORMED, n * pause) for n in range(10_000))


def test_a_window_full_of_what_is_refused_is_borne() -> None:
    nuisance = Nuisance()
    assert not any(nuisance.is_too_much(b"a", REFUSED, 0.0) for _ in range(28_000))


def test_nothing_is_remembered_of_more_than_so_many() -> None:
    nuisance = Nuisance()
    for n in range(3 * MOST_PEERS):
        nuisance.is_too_much(n.to_bytes(4, "big"), MALFORMED, 0.0)
    assert len(nuisance._spent) == MOST_PEERS

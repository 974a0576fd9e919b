"""Promises of the ledger: a server is told what it does not show, no more often than needed, and until it shows it."""

from __future__ import annotations

import json
from typing import Any

from ps.protocol.messages import RoundOrder, RoundStatus
from ps.server.scheduler.rounds.ledger import MOST_ENTRIES, REPEAT, Ledger


def stands(folded: int, phase: str = "collect", attempt: int = 1, version: int = 0) -> RoundStatus:
    return RoundStatus(1, version, attempt, phase, folded, True, ())


def told(ledger: Ledger, now: float) -> Any:
    order = ledger.order(0, now)
    return order and (order.phase, order.first, [entry[0] for entry in order.entries], order.count)


def test_a_server_is_told_at_once_what_is_new_and_nothing_once_it_has_it() -> None:
    ledger = Ledger(1)
    assert told(ledger, 0.0) == ("collect", 0, [], 0)
    ledger.heard(0, stands(0))
    assert told(ledger, 0.1) is None and told(ledger, 100.0) is None
    ledger.enter(1, 2.0, 1.0, 1.0)
    assert told(ledger, 100.0) == ("collect", 0, [1], 1)
    assert told(ledger, 100.1) is None
    ledger.enter(2)
    assert told(ledger, 100.2) == ("collect", 1, [2], 2)
    ledger.heard(0, stands(2))
    assert told(ledger, 200.0) is None
    assert ledger.counted == 1 and ledger.settled == {1, 2}


def test_a_lost_order_is_said_again_after_a_while_however_much_comes_meanwhile() -> None:
    ledger = Ledger(1)
    ledger.enter(1, 1.0)
    assert told(ledger, 0.0) == ("collect", 0, [1], 1)  # lost
    ledger.heard(0, stands(0))
    now = 0.0
    for task in range(2, 40):
        now += REPEAT / 10
        ledger.enter(task, 1.0)
        order = told(ledger, now)
        if order[1] == 0:
            break
    assert order[1] == 0 and now <= 1.1 * REPEAT


def test_what_a_server_has_shown_is_not_said_again() -> None:
    ledger = Ledger(1)
    for task in range(5):
        ledger.enter(task, 1.0)
    assert told(ledger, 0.0) == ("collect", 0, [0, 1, 2, 3, 4], 5)
    ledger.heard(0, stands(3))
    assert told(ledger, REPEAT) == ("collect", 3, [3, 4], 5)
    ledger.heard(0, stands(4, attempt=9))
    assert told(ledger, 2 * REPEAT) == ("collect", 0, [0, 1, 2, 3, 4], 5)


def test_a_long_ledger_is_told_in_parts() -> None:
    ledger = Ledger(1)
    for task in range(MOST_ENTRIES + 7):
        ledger.enter(task, 1.0)
    first, second = ledger.order(0, 0.0), ledger.order(0, 0.0)
    assert first is not None and second is not None
    assert (len(first.entries), second.first, len(second.entries)) == (MOST_ENTRIES, MOST_ENTRIES, 7)
    assert ledger.order(0, 0.0) is None


def test_a_phase_is_said_again_until_the_server_is_there() -> None:
    ledger = Ledger(1)
    ledger.enter(1, 1.0)
    ledger.order(0, 0.0)
    ledger.heard(0, stands(1))
    for phase, there in (("prepare", stands(0, "prepared")), ("publish", stands(0, version=1))):
        ledger.phase = phase
        assert told(ledger, 10.0) == (phase, 1 if phase == "prepare" else 0, [] if phase == "prepare" else [1], 1)
        assert told(ledger, 10.1) is None
        assert told(ledger, 10.0 + REPEAT) is not None
        ledger.heard(0, there)
        ledger.progress[0].at = -1e9
    assert ledger.published and not ledger.all_are("prepared")


def test_a_phase_needs_all_servers_in_this_attempt() -> None:
    ledger = Ledger(2)
    ledger.heard(0, stands(0, "prepared"))
    assert not ledger.all_are("prepared")
    ledger.heard(1, stands(0, "prepared", attempt=2))
    assert not ledger.all_are("prepared")
    ledger.heard(1, stands(0, "prepared"))
    assert ledger.all_are("prepared")
    ledger.lost(1)
    assert not ledger.all_are("prepared")


def test_a_new_attempt_and_a_new_round_begin_empty_and_are_told() -> None:
    ledger = Ledger(1)
    ledger.enter(1, 1.0)
    ledger.order(0, 0.0)
    ledger.heard(0, stands(1))
    ledger.begin(floor=2)
    assert (ledger.attempt, ledger.version, ledger.entries, ledger.counted) == (2, 0, [], 0)
    assert ledger.folded(0) == 0, "what was counted in the attempt before says nothing of this one"
    order = ledger.order(0, 0.0)
    assert isinstance(order, RoundOrder) and (order.attempt, order.floor, order.count) == (2, 2, 0)
    ledger.publish(floor=5)
    assert (ledger.attempt, ledger.version, ledger.floor) == (3, 1, 5)


def test_a_restarted_scheduler_tells_all_anew() -> None:
    ledger = Ledger(2)
    ledger.enter(4, 2.0, 0.5, 0.25)
    ledger.enter(5)
    ledger.phase, ledger.weights, ledger.factor, ledger.share = "prepare", (1.0,), 3.0, 0.5
    ledger.heard(0, stands(2))
    again = Ledger.load(2, json.loads(json.dumps(ledger.dump())))
    assert again.dump() == ledger.dump()
    assert (again.counted, again.settled) == (1, {4, 5})
    assert told(again, 0.0) == ("prepare", 0, [4, 5], 2)

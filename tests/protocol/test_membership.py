"""Promises of a membership, with a clock that the test turns: joins, beats, notices silence, and ends when told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import (
    ConfigError,
    ConnectTimeout,
    Evicted,
    JobEnded,
    LayoutMismatch,
    PSError,
    Refused,
    VersionMismatch,
)
from ps.protocol.membership import RETRY, Membership, peers
from ps.protocol.messages import Error, Heartbeat, HeartbeatAck, Hello, InitGrant, Message, Ok, View, Welcome

SCHEDULER = "tcp://10.0.0.1:7070"
NOW = 1000.0


def make(**given: Any) -> Membership:
    values: dict[str, Any] = {
        "rank": None,
        "addresses": ("tcp://h:1",),
        "script": {"mode": "ssp"},
        "connect_timeout": 30.0,
        "now": NOW,
    }
    return Membership("worker", SCHEDULER, **{**values, **given})


def welcome(member: int = 7, timeout: float = 10.0) -> Welcome:
    return Welcome(0, member, 2, timeout, {})


def view(epoch: int, phase: str = "running") -> View:
    return View(epoch, phase, "", "", {}, ((7, "worker", 2, True, "h, pid 4", ()),))


def joined(timeout: float = 10.0) -> Membership:
    membership = make()
    membership.receive(welcome(timeout=timeout), NOW)
    return membership


def wait(membership: Membership, since: int, until: int) -> None:
    """Let seconds pass in which nobody says anything."""
    for second in range(since, until):
        membership.tick(NOW + second)


def sent(membership: Membership, now: float) -> list[type[Message]]:
    return [type(message) for message in membership.tick(now)]


def test_the_first_word_is_hello_with_all_that_the_scheduler_needs() -> None:
    (hello,) = make(rank=3).tick(NOW)
    assert isinstance(hello, Hello)
    assert (hello.role, hello.rank, hello.addresses, hello.script) == ("worker", 3, ("tcp://h:1",), {"mode": "ssp"})
    assert hello.pid > 0
    assert hello.host


def test_any_rank_is_asked_for_as_minus_one() -> None:
    (hello,) = make().tick(NOW)
    assert isinstance(hello, Hello)
    assert hello.rank == -1


def test_hello_is_repeated_with_the_same_nonce_until_it_is_answered() -> None:
    membership = make()
    first = membership.tick(NOW)
    assert membership.tick(NOW + RETRY / 2) == []
    assert membership.tick(NOW + RETRY) == first
    assert make().tick(NOW) != first
    membership.receive(welcome(), NOW + RETRY + 0.1)
    assert sent(membership, NOW + RETRY + 0.1) == [Heartbeat]


def test_nobody_there_is_a_timeout_that_names_the_scheduler_and_the_next_step() -> None:
    membership = make()
    wait(membership, 0, 30)
    assert sent(membership, NOW + 30.0) == [Hello]
    with pytest.raises(ConnectTimeout, match=f"{SCHEDULER} after 30 s. Is it up\\? Try: psctl ping {SCHEDULER}"):
        membership.tick(NOW + 30.01)


def test_a_taken_rank_is_asked_for_again_until_it_is_free() -> None:
    membership = make(rank=1)
    membership.tick(NOW)
    membership.receive(Error(0, "rank-taken", "rank 1 is taken by worker 1"), NOW + 0.1)
    assert sent(membership, NOW + RETRY) == [Hello]
    membership.receive(welcome(), NOW + RETRY + 0.1)
    assert membership.member == 7
    assert sent(membership, NOW + 100) == [Heartbeat]


def test_a_rank_that_stays_taken_is_refused_in_the_schedulers_words() -> None:
    membership = make(rank=1)
    for second in range(1, 31):
        membership.receive(Error(0, "rank-taken", "rank 1 is taken by worker 1"), NOW + second)
        membership.tick(NOW + second)
    with pytest.raises(Refused, match="rank 1 is taken by worker 1"):
        membership.tick(NOW + 31.01)


def test_a_scheduler_that_was_away_has_the_whole_time_to_find_out_that_the_holder_of_a_rank_is_dead() -> None:
    membership = make(rank=1)
    membership.receive(Error(0, "rank-taken", "rank 1 is taken by worker 1"), NOW + 29)
    assert sent(membership, NOW + 58) == [Hello]
    membership.receive(welcome(), NOW + 58)
    assert membership.member == 7


def test_a_refusal_of_long_ago_is_told_with_its_age_and_is_not_the_cause() -> None:
    membership = make(rank=1)
    wait(membership, 0, 6)
    membership.receive(Error(0, "rank-taken", "rank 1 is taken by worker 1"), NOW + 6)
    wait(membership, 6, 37)
    with pytest.raises(ConnectTimeout, match=f"{SCHEDULER} for 31 s.*, 31 s ago, was: rank 1 is taken by worker 1"):
        membership.tick(NOW + 37)


def test_heartbeats_say_who_we_are_what_we_know_and_how_we_do() -> None:
    membership = joined()
    membership.report = {"clock": 5}
    assert membership.tick(NOW) == [Heartbeat(7, 0, {"clock": 5})]
    membership.receive(view(4), NOW)
    assert membership.tick(NOW + 0.9) == []
    assert membership.tick(NOW + 1.0) == [Heartbeat(7, 4, {"clock": 5})]


def test_that_a_member_was_asked_to_end_is_said_at_once() -> None:
    membership = joined()
    assert membership.tick(NOW) == [Heartbeat(7, 0, {})]
    membership.report = {"terminated": True}
    assert membership.tick(NOW + 0.1) == [Heartbeat(7, 0, {"terminated": True})]
    assert membership.tick(NOW + 0.2) == []


@pytest.mark.parametrize(("timeout", "interval"), [(10.0, 1.0), (2.0, 0.4), (0.5, 0.1)])
def test_five_heartbeats_fit_in_a_timeout(timeout: float, interval: float) -> None:
    assert joined(timeout).interval == pytest.approx(interval)


def test_no_heartbeat_is_sent_before_welcome() -> None:
    membership = make()
    assert membership.member == 0
    for second in range(30):
        assert Heartbeat not in sent(membership, NOW + second)


def test_a_second_welcome_changes_nothing() -> None:
    membership = joined()
    membership.receive(welcome(member=9), NOW + 1)
    assert membership.member == 7


@given(st.permutations([view(epoch) for epoch in (1, 2, 3, 5, 8)]))
def test_the_latest_view_wins_in_whatever_order_they_come(views: list[View]) -> None:
    membership = joined()
    highest = 0
    for new in views:
        membership.receive(new, NOW)
        highest = max(highest, new.epoch)
        assert membership.view is not None
        assert membership.view.epoch == highest


def test_a_view_names_its_members() -> None:
    (peer,) = peers(view(1))
    assert (peer.member, peer.role, peer.rank, peer.initial) == (7, "worker", 2, True)
    assert str(peer) == "worker 2 (h, pid 4)"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("evicted", Evicted),
        ("version", VersionMismatch),
        ("config", ConfigError),
        ("layout", LayoutMismatch),
        ("over", Refused),
        ("ended", JobEnded),
        ("a code of the future", Refused),
    ],
)
@pytest.mark.parametrize("begin", [make, joined])
def test_an_error_ends_the_membership_as_what_it_is(
    code: str, error: type[PSError], begin: Callable[[], Membership]
) -> None:
    with pytest.raises(error, match="the words"):
        begin().receive(Error(0, code, "the words"), NOW)


def client() -> Membership:
    """A client of a federated job, as member 7 of rank 2."""
    membership = joined()
    membership.receive(View(1, "running", "", "", {"mode": "federated"}, ()), NOW)
    return membership


def test_a_client_that_was_declared_dead_joins_again_under_its_rank() -> None:
    membership = client()
    (before,) = make().tick(NOW)
    membership.receive(Error(0, "evicted", "worker 2 was declared dead"), NOW + 20)
    assert membership.member == 0
    (hello,) = membership.tick(NOW + 20)
    assert isinstance(hello, Hello) and isinstance(before, Hello)
    assert hello.rank == 2 and hello.nonce != before.nonce
    membership.receive(Error(0, "evicted", "an answer to another heartbeat"), NOW + 20)
    assert membership.tick(NOW + 21.5) == [hello]
    membership.receive(welcome(member=9), NOW + 22)
    assert membership.member == 9 and sent(membership, NOW + 22) == [Heartbeat]


def test_a_client_that_cannot_join_again_ends_after_the_connect_time_out() -> None:
    membership = client()
    membership.receive(Error(0, "evicted", "worker 2 was declared dead"), NOW + 20)
    wait(membership, 20, 51)
    with pytest.raises(ConnectTimeout):
        membership.tick(NOW + 51)


def test_unknown_is_remembered_until_the_scheduler_knows_us() -> None:
    membership = joined()
    membership.receive(Error(0, "unknown", "who are you?"), NOW)
    assert membership.unknown
    assert sent(membership, NOW + 5) == [Heartbeat]
    membership.receive(HeartbeatAck(3), NOW + 6)
    assert not membership.unknown


@pytest.mark.parametrize("message", [Ok(1), InitGrant(1, True), HeartbeatAck(1), Error(0, "unknown", "")])
def test_every_word_of_the_scheduler_is_a_sign_of_life(message: Message) -> None:
    membership = joined()
    assert membership.silence(NOW + 5) == 5
    membership.receive(message, NOW + 5)
    assert membership.silence(NOW + 6) == 1
    membership.heard(NOW + 8)
    assert membership.silence(NOW + 8) == 0


def test_silence_is_noticed_after_the_timeout_and_then_now_and_again() -> None:
    membership = joined(timeout=10.0)
    said = []
    for second in range(100):
        if notice := membership.silence_notice(NOW + second):
            said.append(second)
            assert f"the scheduler at {SCHEDULER} has been silent for {second} s; training goes on" in notice
            assert "--state" in notice
    assert said == [10, 40, 70]
    membership.receive(HeartbeatAck(1), NOW + 100)
    assert membership.silence_notice(NOW + 105) == ""
    assert membership.silence_notice(NOW + 111) != ""


def test_a_process_whose_interpreter_was_held_does_not_blame_the_scheduler() -> None:
    membership = joined()
    membership.tick(NOW + 1)
    membership.tick(NOW + 61)
    assert membership.silence(NOW + 61) == 1 and membership.silence_notice(NOW + 61) == ""


@pytest.mark.parametrize("refused", [False, True])
def test_a_process_that_stood_still_while_it_joined_hears_what_was_said_before_it_gives_up(refused: bool) -> None:
    membership = make(rank=1)
    membership.tick(NOW)
    if refused:
        membership.receive(Error(0, "rank-taken", "rank 1 is taken by worker 1"), NOW)
    assert sent(membership, NOW + 60) == [Hello]
    membership.receive(welcome(), NOW + 60)
    assert membership.member == 7
    still = make()
    still.tick(NOW)
    wait(still, 60, 64)
    with pytest.raises(ConnectTimeout):  # for a few seconds, and not anew
        still.tick(NOW + 64.1)


def test_silence_before_welcome_is_the_connect_timeouts_business() -> None:
    assert make().silence_notice(NOW + 29) == ""

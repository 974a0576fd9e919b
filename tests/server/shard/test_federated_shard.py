"""Promises of a federated shard: it does what the orders say, once, says where it is, and comes back as the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import BadMessage, ConfigError
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Distances,
    Error,
    Init,
    InitChunk,
    Inquire,
    Late,
    Ok,
    Pull,
    Push,
    Resume,
    RoundOrder,
    Stored,
    Suspend,
    Upload,
    UploadState,
    Waiting,
    Weights,
)
from ps.server.shard import client_waiters
from ps.server.shard.federated_shard import FederatedShard
from ps.state_file import StateFile
from support.delta_parts import MODEL, Hand, job_of
from support.identity import KEY

ONE = [(1, 1.0, 1.0, 1.0)]


def weights(shard: FederatedShard) -> list[list[float]]:
    return [state.weights.tolist() for _, state in sorted(shard.chunks.items())]


def test_a_round_adds_the_weighted_mean_and_is_published_by_all_phases() -> None:
    hand = Hand().begin()
    hand.upload(1, 1.0)
    hand.upload(2, 4.0)
    entries = [(1, 1.0, 1.0, 1.0), (2, 2.0, 1.0, 1.0)]
    assert (hand.order("collect", entries).folded, hand.shard.version) == (2, 0)
    assert hand.order("prepare", entries).phase == "prepared"
    assert weights(hand.shard) == [[0.0] * 6, [0.0] * 2, [0]]
    status = hand.order("publish", entries)
    assert (status.version, status.folded, status.phase) == (1, 0, "collect")
    assert weights(hand.shard) == [[3.0] * 6, [3.0] * 2, [5]]


def test_an_order_said_again_changes_nothing() -> None:
    hand = Hand().begin()
    hand.upload(1, 1.0)
    for phase in ("collect", "collect", "prepare", "prepare", "publish"):
        hand.order(phase, ONE, version=0)
    once = weights(hand.shard)
    for phase in ("publish", "prepare", "collect"):
        hand.order(phase, ONE, version=0)
    assert weights(hand.shard) == once and hand.shard.version == 1


def test_entries_after_a_gap_wait_for_those_that_are_missing() -> None:
    hand = Hand().begin()
    for task in (1, 2, 3):
        hand.upload(task, 1.0)
    entries = [(task, 1.0, 1.0, 1.0) for task in (1, 2, 3)]
    assert hand.order("prepare", entries[1:], first=1, count=3).folded == 0
    assert hand.order("prepare", entries[:2], first=0, count=3).folded == 2
    status = hand.order("prepare", entries[1:], first=1, count=3)
    assert (status.folded, status.phase) == (3, "prepared")


def test_a_contribution_that_is_dropped_is_gone_and_its_client_late() -> None:
    hand = Hand().begin()
    hand.upload(1, 1.0)
    hand.order("collect", [(1, 0.0, 0.0, 0.0)])
    assert hand.shard.report(0.0)["staged"] == 0
    assert isinstance(hand.say(Upload(1, 9, 1, 0, 0, 0), bytes(24)), Late)
    hand.publish([(1, 0.0, 0.0, 0.0)])
    assert weights(hand.shard) == [[0.0] * 6, [0.0] * 2, [0]]


def test_what_is_to_count_and_is_not_here_breaks_the_attempt_until_the_next() -> None:
    hand = Hand().begin()
    hand.upload(2, 1.0)
    hand.upload(3, 1.0, 0)
    for missing in (1, 3):
        assert hand.order("prepare", [(missing, 1.0, 1.0, 1.0)], attempt=missing).phase == "broken"
    entries = [(2, 1.0, 1.0, 1.0)]
    assert hand.order("prepare", entries, attempt=5).phase == "prepared"
    hand.order("publish", entries, attempt=5)
    assert weights(hand.shard)[0] == [1.0] * 6


def test_a_new_attempt_forgets_what_was_counted_and_what_was_prepared_but_not_what_is_staged() -> None:
    hand = Hand().begin()
    hand.upload(1, 1.0)
    hand.upload(2, 8.0)
    hand.order("prepare", ONE)
    status = hand.order("collect", attempt=2)
    assert (status.attempt, status.folded, status.phase) == (2, 0, "collect")
    assert [task for task, *_ in status.staged] == [2]
    hand.publish([(2, 1.0, 1.0, 1.0)], attempt=2)
    assert weights(hand.shard)[0] == [8.0] * 6


def test_only_the_attempt_that_was_prepared_is_published() -> None:
    hand = Hand().begin()
    hand.upload(1, 1.0)
    hand.order("prepare", ONE)
    assert hand.order("publish", ONE, attempt=2).phase == "prepared"
    assert hand.shard.version == 0
    hand.order("publish", ONE)
    assert hand.shard.version == 1


def test_distances_are_measured_once_and_said_as_often_as_asked() -> None:
    hand = Hand(job_of(aggregator="geomedian")).begin()
    hand.upload(1, 0.0)
    hand.upload(2, 2.0)
    entries = [(1, 1.0, 1.0, 1.0), (2, 1.0, 1.0, 1.0)]
    found = []
    for _ in range(2):
        sends = hand.shard.order(RoundOrder(0, 1, 1, "measure", 0, tuple(entries), 2, (), 1.0, 1.0))
        found += [(send.message, send.payload) for send in sends if isinstance(send.message, Distances)]
    (first, one), (second, two) = found
    assert first == second == Distances(1, 1, 2) and one is two and one is not None
    np.testing.assert_allclose(one, [[0.0, 32.0], [32.0, 0.0]])


def test_uploads_are_told_to_the_scheduler_when_they_are_complete() -> None:
    hand = Hand().begin()
    hand.round_status()
    hand.upload(1, 1.0, 0, 1)
    assert not hand.to_scheduler
    hand.upload(1, 1.0, 2)
    assert hand.round_status().staged == ((1, 8.0, ""),)
    assert hand.say(Resume(5, 9, 1, 0)) == UploadState(5, 1, (0, 1, 2))
    assert hand.say(Resume(5, 9, 2, 0)) == UploadState(5, 2, ())


def test_a_floor_drops_all_below_it() -> None:
    hand = Hand().begin()
    for task in range(1, 30):
        hand.upload(task, 1.0)
    status = hand.order("collect", floor=28)
    assert [task for task, *_ in status.staged] == [28, 29]
    assert isinstance(hand.say(Upload(1, 9, 27, 0, 0, 0), bytes(24)), Late)


def test_weights_of_a_version_to_come_are_sent_when_it_is_published() -> None:
    hand = Hand().begin()
    assert hand.shard.receive(b"a", Pull(4, 9, 0, 1, False), None, 0.0) == []
    assert hand.shard.receive(b"a", Pull(4, 9, 0, 1, False), None, 0.0) == []
    assert hand.say(Inquire(6, 9, (4, 5))) == Waiting(6, (5,), 0, ())
    hand.upload(1, 1.0)
    hand.order("prepare", ONE)
    reply, _ = hand.shard.order(RoundOrder(0, 1, 1, "publish", 1, (), 1, (), 1.0, 1.0))
    assert (reply.to, reply.message) == (b"c", Weights(4, 0, 1, 0)) and reply.loan is not None
    np.testing.assert_array_equal(reply.loan.weights, 1.0)


def test_a_version_that_is_far_from_being_published_is_not_waited_for() -> None:
    hand = Hand().begin()
    for clock in (2, 1 << 60):
        with pytest.raises(BadMessage, match="is at 0"):
            hand.shard.receive(b"c", Pull(1, 9, 0, clock), None, 0.0)
    assert not hand.shard._waiters


def test_who_waits_for_a_version_is_remembered_once_a_chunk_and_asks_again_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_waiters, "MOST_WAITING", 3)
    hand = Hand().begin()
    for request in range(1, 1000):
        assert hand.shard.receive(b"a", Pull(request, 9, 0, 1, False), None, 0.0) == []
    assert hand.say(Inquire(1000, 9, (998, 999))) == Waiting(1000, (998,), 0, ())
    for member in (10, 11, 12):
        hand.shard.receive(b"a", Pull(1, member, 0, 1, False), None, 0.0)
    assert hand.say(Inquire(1000, 9, (999,))) == Waiting(1000, (999,), 0, ())
    assert hand.say(Inquire(1000, 10, (1,))) == Waiting(1000, (), 0, ())


def test_the_first_values_are_those_of_the_seeder_until_something_has_begun() -> None:
    hand = Hand().begin()
    assert isinstance(hand.say(InitChunk(1, 8, 0), bytes(24)), Error)
    hand.say(Init(1, 8, 1, 1024, MODEL.pack()))
    assert isinstance(hand.say(InitChunk(1, 8, 0), np.ones(6, np.float32).tobytes()), Ok)
    assert weights(hand.shard)[0] == [1.0] * 6
    hand.order("collect")
    hand.say(Init(1, 7, 1, 1024, MODEL.pack()))
    hand.say(InitChunk(1, 7, 0), bytes(24))
    assert weights(hand.shard)[0] == [1.0] * 6
    other = Layout.of({"w": np.zeros(3, np.float32)}).pack()
    assert isinstance(hand.say(Init(1, 7, 1, 1024, other)), Error)


@pytest.mark.parametrize(
    "message",
    [
        Upload(1, 9, 1, 0, 0, 99),
        Pull(1, 9, -1, 0, False),
        InitChunk(1, 9, 99),
        Init(1, 9, 3, 1024, MODEL.pack()),
        Push(1, 9, 0, 0, 0, 1.0, 1.0, False),
    ],
)
def test_what_cannot_be_meant_is_refused_and_changes_nothing(message: Any) -> None:
    hand = Hand().begin()
    with pytest.raises(BadMessage):
        hand.say(message, bytes(24))
    assert hand.shard.report(0.0)["staged"] == 0 and hand.say(Suspend(3, 9)) == Ok(3)


def test_nothing_is_taken_before_there_is_a_model() -> None:
    hand = Hand()
    with pytest.raises(BadMessage):
        hand.say(Upload(1, 9, 1, 0, 0, 0), bytes(24))
    status = hand.order("collect")
    assert (status.phase, status.durable) == ("empty", False)
    hand.say(Init(1, 9, 1, 1024, MODEL.pack()))
    with pytest.raises(BadMessage, match="no values yet"):
        hand.say(Upload(1, 9, 1, 0, 0, 0), bytes(24))
    assert hand.order("collect").phase == "empty"


def test_what_is_remembered_after_many_rounds_does_not_grow() -> None:
    hand = Hand().begin()
    for round in range(50):
        first = 10 * round
        for task in range(first, first + 10):
            hand.upload(task, 1.0, *([0] if task % 3 == 0 else []))
        entries = [(task, float(task % 3 > 0), 1.0, 1.0) for task in range(first, first + 8)]
        hand.publish(entries, floor=first, attempt=round + 1)
        hand.order("collect", floor=first + 10, attempt=round + 2)
    assert hand.shard.report(0.0)["staged_bytes"] == 0
    assert len(hand.shard._uploads._settled) == 0 and not hand.shard._waiters


# Across deaths


def again(hand: Hand, path: Path) -> Hand:
    """The process that comes after one that was killed."""
    return Hand(hand.job, str(path), hand.layout)


def test_one_that_was_killed_while_it_collected_comes_back_with_the_published_model(tmp_path: Path) -> None:
    path = tmp_path / "s"
    hand = Hand(job_of(server_optimizer="momentum:lr=1"), str(path)).begin()
    assert hand.round_status().durable
    hand.upload(1, 1.0)
    hand.publish(ONE)
    hand.upload(2, 1.0)
    hand.order("collect", [(2, 1.0, 1.0, 1.0)], attempt=2)
    back = again(hand, path)
    back.tick()
    status = back.round_status()
    assert (status.version, status.folded, status.durable, status.staged) == (1, 0, True, ())
    assert weights(back.shard) == weights(hand.shard)
    for one in (hand, back):  # and its optimizer goes on from where it was
        one.upload(3, 2.0)
        one.publish([(3, 1.0, 1.0, 1.0)], attempt=3)
    assert weights(back.shard) == weights(hand.shard)


def test_one_that_had_prepared_publishes_when_it_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "s"
    hand = Hand(path=str(path)).begin()
    hand.upload(7, 1.0)
    entries = [(7, 2.0, 1.0, 1.0)]
    hand.order("prepare", entries, factor=3.0, attempt=4, floor=7)
    back = again(hand, path)
    back.tick()
    status = back.round_status()
    assert (status.version, status.attempt, status.phase) == (0, 4, "prepared")
    assert isinstance(back.say(Upload(1, 9, 6, 0, 0, 0), bytes(24)), Late)
    for one in (back, hand):
        one.order("publish", entries, attempt=4)
    assert weights(back.shard) == weights(hand.shard) == [[3.0] * 6, [1.0] * 2, [1]]


def test_what_was_prepared_is_forgotten_with_its_attempt_and_its_version(tmp_path: Path) -> None:
    path = tmp_path / "s"
    hand = Hand(path=str(path)).begin()
    hand.upload(1, 1.0)
    hand.order("prepare", ONE)
    hand.order("collect", attempt=2)
    assert again(hand, path).shard._prepared is None
    hand.upload(2, 1.0)
    hand.publish([(2, 1.0, 1.0, 1.0)], attempt=2)
    back = again(hand, path)
    assert back.shard._prepared is None and back.shard.version == 1


def test_what_was_prepared_for_a_version_that_is_published_is_not_published_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    hand = Hand(path=str(path)).begin()
    hand.upload(1, 1.0)
    hand.order("prepare", ONE)
    hand.state_file.drop = lambda name: None  # type: ignore[method-assign]
    hand.order("publish", ONE)
    back = again(hand, path)
    back.order("publish", ONE, version=0)
    back.order("publish", ONE, version=1)
    assert back.shard.version == 1 and weights(back.shard) == [[1.0] * 6, [1.0] * 2, [1]]


def test_a_round_is_never_lost_however_its_publication_is_broken_off(tmp_path: Path) -> None:
    """Whatever the last write was that got to the disk, the server comes back with the round done or prepared."""
    reached = set()
    for moment in range(12):
        path = tmp_path / f"s{moment}"
        hand = Hand(path=str(path)).begin()
        hand.upload(1, 1.0)
        hand.order("prepare", ONE)
        left = [moment]

        def burn(method: Any, left: list[int] = left) -> Any:
            def burnt(*args: Any) -> None:
                for act in (lambda: None, lambda: method(*args)):
                    if left[0] == 0:
                        raise KeyboardInterrupt
                    left[0] -= 1
                    act()

            return burnt

        hand.state_file.keep, hand.state_file.drop = burn(hand.state_file.keep), burn(hand.state_file.drop)  # type: ignore[method-assign]
        try:
            hand.order("publish", ONE)
        except KeyboardInterrupt:
            reached.add(moment)
        back = again(hand, path)
        back.order("publish", ONE, version=0)
        assert weights(back.shard) == [[1.0] * 6, [1.0] * 2, [1]] and back.shard.version == 1
    assert len(reached) >= 3


def test_the_state_of_another_server_or_job_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    Hand(path=path).begin()
    for rank, job in ((1, job_of(servers=2)), (0, job_of(servers=2)), (0, job_of(server_optimizer="adam:lr=1"))):
        with pytest.raises(ConfigError, match="another --state"):
            FederatedShard(rank, job, KEY, StateFile(path))


def test_a_server_without_a_chunk_takes_part_and_comes_back(tmp_path: Path) -> None:
    tiny = Layout.of({"w": np.zeros(1, np.float32)})
    job = job_of(servers=3)
    shard = FederatedShard(2, job, KEY, StateFile(str(tmp_path / "s")), member=3)
    [_, status] = shard.receive(b"", Init(1, 9, 3, 1024, tiny.pack()), None, 0.0)
    assert not shard.chunks and status.message.durable  # type: ignore[attr-defined]
    back = FederatedShard(2, job, KEY, StateFile(str(tmp_path / "s")), member=3)
    for phase in ("prepare", "publish"):
        back.order(RoundOrder(0, 1, 1, phase, 0, (), 0, (), 1.0, 1.0))
    assert back.version == 1


def test_no_bytes_from_a_client_do_harm() -> None:
    dice = random.Random(3)
    hand = Hand().begin()
    for _ in range(2000):
        frame = dice.randbytes(dice.randrange(60))
        task, chunk = dice.randrange(-5, 20), dice.randrange(-1, 4)
        try:
            hand.say(Upload(1, 9, task, 0, dice.randrange(-5, 5), chunk), frame)
        except BadMessage:
            assert chunk in (-1, 3)
    hand.upload(100, 1.0)
    hand.publish([(100, 1.0, 1.0, 1.0)])
    assert weights(hand.shard) == [[1.0] * 6, [1.0] * 2, [1]]
    assert isinstance(hand.say(Upload(1, 9, 101, 0, 0, 0), bytes(24)), Stored)

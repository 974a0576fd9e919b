"""Promises of a shard: nothing received is trusted, retries count once, nothing is written while it is lent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ps.errors import BadMessage, ConfigError
from ps.protocol.codec import decode, encode
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Attach,
    Attached,
    Error,
    Init,
    InitChunk,
    Inquire,
    Leave,
    Message,
    Pull,
    Push,
    Scale,
    Skip,
    Start,
    Waiting,
    Weights,
)
from ps.protocol.messages.data import NOT_YET
from ps.protocol.ranges import MOST_AHEAD, MOST_STEPS
from ps.server.shard.chunk import MANY_WAITERS
from support.lone import LAYOUT, SIZE, Lone, told

ONES = np.ones(SIZE, np.float32)


def push(**fields: Any) -> Push:
    values: dict[str, Any] = {"request": 99, "member": 1, "chunk": 0, "clock": 0, "version": 0}
    return Push(**{**values, "examples": 1.0, "scale": 1.0, "pull": True, **fields})


@pytest.mark.parametrize(
    ("message", "payload", "words"),
    [
        (push(), np.ones(SIZE + 1, np.float32), "chunk 0 has 32 bytes, the frame 36"),
        (push(), np.ones(0, np.float32), "chunk 0 has 32 bytes, the frame 0"),
        (push(chunk=7), ONES, "server 0 does not hold chunk 7"),
        (push(clock=-1), ONES, "Push.clock: -1 is not"),
        (push(examples=float("inf")), ONES, "Push.examples: inf is not"),
        (push(examples=-1.0), ONES, "Push.examples: -1.0 is not"),
        (push(scale=2.0), ONES, "Push.scale: 2.0 is not a number from 0 to 1"),
        (Skip(9, 1, 8, 0, True), None, "does not hold chunk 8"),
        (Pull(9, 1, -1, 0), None, "Pull.chunk: -1 is not"),
        (Scale(9, 1, 0, 0, 1.0), None, "a Scale for clock 0 of chunk 0, where none is waited for"),
        (Skip(9, 1, 0, 0, True, 0, ((1, 0, float("inf"), 0.0),)), None, r"Skip.rates\[0\]\[2\]: inf is not"),
        (Skip(9, 1, 0, 0, True, 0, ((1, 0, -1.0, 0.0),)), None, r"Skip.rates\[0\]\[2\]: -1.0 is not"),
        (Skip(9, 1, 0, 0, True, 0, ((-1, 0, 0.1, 0.0),)), None, r"Skip.rates\[0\]\[0\]: -1 is not"),
        (
            push(rates=((0, 0, 0.0, 0.0), (1, 0, 0.1, 0.0), (2, 0, 0.2, 0.0))),
            ONES,
            "Push.rates: .* not a list of at most 2",
        ),
        (Start(9, 1, -3), None, "Start.clock: -3 is not"),
        (Init(9, 1, 0, 1024, LAYOUT.pack()), None, "Init.servers: 0 is not"),
        (Init(9, 1, 1, 64, LAYOUT.pack()), None, "chunks of 64 bytes, not 1 servers and chunks of"),
        (InitChunk(9, 1, 0), np.ones(3, np.float32), "chunk 0 has 32 bytes"),
        (Leave(9, 1, {}), None, "no use for Leave"),
    ],
)
def test_a_message_that_cannot_be_meant_is_refused_in_words_and_changes_nothing(
    message: Message, payload: Any, words: str
) -> None:
    lone = Lone(2)
    before = repr(lone.chunk), repr(lone.shard.participants)
    with pytest.raises(BadMessage, match=words):
        lone.ask(decode(encode(message)), payload)
    assert (repr(lone.chunk), repr(lone.shard.participants)) == before
    lone.push(1, 0, 1.0)
    assert told(lone.push(2, 0, 1.0)) == ["1 Weights", "2 Weights"]


@pytest.mark.parametrize("message", [push(), Skip(9, 1, 0, 0, True), Pull(9, 1, 0, 0)])
def test_nothing_can_be_done_before_init(message: Message) -> None:
    with pytest.raises(BadMessage, match=r"kv\.init comes first"):
        Lone(1, seeded=False).ask(message, ONES if message.payload else None)


def test_a_chunk_without_values_can_be_neither_pushed_to_nor_pulled() -> None:
    lone = Lone(1, seeded=False, mode="async", optimizer="adam:lr=0.1")
    lone.attach(1)
    lone.ask(Init(0, 1, 1, lone.job.chunk_bytes, LAYOUT.pack()))
    for message in (push(), Pull(9, 1, 0, 0)):
        with pytest.raises(BadMessage, match="chunk 0 has no values yet"):
            lone.ask(message, ONES if message.payload else None)


def test_who_is_no_member_is_told_so() -> None:
    lone = Lone(2)
    for message in (push(member=9), Pull(5, 9, 0, 0), Attach(5, 9, lone.epoch)):
        [reply] = lone.ask(message, ONES if message.payload else None)
        assert isinstance(reply.message, Error) and reply.message.code == "evicted"
        assert reply.message.request == message.request  # type: ignore[attr-defined]
    assert lone.chunk.pending == {}


def test_a_question_about_requests_is_never_refused_and_the_dead_hear_it_when_they_send_again() -> None:
    lone = Lone(2)
    lone.lose(2)
    [reply] = lone.ask(Inquire(5, 2, (3, 4)))
    assert reply.message == Waiting(5, (3, 4), 0, ())
    [reply] = lone.push(2, 0, 1.0, request=3)
    assert isinstance(reply.message, Error) and reply.message.code == "evicted"


def test_who_asks_after_an_attach_that_overtook_its_view_is_told_not_yet_and_then_answered_where_it_asked() -> None:
    lone = Lone(1)
    assert lone.ask(Attach(7, 2, lone.epoch + 1)) == []
    [reply] = lone.shard.receive(b"new", Inquire(0, 2, (7, 8)), None, 0.0)
    assert reply.message == Waiting(0, (8,), NOT_YET, ())
    lone.members.add(2)
    lone.late.add(2)
    [reply] = lone.see()
    assert (reply.to, reply.message) == (b"new", Attached(7, 1))


def test_the_dead_stay_out_when_they_come_to_life_again() -> None:
    lone = Lone(2)
    lone.lose(2)
    [reply] = lone.push(2, 0, 100.0)
    assert isinstance(reply.message, Error) and reply.message.code == "evicted"
    lone.push(1, 0, 1.0)
    assert lone.value == -1.0


def test_of_a_member_that_is_gone_only_its_contribution_is_kept() -> None:
    lone = Lone(3)
    lone.push(2, 0, 1.0)
    lone.ask(Pull(50, 2, 0, 9))
    lone.attach(2)
    lone.lose(2)
    chunk = lone.chunk
    assert list(chunk.pending) == [2]
    assert not chunk.waiters and not chunk.holds and 2 not in chunk.done and 2 not in lone.shard.participants


def test_an_attach_that_overtakes_its_view_is_answered_when_the_view_comes() -> None:
    lone = Lone(1)
    early = Attach(7, 2, lone.epoch + 1)
    assert lone.ask(early) == lone.ask(early) == []
    lone.members.add(2)
    lone.late.add(2)
    [reply] = lone.see()
    assert reply.message == Attached(7, 1)


def test_an_attach_of_a_seated_worker_waits_for_the_view_in_which_the_job_runs() -> None:
    lone = Lone(1, seeded=False)
    lone.late.add(1)
    lone.shard.participants.clear()
    lone.see()  # seated, the job still waits
    assert lone.shard.participants[1].start is None
    assert lone.ask(Attach(7, 1, lone.epoch + 1)) == []
    lone.late.clear()
    [reply] = lone.see()
    assert reply.message == Attached(7, 0) and lone.shard.participants[1].start == 0


def test_early_requests_of_strangers_are_few() -> None:
    lone = Lone(1)
    for member in range(2, 2000):
        lone.ask(Attach(member, member, 10**9))
    assert len(lone.shard._early) <= 256
    [reply] = lone.ask(Inquire(0, 1999, (1999,)))  # one that there was no room for is not lost: it is asked for
    assert reply.message == Waiting(0, (1999,), 0, ())


def test_weights_are_not_written_while_they_are_lent() -> None:
    lone = Lone(1, mode="async")
    [lent] = lone.shard.receive(b"1", Pull(5, 1, 0, 0), None, 0.0)  # and not shipped yet
    assert lent.loan is not None
    lone.push(1, 0, 1.0)
    assert lent.loan.weights.tolist() == [0.0] * SIZE
    assert lone.value == -1.0


def test_weights_that_have_left_are_updated_where_they_lie() -> None:
    lone = Lone(1, mode="async")
    where = lone.chunk.weights
    lone.pull(1, 0)
    lone.push(1, 0, 1.0)
    assert lone.chunk.weights is where


def test_pulls_alone_do_not_fill_the_memory() -> None:
    lone = Lone(1, mode="async")
    for _ in range(1000):
        lone.pull(1, 0)
    assert len(lone.chunk.loans) <= 64


def test_one_request_asked_again_and_again_is_kept_once() -> None:
    lone = Lone(2)
    for _ in range(5):
        lone.push(1, 0, 1.0, request=3)
        lone.ask(Pull(4, 1, 0, 5))
    assert len(lone.chunk.waiters) == 2 and len(lone.chunk.pending) == 1


def test_an_inquiry_tells_what_is_unknown_and_who_is_waited_for_and_takes_a_new_connection() -> None:
    lone = Lone(3)
    lone.push(1, 0, 1.0, request=3)
    [reply] = lone.shard.receive(b"new", Inquire(8, 1, (3, 4)), None, 0.0)
    assert reply.message == Waiting(8, (4,), 1, (1, 2))
    lone.push(2, 0, 1.0)
    assert "new Weights" in told(lone.push(3, 0, 1.0))


def wanted(lone: Lone, member: int) -> bool:
    [reply] = lone.shard.receive(b"x", Inquire(0, member, ()), None, 0.0)
    assert isinstance(reply.message, Waiting)
    return reply.message.wanted


@pytest.mark.parametrize("job", [{}, {"mode": "ssp", "staleness": 0}])
def test_an_inquiry_tells_a_worker_whether_others_wait_for_it(job: dict[str, Any]) -> None:
    lone = Lone(3, **job)
    assert [wanted(lone, member) for member in (1, 2, 3)] == [False, False, False]
    lone.push(1, 0, 1.0)
    assert [wanted(lone, member) for member in (1, 2, 3)] == [False, True, True]
    lone.push(2, 0, 1.0)
    assert [wanted(lone, member) for member in (1, 2, 3)] == [False, False, True]
    lone.push(3, 0, 1.0)
    assert [wanted(lone, member) for member in (1, 2, 3)] == [False, False, False]


def test_a_worker_that_skips_does_not_count_in_the_mean() -> None:
    lone = Lone(3)
    lone.push(1, 0, 3.0)
    lone.skip(2, 0)
    lone.push(3, 0, 1.0)
    assert lone.value == -2.0


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_clock_that_all_skip_moves_on_and_changes_neither_weights_nor_optimizer(clip: float | None) -> None:
    lone = Lone(2, optimizer="adam:lr=0.1,weight_decay=0.1", clip_norm=clip)
    lone.chunk.weights[:] = 5
    if clip is None:
        lone.skip(1, 0)
        assert told(lone.skip(2, 0)) == ["1 Weights", "2 Weights"]
    else:
        lone.skip(1, 0, pull=False)
        assert told(lone.skip(2, 0, pull=False)) == ["1 NormPart", "2 NormPart"]
        assert told(lone.scale(2, 0, 1.0)) == ["2 Weights"]
    assert (lone.value, lone.chunk.version, lone.chunk.updates) == (5.0, 1, 0)


def test_a_model_is_not_replaced_once_it_is_trained() -> None:
    lone = Lone(1)
    other = Layout.of({"other": np.zeros(3, np.float32)})
    [reply] = lone.ask(Init(9, 1, 1, lone.job.chunk_bytes, other.pack()))
    assert isinstance(reply.message, Error) and reply.message.code == "layout"
    lone.push(1, 0, 1.0)
    lone.ask(InitChunk(9, 1, 0), np.full(SIZE, 7, np.float32))
    assert lone.value == -1.0


def test_the_next_seeds_values_win_over_those_of_one_that_was_taken_for_dead() -> None:
    lone = Lone(2, seeded=False)
    cut = (1, lone.job.chunk_bytes, LAYOUT.pack())
    lone.ask(Init(1, 1, *cut))
    lone.ask(InitChunk(2, 1, 0), ONES)
    lone.ask(Init(1, 2, *cut))
    lone.ask(InitChunk(2, 2, 0), 2 * ONES)
    [reply] = lone.ask(InitChunk(2, 1, 0), ONES)
    assert isinstance(reply.message, Error)
    assert lone.value == 2.0


def test_a_job_that_makes_no_sense_ends_the_server_with_the_settings_name() -> None:
    lone = Lone(1, seeded=False)
    with pytest.raises(ConfigError, match="mode"):
        lone.see(job={"mode": "nonsense"})


def test_the_report_is_plain_and_names_long_waits_only() -> None:
    lone = Lone(2)
    lone.push(1, 0, 1.0)
    assert json.loads(json.dumps(lone.shard.report(0.5))) == {"clock": 0, "bytes": 32, "waiting": []}
    assert lone.shard.report(2.0)["waiting"] == [{"clock": 1, "for": [1], "seconds": 2.0, "chunk": 0, "chunks": 1}]


def test_the_clock_of_the_report_is_the_workers_clock_and_not_the_number_of_updates() -> None:
    lone = Lone(2, mode="async")
    for clock in range(3):
        lone.push(1, clock, 1.0)
        lone.push(2, clock, 1.0)
    assert lone.shard.report(0.0)["clock"] == 3


def test_first_values_are_not_written_over_those_that_are_lent() -> None:
    lone = Lone(2, seeded=False)
    lone.ask(Init(1, 1, 1, lone.job.chunk_bytes, LAYOUT.pack()))
    lone.ask(InitChunk(2, 1, 0), ONES)
    [lent] = lone.shard.receive(b"2", Pull(5, 2, 0, 0), None, 0.0)
    lone.ask(InitChunk(3, 1, 0), 2 * ONES)
    assert lent.loan is not None and lent.loan.weights.tolist() == ONES.tolist()
    assert lone.value == 2.0


def test_two_clocks_of_one_worker_do_not_wait_for_leave_at_once() -> None:
    lone = Lone(2, mode="ssp", staleness=0)
    lone.push(1, 0, 1.0)
    lone.push(1, 1, 1.0)
    with pytest.raises(BadMessage, match="a push for clock 2 before the one before it was answered"):
        lone.push(1, 2, 1.0)
    lone.push(2, 0, 1.0)
    assert lone.value == -3.0


def test_who_retires_before_it_started_is_not_waited_for_whatever_views_come() -> None:
    lone = Lone(2, seeded=False)
    lone.late = {2}
    lone.members = {1}
    lone.see()
    lone.members = {1, 2}
    lone.see()
    lone.retire(2)
    lone.late = set()
    lone.see()
    assert lone.shard.participants[2].start is None


def test_a_shard_is_deserted_when_all_have_said_goodbye() -> None:
    lone = Lone(2)
    lone.retire(1)
    assert not lone.shard.deserted
    lone.retire(2)
    assert lone.shard.deserted
    lone.join(3)
    assert not lone.shard.deserted


def test_weights_carry_the_version_they_were_answered_with() -> None:
    lone = Lone(1, mode="async")
    versions = []
    for clock in range(3):
        [reply] = lone.push(1, clock, 1.0)
        assert isinstance(reply.message, Weights)
        versions.append(reply.message.version)
    assert versions == [1, 2, 3]


def test_who_asks_for_what_will_never_be_is_kept_waiting_a_few_times_and_others_all_the_time() -> None:
    lone = Lone(3)
    honest = [lone.pull(2, 1), lone.pull(3, 1)]
    for _ in range(2000):
        lone.pull(1, 1 << 53)
    assert honest == [[], []]
    assert len(lone.chunk.waiters) <= MANY_WAITERS
    assert {waiter.member for waiter in lone.chunk.waiters} == {1, 2, 3}


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_who_says_the_last_clock_or_rate_there_is_leaves_others_theirs(mode: str) -> None:
    lone = Lone(2, mode=mode)
    lone.push(1, 0, 1.0)
    lone.push(2, 0, 1.0)
    far = MOST_STEPS
    lies = [push(member=2, clock=far), push(member=2, clock=1, rates=((far, 1, 0.5, 0.0),)), Start(9, 2, far)]
    lies += [Skip(9, 2, 0, far, True, 1), push(member=2, clock=1, rates=((0, 0, 0.0, 0.0), (far, 1, 0.5, 0.0)))]
    for lie in lies:
        with pytest.raises(BadMessage, match=str(far)):
            lone.ask(lie, ONES if isinstance(lie, Push) else None)
    assert lone.chunk.reached == 1 and lone.chunk.rate[0] == 0
    lone.retire(1)
    lone.retire(2)
    assert lone.attach(1) == 1, "who comes when nobody takes part begins where they were"
    assert lone.start(1, 1 + MOST_AHEAD), "which another server may know better"

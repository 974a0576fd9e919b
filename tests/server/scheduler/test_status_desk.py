"""Promises of the status desk: a picture is made at most a twentieth of the time, and everybody has his number."""

from __future__ import annotations

from ps.protocol.codec import decode, encode, numbered
from ps.protocol.messages import Status
from ps.server.scheduler.status_desk import FRESH, LONGEST, SHARE, StatusDesk


def test_an_answer_is_made_once_for_all_who_ask_and_anew_when_it_is_old() -> None:
    now, made = [0.0], []

    def make(at: float) -> bytes:
        made.append(at)
        now[0] += 0.03
        return encode(Status(0, {"at": at}))

    desk = StatusDesk(make, lambda: now[0])
    for request in (0, 7, 300, 2**40):
        answer = desk.answer(request)
        assert answer is not None and decode(answer) == Status(request, {"at": 0.0})
    now[0] += 0.03 * SHARE - 0.001
    desk.answer(1)
    assert made == [0.0]
    now[0] += 0.002
    desk.answer(1)
    assert len(made) == 2


def test_a_picture_that_is_quick_to_make_is_fresh_and_a_slow_one_is_not_kept_for_ever() -> None:
    now, cost = [0.0], [0.0]

    def make(at: float) -> bytes:
        now[0] += cost[0]
        return encode(Status(0, {"at": at}))

    desk = StatusDesk(make, lambda: now[0])
    first = desk.answer(0)
    now[0] += FRESH
    cost[0] = 100.0
    second = desk.answer(0)
    assert second != first
    now[0] += LONGEST
    assert desk.answer(0) != second


def test_what_cannot_be_written_is_no_answer() -> None:
    assert StatusDesk(lambda now: None).answer(3) is None


def test_a_numbered_header_is_what_would_have_been_written() -> None:
    for request in (0, 1, 127, 128, 70_000, 2**33):
        assert numbered(encode(Status(0, {"a": 1})), request) == encode(Status(request, {"a": 1}))

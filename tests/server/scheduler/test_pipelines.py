"""Promises of pipelines in the scheduler: its workers are told of each other once all are there, and no third one has
what two of them show to each other."""

from __future__ import annotations

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import CutChosen, CutRequest, Neighbours, Rendezvous
from support.desk import Desk, messages


def address(member: int) -> tuple[str, ...]:
    return (f"tcp://h:{7000 + member}",)


def meet(desk: Desk, member: int, request: int = 5) -> list[tuple[int, Neighbours]]:
    return messages(desk.say(Rendezvous(request, member, address(member))), Neighbours)


def test_the_workers_of_a_pipeline_are_told_of_each_other_once_all_are_there() -> None:
    desk = Desk(mode="pipeline", workers=4, stages=2)
    workers = desk.fill()
    assert meet(desk, workers[0]) == meet(desk, workers[3]) == [], "that is another pipeline"
    told = dict(meet(desk, workers[1], 6))
    assert told.keys() == {workers[0], workers[1]}
    assert told[workers[1]].request == 6
    for me, other in ((0, 1), (1, 0)):
        [(rank, member, where, _, _)] = told[workers[me]].lines
        assert (rank, member, where) == (other, workers[other], address(workers[other]))


def test_each_line_has_a_token_that_both_ends_know_and_nobody_else() -> None:
    desk = Desk(mode="pipeline", workers=3)
    workers = desk.fill()
    for member in workers[:2]:
        assert not meet(desk, member)
    told = {(me, other): tokens for me, message in meet(desk, workers[2]) for _, other, _, *tokens in message.lines}
    assert len(told) == 6
    for (me, other), (mine, its) in told.items():
        assert told[other, me] == [its, mine]
    assert len({mine for mine, _ in told.values()}) == 6
    proofs = {desk.state.key.proof(m.member, m.rank, m.number) for m in desk.state.members.values()}
    assert not proofs & {mine for mine, _ in told.values()}, "what a server would believe"


def test_who_has_not_heard_asks_again_also_after_a_restart() -> None:
    desk = Desk(mode="pipeline", workers=2)
    first, second = desk.fill()
    meet(desk, first)
    once = meet(desk, second)
    desk.restart()
    assert meet(desk, second) == [pair for pair in once if pair[0] == second]


def test_who_is_gone_is_waited_for() -> None:
    desk = Desk(mode="pipeline", workers=2)
    first, second = desk.fill()
    meet(desk, first)
    desk.wait(60, first)
    assert meet(desk, second) == []
    another = desk.join(rank=0).member
    assert {member for member, _ in meet(desk, another)} == {another, second}


def test_elsewhere_there_is_nobody_to_meet() -> None:
    desk = Desk()
    member = desk.fill()[0]
    with pytest.raises(BadMessage, match="no use for Rendezvous"):
        meet(desk, member)


def ask(desk: Desk, member: int, starts: tuple[int, ...] = (), request: int = 7) -> list[tuple[int, CutChosen]]:
    return messages(desk.say(CutRequest(request, member, starts)), CutChosen)


def test_the_model_is_cut_for_all_where_the_first_says_that_has_measured_also_after_a_restart() -> None:
    desk = Desk(mode="pipeline", workers=4, stages=2)
    first, second, third, fourth = desk.fill()
    assert ask(desk, second, request=8) == []
    told = ask(desk, first, (3,))
    assert told == [(second, CutChosen(8, (3,))), (first, CutChosen(7, (3,)))]
    assert ask(desk, third, (5,)) == [(third, CutChosen(7, (3,)))]
    desk.restart()
    assert ask(desk, fourth) == [(fourth, CutChosen(7, (3,)))]

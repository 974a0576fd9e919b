"""A job with a range of workers under whatever comes and goes: random schedules of joins, deaths, ends and restarts."""

from __future__ import annotations

import random

import pytest

from ps.protocol.messages import Error, Heartbeat, Leave, Quorum
from support.desk import Desk, messages

SEEDS = 300
ENDS = ({}, {"terminated": True}, {"failure": "raised"})


@pytest.mark.parametrize("seed", range(0, SEEDS, 20))
def test_whatever_comes_and_goes_there_are_no_more_than_the_most_and_who_may_step_is_told(seed: int) -> None:
    for each in range(seed, seed + 20):
        play(random.Random(each), each)


def play(dice: random.Random, seed: int) -> None:
    least = dice.randint(1, 3)
    most = least + dice.randint(0, 3)
    desk = Desk(workers=most, min_workers=least, idle_timeout=40.0, heartbeat_timeout=5.0)
    desk.join("server")
    finished = failed = False
    for step in range(80):
        where = f"seed={seed}, step {step}"
        live = [m for m in desk.state.members.values() if m.state == "live" and m.role == "worker"]
        seated = desk.state.live("worker")
        did = dice.choice(("join", "join", "leave", "die", "time", "time", "restart", "demand"))
        running = desk.state.phase == "running"
        if did == "join" and len(live) < most + 3:
            desk.hello()
        elif did == "demand" and live:
            holder = dice.choice(live)
            answer = desk.hello(rank=holder.rank)[0].message
            assert isinstance(answer, Error) and answer.code == "rank-taken", where
        elif did == "leave" and live:
            member, how = dice.choice(live), dice.choice(ENDS)
            finished, failed = finished or (running and not how), "failure" in how
            desk.say(Leave(1, member.member, how))
        elif did == "die" and live:
            desk.wait(6, *(m.member for m in dice.sample(live, dice.randint(1, len(live)))))
        elif did == "time":
            desk.wait(dice.choice((1, 4, 15)))
        elif did == "restart":
            desk.restart()
            for record in list(desk.state.roster):
                desk.say(Heartbeat(record.member, 0, {}))
        if desk.state.over:
            assert desk.state.code in ("", "no-worker", "timeout"), where
            assert finished or failed or desk.state.phase == "failed", where
            return
        seated, spares = desk.state.live("worker"), desk.state.roster.spares
        assert len(seated) <= most and len({m.rank for m in seated}) == len(seated), where
        assert all(m.rank < most for m in seated), where
        if desk.state.phase != "running":
            continue
        assert not spares or len(seated) == most or finished, f"{where}: a spare waits beside a place that is free"
        told = messages(desk.say(Heartbeat(seated[0].member, 0, {})), Quorum) if seated else []
        lacking = 0 if finished else max(0, least - len(seated))
        assert [quorum.missing for _, quorum in told] == [lacking][: len(told)] and bool(told) == bool(seated), where

"""What must hold at the end of a simulated job, whatever has happened to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.roundsim import RoundSim


def check_end(sim: RoundSim) -> None:
    """Every version is made of what the history says, every contribution counts once, and nothing piles up."""
    rounds = sim.scheduler.rounds
    assert rounds is not None and rounds.version == sim.job.rounds == len(sim.history)
    assert [row["round"] for row in sim.history] == list(range(sim.job.rounds))
    assert sorted(sim.expected.published) == list(range(1, sim.job.rounds + 1))
    counted = [task for tasks in sim.expected.published.values() for task in tasks]
    assert len(counted) == len(set(counted)), "a contribution counts twice"
    for version, tasks in sim.expected.published.items():
        row = sim.history[version - 1]
        assert row["accepted"] == len(tasks)
        assert row["clients"] == sorted(sim.works[task].rank for task in tasks)
    for rank, client in sim.clients.items():
        for task, verdict in client.heard if client else ():
            if verdict == "accepted":
                assert task in counted or rounds.abandoned, f"client {rank}: task {task} was accepted and not counted"
            else:
                assert task not in counted, f"client {rank}: {task}, {verdict}"
    for server in sim.servers.values():
        if server:
            report = server[1].report(sim.now)
            assert report["staged"] <= len(sim.characters)
            assert len(server[1]._uploads._settled) <= 4 * len(sim.characters)
    assert len(rounds._contributions.ledger.entries) <= 2 * len(sim.characters)
    assert len(list(rounds._contributions.tasks)) <= len(sim.characters)


def where(sim: RoundSim) -> Any:
    """Who waits for what, for the message of a test that fails."""
    rounds = sim.scheduler.rounds
    assert rounds is not None
    talks = {rank: talk for rank, talk in sim.talks.items() if talk}
    waiting = {rank: [ask.make(n) for n, (ask, _) in list(t.flying.items())[:2]] for rank, t in talks.items()}
    return rounds.status() | {"history": len(rounds.history)}, waiting, sim.log

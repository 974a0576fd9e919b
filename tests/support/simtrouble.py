"""Trouble: what goes wrong with a simulated job's messages and processes, as its seed has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.sim import Sim


def trouble(sim: Sim, full: list[tuple[int, int]]) -> bool:
    """Let one thing go wrong, if any may; return whether one did. ``full``: the channels with messages on their way."""
    faults, dice = sim.faults, sim.random
    alive = [m for m in sim.workers if m not in sim.dead and not sim.workers[m].finished]
    kinds = [kind for kind, left in vars(faults).items() if left > 0]
    if not kinds or not alive:
        return False
    kind = dice.choice(kinds)
    member = dice.choice(alive)
    if kind == "repeats":
        if not sim.processes[member].repeat(dice):
            return False
    elif kind == "interrupts":
        if member in sim.reading or not sim.processes[member].interrupt():
            return False
        sim._look(member)
    elif kind == "losses":
        lossy = [key for key in full if 0 not in key]
        if not lossy:
            return False
        _lose(sim, dice.choice(lossy))
        for worker in sim.workers.values():
            worker.undisturbed = False
    elif kind == "deaths":
        if len(alive) < 2:
            return False
        sim.dead.add(member)
    elif kind == "joins":
        if sim.scheduler.over:
            return False
        sim.join(sim.joins.pop())
    elif kind in ("comers", "drains", "server_deaths"):
        if not sim._change_servers(kind):
            return False
    else:
        sim._restart()
    setattr(faults, kind, getattr(faults, kind) - 1)
    return True


def _lose(sim: Sim, key: tuple[int, int]) -> None:
    """A connection breaks: what is on its way over it is lost."""
    for letter in sim.channels[key]:
        letter.sent = True
    sim.channels[key].clear()

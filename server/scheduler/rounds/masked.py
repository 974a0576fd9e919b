"""Masked: what rounds ask of whatever keeps single deltas secret, which of the two a job has, and when it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ps.config.job import JobConfig
from ps.config.secure import most_in_sum
from ps.server.scheduler.rounds.contributions import Contributions
from ps.server.scheduler.rounds.helped import HelpedRound
from ps.server.scheduler.rounds.masking import MaskingRound
from ps.server.send import Send

Masked: TypeAlias = MaskingRound | HelpedRound


def masking_of(job: JobConfig, job_id: str) -> Masked | None:
    """Return what an attempt's masks need; None where there are none."""
    how = job.specs.secure.build()
    if not how.masks:
        return None
    if how.helper:
        steady = not job.specs.algorithm.build().buffer
        return HelpedRound(job.round_deadline, most_in_sum(job), steady=steady)
    return MaskingRound(job_id, job.secure_min, job.round_deadline, job.quorum)


def go_on(masking: Masked, contributions: Contributions, now: float, *, closed: bool, all_here: bool) -> Iterator[Send]:
    """Take the next step of an agreement, or of what takes the masks off, unless ``masking.failure`` says why not.

    ``closed``: it is decided what is in the sum; ``all_here``: no server is gone.
    """
    tasks, ledger, before = contributions.tasks, contributions.ledger, masking.phase
    if not all_here:
        masking.wait(now)
    yield from masking.look({*tasks.active, *ledger.survivors}, now)
    if masking.failure:
        return
    if not closed and masking.phase == "masked" and masking.asks:
        for task in [tasks[number] for number in sorted(tasks.active) if not masking.admits(number)]:
            contributions.refuse(task, "unfinished")
    elif closed and masking.phase == "masked" and ledger.all_are("summed") and not ledger.unpaid:
        masking.close(ledger.survivors, now)
        yield from masking.ask([tasks[number] for number in ledger.survivors])
    if masking.known and ledger.phase == "sum":
        ledger.phase = "prepare"
    contributions.changed |= masking.phase != before

"""Masked: what rounds ask of whatever keeps single deltas secret, and which of the two a job has."""

from __future__ import annotations

from typing import TypeAlias

from ps.config.job import JobConfig
from ps.server.scheduler.rounds.helped import HelpedRound
from ps.server.scheduler.rounds.masking import MaskingRound

Masked: TypeAlias = MaskingRound | HelpedRound


def masking_of(job: JobConfig, job_id: str) -> Masked | None:
    """Return what an attempt's masks need; None where there are none."""
    how = job.specs.secure.build()
    if not how.masks:
        return None
    return HelpedRound(job.round_deadline) if how.helper else MaskingRound(job_id, job.secure_min, job.round_deadline)

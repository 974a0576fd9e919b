"""Leasing: what a scheduler's state has to do with leases: who takes part, and what happens to whom."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import field
from functools import partial
from typing import TYPE_CHECKING, Any

from ps.checkpoint.manifest import Manifest
from ps.config.job import JobConfig
from ps.config.mode import BOUNDED
from ps.config.sharing import by_leases
from ps.dataclass import dataclass
from ps.errors import BadMessage, CheckpointError
from ps.protocol.messages import LeaseRequest
from ps.server.scheduler.course import Course
from ps.server.scheduler.holding import Point
from ps.server.scheduler.leases import Among, Key, Leases, points_of
from ps.server.scheduler.member_record import MemberRecord
from ps.server.send import Send

if TYPE_CHECKING:
    from ps.server.scheduler.state import SchedulerState


@dataclass(slots=True)
class Leasing:
    """What a scheduler has of leases, once a worker has asked for some; ``data``: what a checkpoint says."""

    leases: Leases | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


def asked(state: SchedulerState, record: MemberRecord, message: LeaseRequest) -> list[Send]:
    """A worker asks for batches. Raises BadMessage in a job that has no leases."""
    if state.job is None or not by_leases(state.job):
        raise BadMessage("batches are shared out without the scheduler in this job")
    if state.leasing.leases is None:
        state.leasing.leases = begun(state.job, state.leasing.data)
    return _done(state, _following(state, state.leasing.leases).ask(record, message, partial(among, state)))


def reported(state: SchedulerState, record: MemberRecord) -> list[Send]:
    """A worker's report has come."""
    rows = record.report.get("leases")
    if state.leasing.leases is None or record.role != "worker" or rows is None:
        return []
    return _done(state, _following(state, state.leasing.leases).hear(record, rows, partial(among, state)))


def lost(state: SchedulerState, record: MemberRecord) -> list[Send]:
    """A member is gone."""
    if state.leasing.leases is None or record.role != "worker":
        return []
    return _done(state, _following(state, state.leasing.leases).lose(record.member, partial(among, state)))


def looked(state: SchedulerState) -> list[Send]:
    """Somebody has come into a barrier, or training is to end: answer who can be answered since."""
    return _done(state, state.leasing.leases.look(partial(among, state))) if state.leasing.leases is not None else []


def among(state: SchedulerState) -> Among:
    """Return the workers that leases are handed out among."""
    live, waiting = state.live("worker"), set(state.barrier)
    idle = frozenset(record.member for record in live if record.rank in waiting)
    return Among(tuple((record.rank, record.member) for record in live), idle, bool(state.ending.phase))


def _following(state: SchedulerState, leases: Leases) -> Leases:
    leases.follow(state.checkpoints.marked if state.checkpoints is not None else 0)
    return leases


def _done(state: SchedulerState, sends: list[Send]) -> list[Send]:
    if state.leasing.leases is not None and state.leasing.leases.changed:
        state.changed, state.leasing.leases.changed = True, False
    return sends


# Checkpoints


def begun(job: JobConfig, data: Mapping[str, Any]) -> Leases:
    """Return the leases of a job that begins, or goes on from what a checkpoint says. Raises CheckpointError."""
    leases = Leases(job.lockstep, job.mode in BOUNDED, job.min_workers is not None)
    try:
        leases.skip = int(data.get("skip", 0))
        leases.over = {_two(shape): _three(last) for shape, last in data.get("over", ())}
        for row in data.get("courses", ()):
            call, shape = int(row["call"]), _two(row["shape"])
            grid, cells, least = _three([row["grid"], row["cells"], row["least"]])
            owed = {int(rank): int(cell) for rank, cell in row["at"].items()}
            runs = [_three(run) for run in row["left"]]
            leases.courses[call, shape] = leases.course(grid, cells, least, runs, owed)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"what a checkpoint says of the data is none of ours: {error!r:.200}") from None
    return leases


def _two(values: Any) -> tuple[int, int]:
    one, two = (int(value) for value in values)
    return one, two


def _three(values: Any) -> tuple[int, int, int]:
    one, two, three = (int(value) for value in values)
    return one, two, three


def saved_data(manifest: Manifest) -> Mapping[str, Any]:
    """Return what a checkpoint says of the data; of one that says nothing how many batches are counted in all."""
    if manifest.data:
        return manifest.data
    ranks = {rank for chunk in manifest.chunks for rank in chunk.done}
    return {"skip": sum(manifest.counted(rank) for rank in ranks)}


class DataCut:
    """What leases were when a checkpoint was sealed, for the thread that writes its manifest."""

    def __init__(self, leases: Leases | None, workers: Mapping[int, Mapping[str, Any]]) -> None:
        """``workers``: rank -> what each has said of itself for the checkpoint, and which member it is: before one that
        has come since, another may have had its rank."""
        self._courses: dict[Key, Course] = copy.deepcopy({**leases.closed, **leases.courses}) if leases else {}
        self._over = dict(leases.over) if leases else {}
        self._is_there = leases is not None
        self._told: dict[int, dict[int, list[Point]]] = {
            about["member"]: points_of(about.get("steps")) for about in workers.values() if "member" in about
        }

    def data(self, counted: Callable[[int], int]) -> dict[str, Any]:
        """Return what the manifest has of it; ``counted`` returns how many clocks of a rank the checkpoint has."""
        if not self._is_there:
            return {}
        rows = []
        for (call, shape), course in self._courses.items():
            points = {member: found[call] for member, found in self._told.items() if call in found}
            left, at = course.open_at(counted, points)
            about = {"grid": course.grid, "cells": course.cells, "least": course.least}
            where = {"left": left, "at": {str(rank): cell for rank, cell in at.items()}}
            rows.append({"call": call, "shape": shape, **about, **where})
        return {"courses": rows, "over": list(self._over.items())}

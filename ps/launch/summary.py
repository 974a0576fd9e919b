"""Summary: what a run's metrics and the ends of its processes add up to. Pure, but for writing the file."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from ps.dataclass import dataclass
from ps.json_lines import amount, finite, objects
from ps.launch.policy import Exit, describe, exit_status
from ps.record_files import EVALUATIONS, METRICS, NO_METRICS
from ps.record_lives import RecordLives
from ps.whole import write_whole

FORMAT = 1
_ALONE = RecordLives({})


@dataclass(slots=True)
class WorkerRecord:
    """The metrics of one rank, folded as they are read."""

    rank: int
    steps: int = 0
    rounds: int = 0
    """Of a client: how many it took part in."""
    clock: int = 0
    samples: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    wait_s: float = 0.0
    max_staleness: int = 0
    loss: float | None = None
    begin: float = math.inf
    end: float = -math.inf
    busy_s: float = 0.0
    """Of a worker with stages of a model: the seconds in which it computed, of the ``pipeline_s`` of its steps' passes;
    in ``bubble_s`` of these the schedule alone would have it idle."""
    pipeline_s: float = 0.0
    bubble_s: float = 0.0
    speed: float | None = None
    """Samples a second, where they are known otherwise."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Fold one step in; what is missing or no number counts as nothing."""
        is_round = "verdict" in line
        self.rounds += is_round
        self.steps += int(amount(line, "steps")) if is_round else 1
        self.clock = max(self.clock, int(amount(line, "clock")))
        self.samples += int(amount(line, "samples"))
        self.bytes_up += int(amount(line, "bytes_up"))
        self.bytes_down += int(amount(line, "bytes_down"))
        self.wait_s += amount(line, "wait_s")
        self.busy_s += amount(line, "busy_s")
        self.pipeline_s += amount(line, "pipeline_s")
        self.bubble_s += amount(line, "bubble_s")
        self.max_staleness = max(self.max_staleness, int(amount(line, "staleness")))
        if "loss" in line:
            self.loss = finite(line["loss"])
        moment, speed = amount(line, "t"), amount(line, "samples_per_s")
        took = amount(line, "samples") / speed if speed > 0 else 0.0
        self.begin, self.end = min(self.begin, moment - took), max(self.end, moment)

    def row(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return {
            "rank": self.rank,
            "steps": self.steps,
            **({"rounds": self.rounds} if self.rounds else {}),
            "clock": self.clock,
            "samples": self.samples,
            "samples_per_s": _speed(self.samples, self.end - self.begin) if self.speed is None else self.speed,
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "wait_s": round(self.wait_s, 6),
            **({"busy_s": round(self.busy_s, 6), "pipeline_s": round(self.pipeline_s, 6)} if self.pipeline_s else {}),
            "max_staleness": self.max_staleness,
            "loss": self.loss,
        }


@dataclass(frozen=True, slots=True)
class Ends:
    """How a run ended: its status, what failed first, and every process of the launcher."""

    status: int
    wall_s: float
    first: Exit | None = None
    exits: Sequence[Exit] = ()
    stopped: frozenset[str] = field(default_factory=frozenset)
    """Names of the processes that the launcher ended itself: their exit codes say nothing."""
    restarted: Sequence[Exit] = ()
    """Those in whose place the launcher has started another process."""


def fold(lines: Iterable[str], lives: RecordLives = _ALONE) -> list[WorkerRecord]:
    """Return one record per rank. Lines that hold no step of the run, such as a torn last one, are passed over."""
    records: dict[int, WorkerRecord] = {}
    for line in objects(lines):
        rank = line.get("rank")
        if isinstance(rank, int) and not isinstance(rank, bool) and lives.has_step(line):
            records.setdefault(rank, WorkerRecord(rank)).add(line)
    return [records[rank] for rank in sorted(records)]


def last_measured(lines: Iterable[str], lives: RecordLives = _ALONE) -> dict[str, Any] | None:
    """Return what was measured last, as ``{"clock", "rank", "metrics"}``, of the lines of ``evaluations.jsonl``."""
    last: dict[str, Any] | None = None
    for line in objects(lines):
        if lives.has_evaluation(line) and (last is None or amount(line, "clock") >= last["clock"]):
            metrics = {k: v for k, v in line.items() if k not in NO_METRICS and finite(v) is not None}
            last = {"clock": int(amount(line, "clock")), "rank": int(amount(line, "rank")), "metrics": metrics}
    return last


def read_record(directory: Path) -> tuple[list[WorkerRecord], dict[str, Any] | None]:
    """Return what the workers of a run have left in its directory: each rank's record, and what was measured last."""
    records: list[WorkerRecord] = []
    measured, lives = None, RecordLives.read(directory)
    with contextlib.suppress(OSError), (directory / METRICS).open(errors="replace") as lines:
        records = fold(lines, lives)
    with contextlib.suppress(OSError), (directory / EVALUATIONS).open(errors="replace") as lines:
        measured = last_measured(lines, lives)
    return records, measured


def summarize(
    records: Sequence[WorkerRecord],
    ends: Ends,
    job: Mapping[str, Any],
    deaths: Sequence[Mapping[str, Any]] = (),
    rounds: Mapping[str, Any] | None = None,
    guests: Sequence[Mapping[str, Any]] = (),
    measured: Mapping[str, Any] | None = None,
    stop: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the summary of a run.

    ``job`` holds the job's settings as far as they are known, ``deaths`` those that the scheduler saw, ``rounds`` what
    the rounds of a federated job came to, ``guests`` what the scheduler knew of workers that somebody else has started,
    ``measured`` what ``kv.evaluate`` measured last, ``stop`` where ``kv.stop`` ended training, and why.
    ``steps`` is the most steps that one worker took, ``total_steps`` the sum over workers.
    """
    known = {record.rank for record in records} | {exit.rank for exit in ends.exits if exit.role == "worker"}
    span = max((r.end for r in records), default=0.0) - min((r.begin for r in records), default=0.0)
    records = [*records, *(_of_guest(row) for row in guests if row.get("rank") not in known)]
    samples = sum(record.samples for record in records)
    first = ends.first
    return {
        "format": FORMAT,
        "mode": job.get("mode"),
        "servers": job.get("servers"),
        "workers": job.get("workers"),
        "members": {
            "servers": sorted(exit.rank for exit in ends.exits if exit.role == "server"),
            "workers": sorted({r.rank for r in records} | {e.rank for e in ends.exits if e.role == "worker"}),
        },
        "steps": max((record.steps for record in records), default=0),
        "total_steps": sum(record.steps for record in records),
        "clock": max((record.clock for record in records), default=0),
        "wall_s": round(ends.wall_s, 3),
        "train_s": round(span, 3),
        "samples": samples,
        "samples_per_s": _speed(samples, span),
        "bytes_up": sum(record.bytes_up for record in records),
        "bytes_down": sum(record.bytes_down for record in records),
        "wait_s": round(sum(record.wait_s for record in records), 6),
        "max_staleness": max((record.max_staleness for record in records), default=0),
        **({"bubble": idle_share(records)} if any(record.pipeline_s for record in records) else {}),
        **({} if rounds is None else {"federated": dict(rounds), "rounds": sum(record.rounds for record in records)}),
        **({} if measured is None else {"measured": dict(measured)}),
        **({} if not stop else {"stop": dict(stop)}),
        "deaths": _deaths(records, ends, deaths),
        "restarts": [{"process": exit.name, "why": describe(exit.code)} for exit in ends.restarted],
        "exit_status": ends.status,
        "failed_first": {"process": first.name, "why": describe(first.code)} if first else None,
        "per_worker": [record.row() for record in records],
        "processes": [_process(exit, ends) for exit in ends.exits],
        "job": dict(job),
    }


def lives_of(directory: Path) -> dict[str, Any]:
    """Return what a summary says of the lives that have left their record in a folder, if they are several."""
    lives = RecordLives.read(directory).all
    return {"lives": [lives[number].pack() for number in sorted(lives)]} if len(lives) > 1 else {}


def kernels_of(status: Mapping[str, Any], expected: str = "") -> list[str]:
    """Return whose loops the members of a job run, by its last status: ``native``, ``numpy`` or both.

    Where nobody has said so yet it is what was ``expected``, if anything.
    """
    rows = [row for role in ("servers", "workers") for row in status.get(role) or ()]
    return sorted({row["kernels"] for row in rows if "kernels" in row} or {expected} - {""})


def idle_share(records: Sequence[WorkerRecord]) -> dict[str, float]:
    """Return for which share of its passes a pipeline's workers were idle, and would be by the schedule alone.

    Passes last from when the first stage begins until the last worker is done, which is the first one: the others see
    less of them.
    """
    longest = max(records, key=lambda record: record.pipeline_s)
    busy = sum(record.busy_s for record in records) / len(records)
    return {
        "measured": round(1 - busy / longest.pipeline_s, 4),
        "schedule": round(longest.bubble_s / longest.pipeline_s, 4),
    }


def write_summary(summary: Mapping[str, Any], path: Path) -> None:
    """Write the summary so that a reader sees all of it or nothing. Raises PSError."""
    write_whole(path, json.dumps(summary, indent=2, allow_nan=False, default=str) + "\n")


def _of_guest(row: Mapping[str, Any]) -> WorkerRecord:
    """Return the record of a worker whose metrics are elsewhere, as it last reported them."""
    return WorkerRecord(
        rank=int(row["rank"]),
        steps=int(amount(row, "steps")),
        clock=int(amount(row, "clock")),
        samples=int(amount(row, "samples")),
        bytes_up=int(amount(row, "bytes_up")),
        bytes_down=int(amount(row, "bytes_down")),
        wait_s=amount(row, "wait_s"),
        max_staleness=int(amount(row, "max_staleness")),
        loss=finite((row.get("metrics") or {}).get("loss")),
        speed=amount(row, "samples_per_s"),
    )


def _deaths(records: Sequence[WorkerRecord], ends: Ends, seen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    clocks = {record.rank: record.clock for record in records}
    found = [dict(death) for death in seen]
    known = {(death.get("role"), death.get("rank")) for death in found}
    for exit in (*ends.restarted, *(exit for exit in ends.exits if exit.name not in ends.stopped)):
        if exit.code and (exit.role, exit.rank) not in known:
            clock = clocks.get(exit.rank) if exit.role == "worker" else None
            found.append({"role": exit.role, "rank": exit.rank, "why": describe(exit.code), "clock": clock})
    return found


def _process(exit: Exit, ends: Ends) -> dict[str, Any]:
    outcome = describe(exit.code) if exit.code else "done"
    if exit.name in ends.stopped:
        outcome = "stopped"
    return {"role": exit.role, "rank": exit.rank, "exit_status": exit_status(exit.code), "outcome": outcome}


def _speed(samples: int, seconds: float) -> float:
    return round(samples / seconds, 1) if seconds > 0 and math.isfinite(seconds) else 0.0

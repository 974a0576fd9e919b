"""Records as runs leave them, made up, and the comparison of them; for tests, and to look at a page without a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ps.compare.case import Case, cases, with_victims
from ps.compare.comparison import CaseResult, ComparisonPlan
from ps.compare.record import Record, read
from ps.compare.report import build
from ps.compare.runner import RunOutcome
from ps.record_files import EVALUATIONS, METRICS, ROUNDS, SHARES, STAGES, SUMMARY
from ps.script import Script

BEGAN = 1_700_000_000.0
MACHINE = {"cores": 2, "system": "Linux x86_64", "python": "3.11.2", "numpy": "2.4.0", "paramserver": "0.1.0"}


def write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_run(
    folder: Path,
    ranks: Callable[[int], Sequence[int]],
    clocks: int,
    *,
    every: int,
    level: float,
    slope: float,
    samples: int = 32,
    moved: int = 38_000,
    step_s: float = 0.01,
    stages: bool = False,
) -> None:
    """Write the steps of ``ranks(clock)`` for each clock, and an evaluation each ``every`` clocks and at the end.

    With ``stages`` each of four ranks has two of eight layers, and the first one reads the examples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    steps, evaluations, seen = [], [], 0
    for clock in range(clocks):
        for i, rank in enumerate(ranks(clock)):
            t = round(BEGAN + (clock + 1) * step_s + i * step_s / 1000, 6)
            line = {"t": t, "rank": rank, "clock": clock, "samples": samples + rank % 3, "samples_per_s": 1000.0}
            line |= {"bytes_up": moved, "bytes_down": moved, "wait_s": 0.001, "staleness": 0}
            if stages:
                line |= {"bytes_activations": 4000 * (rank < 3), "bytes_gradients": 3000 * (rank > 0)}
                line["samples"] *= rank == 0
            steps.append(line)
            seen += samples * bool(line["samples"])
        if (clock + 1) % every == 0 or clock == clocks - 1:
            value = level * (1 - math.exp(-seen * slope)) + 0.002 * math.sin(clock)
            t = round(BEGAN + (clock + 1) * step_s + step_s / 2, 6)
            evaluations.append({"t": t, "rank": 0, "clock": clock + 1, "accuracy": value})
    if stages:
        held = [{"rank": rank, "layers": [2 * rank, 2 * rank + 1], "of": 8, "bytes": 1000} for rank in range(4)]
        write_lines(folder / STAGES, held)
    write_lines(folder / METRICS, steps)
    write_lines(folder / EVALUATIONS, evaluations)


def write_summary(folder: Path, exits: Mapping[int, int]) -> None:
    processes = [
        {"role": "worker", "rank": rank, "exit_status": status, "outcome": "done"} for rank, status in exits.items()
    ]
    (folder / SUMMARY).write_text(json.dumps({"format": 1, "processes": processes, "deaths": []}))


def write_federation(folder: Path, clients: int, rounds: int, *, labels: int, level: float, slope: float) -> None:
    """Write a federation's record: half of the clients in each round, ``labels`` of ten labels at each client."""

    def picked(clock: int) -> list[int]:
        return [(clock + 2 * i) % clients for i in range(max(1, clients // 2))]

    write_run(
        folder, picked, rounds, every=1, level=level, slope=slope, samples=143, moved=38_000 - 7 * labels, step_s=0.4
    )
    write_lines(
        folder / SHARES,
        [
            {
                "rank": rank,
                "examples": 143,
                "labels": {str((rank + j) % 10): 143 // labels + (rank * j) % 5 for j in range(labels)},
            }
            for rank in range(clients)
        ],
    )
    spread = {"mean": level - 0.02, "min": level - 0.2, "p10": level - 0.1, "p50": level, "p90": level, "n": clients}
    write_lines(
        folder / ROUNDS,
        [
            {"round": r, "t": BEGAN + r, "selected": 7, "accepted": 5, "refused": {"late": 1} if r % 4 == 0 else {}}
            | ({"evaluation": {"accuracy": spread}} if r == rounds - 1 else {})
            for r in range(rounds)
        ],
    )


def results(
    out: Path, *, broken: bool = True, drop: float | None = 0.3
) -> tuple[ComparisonPlan, list[CaseResult], list[CaseResult]]:
    """Write made-up runs into a folder, one of them broken, and return what a comparison would have found."""
    found = cases({"workers": 4, "rounds": 20}, clients=10)
    done = [_run(case, out) for case in found]
    if broken:
        tail = ("Traceback (most recent call last):", "ValueError: <what> & why")
        done[3] = _result(found[3], RunOutcome("failed", 1, "exit code 1", 3.2, tail), Record())
    plan = ComparisonPlan(Script("train.py"), ("--epochs", "10"), found, drop, 0, 600.0, out)
    dropouts = [] if drop is None else [_dropout(result, drop, out) for result in done]
    return plan, done, dropouts


def report(out: Path, **given: Any) -> dict[str, Any]:
    """Return the report of made-up runs."""
    plan, done, dropouts = results(out, **given)
    return build(plan, MACHINE, done, dropouts)


def _run(case: Case, out: Path) -> CaseResult:
    folder = out / case.name
    if case.paradigm == "centralized":
        write_run(folder, lambda clock: [0], 450, every=20, level=0.98, slope=6e-4, moved=0)
    elif case.paradigm == "model parallel":
        write_run(folder, lambda clock: range(4), 450, every=20, level=0.98, slope=6e-4, moved=20_000, stages=True)
        write_summary(folder, dict.fromkeys(range(4), 0))
    elif case.paradigm == "distributed":
        slopes = {"sync": 4e-4, "async": 5.5e-4, "ssp": 5e-4}
        write_run(folder, lambda clock: range(4), 113, every=5, level=0.975, slope=slopes[case.name], step_s=0.02)
        write_summary(folder, dict.fromkeys(range(4), 0))
    else:
        iid = case.name == "federated-iid"
        level, slope = (0.96, 2.6e-4) if iid else (0.91, 1.6e-4)
        write_federation(folder, 10, 20, labels=10 if iid else 2, level=level, slope=slope)
        write_summary(folder, dict.fromkeys(range(10), 0))
    return _result(case, RunOutcome("finished", 0, "", 4.0 + len(case.name) / 3), read(folder))


def _dropout(result: CaseResult, drop: float, out: Path) -> CaseResult:
    case = with_victims(result.case, drop, 0)
    if result.outcome.ended != "finished":
        why = "the run without drop-outs did not finish: exit code 1"
        return CaseResult(case, "", RunOutcome("not run", why=why), Record())
    folder = out / case.name
    if case.paradigm == "centralized":
        write_run(folder, lambda clock: [0], 225, every=20, level=0.98, slope=6e-4, moved=0)
        outcome = RunOutcome("failed", 137, "killed by SIGKILL", 2.2, ("half of it",), case.victims, BEGAN + 2.2, 220)
        return _result(case, outcome, read(folder))

    def alive(clock: int) -> list[int]:
        ranks = range(case.participants)
        return [rank for rank in ranks if clock < 10 or rank not in case.victims]

    write_run(folder, alive, 20, every=5, level=0.94, slope=1e-3, step_s=0.4)
    write_summary(folder, {rank: 137 if rank in case.victims else 0 for rank in range(case.participants)})
    outcome = RunOutcome("failed", 137, "killed by SIGKILL", 17.3, ("late",), case.victims, BEGAN + 4.1, 10)
    return _result(case, outcome, read(folder))


def _result(case: Case, outcome: RunOutcome, record: Record) -> CaseResult:
    return CaseResult(
        case, " ".join(case.command(Script("train.py"), ("--epochs", "10"), case.name, ("psctl",))), outcome, record
    )

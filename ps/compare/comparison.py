"""Comparison: all runs, one after the other, each with its record; with participants killed too, if that is wanted."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ps.compare.attack import Attack, Middle
from ps.compare.case import CENTRALIZED, Case, fitted, with_victims
from ps.compare.record import Record, read
from ps.compare.runner import Bounds, Fetch, Run, RunOutcome
from ps.compare.watchdog import Watchdog
from ps.config import ProcessConfig, env_of
from ps.dataclass import dataclass
from ps.errors import PSError, UsageError
from ps.regular_file import reason, shown
from ps.script import Script

REPORT, PAGE = "report.json", "report.html"


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """What is compared: a script and its arguments, in these cases; ``drop`` is None to leave the drop-outs away."""

    script: Script
    args: tuple[str, ...]
    cases: Sequence[Case]
    drop: float | None
    seed: int
    timeout: float
    out: Path
    toml: str = ""
    cores: int = 1
    grace: float = ProcessConfig().grace


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One run, its command as it would be typed, how it ended and what it left."""

    case: Case
    command: str
    outcome: RunOutcome
    record: Record


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a comparison asks and tells while it runs: a status, whether to stop or hurry, and words for people."""

    fetch: Fetch
    stop: Callable[[], bool]
    hurry: Callable[[], bool]
    say: Callable[[str], None]
    progress: Callable[[str], None]


def survived(result: CaseResult) -> bool:
    """Return whether a run came to its end with everybody who was not killed.

    A run that lost somebody ends with that one's exit status: what counts is how the others ended.
    """
    others = {rank: status for rank, status in result.record.exits.items() if rank not in result.outcome.killed}
    if result.outcome.ended == "finished":
        return True
    return result.outcome.ended == "failed" and bool(others) and not any(others.values())


def prepare(out: str) -> Path:
    """Make the folder of a comparison. UsageError when it cannot be, or when it holds anything already."""
    try:
        path = Path(out).absolute()
        path.mkdir(parents=True, exist_ok=True)
        taken = any(path.iterdir())
        if not taken:
            with tempfile.TemporaryFile(dir=path):
                pass
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write the comparison to {shown(out)}: {reason(error)}") from None
    if taken:
        number = 2
        name = path.name or "compare"  # of the root, too
        while (free := path.parent / f"{name}-{number}").exists():
            number += 1
        raise UsageError(f"{out} is not empty; remove it, or try: --out {os.path.relpath(free)}")
    return path


def run_all(
    plan: ComparisonPlan, environ: Mapping[str, str], callbacks: Callbacks
) -> tuple[list[CaseResult], list[CaseResult]]:
    """Run every case, then every case with participants killed in its middle. Whatever fails, the others are run."""
    results: list[CaseResult] = []
    dropouts: list[CaseResult] = []
    total = len(plan.cases) * (1 if plan.drop is None else 2)
    with Watchdog(plan.grace) as watchdog:
        one = partial(_run, plan, environ, callbacks, watchdog)
        for case in plan.cases:
            case = _fitted(case, results)
            which = f"{len(results) + 1} of {total}"
            if case.impossible:
                outcome = RunOutcome("not run", why=case.impossible)
                results.append(CaseResult(case, "", outcome, Record()))
                callbacks.say(f"{case.name}, {which}: not run. {case.impossible}")
            else:
                results.append(one(case, None, which))
        for result in results if plan.drop is not None else ():
            case = with_victims(result.case, plan.drop or 0.0, plan.seed)
            if result.outcome.ended == "finished":
                record = result.record
                middle = Middle(record.clock / 2, record.train_s / 2)
                dropouts.append(one(case, middle, f"{len(results) + len(dropouts) + 1} of {total}"))
            else:
                why = f"the run without drop-outs did not finish: {result.outcome.why or result.outcome.ended}"
                dropouts.append(CaseResult(case, "", RunOutcome("not run", why=why), Record()))
    return results, dropouts


def _fitted(case: Case, results: Sequence[CaseResult]) -> Case:
    """Return a run as the script's model lets it be, as far as those before it have shown that model."""
    for before in results:
        if before.case.paradigm == CENTRALIZED and before.outcome.ended == "finished":
            return fitted(case, before.record.layers)
    return case


def _run(
    plan: ComparisonPlan,
    environ: Mapping[str, str],
    callbacks: Callbacks,
    watchdog: Watchdog,
    case: Case,
    middle: Middle | None,
    which: str,
) -> CaseResult:
    folder = plan.out / case.name
    command = case.command(plan.script, plan.args, str(folder))
    words = shlex.join(case.command(plan.script, plan.args, case.name, ("psctl",)))
    if callbacks.stop():
        return CaseResult(case, words, RunOutcome("not run", why="interrupted before it"), Record())
    gone = {"restarts": 0}  # who drops out stays away
    given = {**environ, **env_of(ProcessConfig, {"grace": plan.grace, **gone})}
    try:
        folder.mkdir()
        run = Run(command, case.environment(given, str(folder), plan.toml, plan.cores), folder, watchdog)
    except OSError as error:
        return CaseResult(case, words, RunOutcome("failed", PSError.exit_code, f"{folder}: {error.strerror}"), Record())
    except PSError as error:
        return CaseResult(case, words, RunOutcome("failed", error.exit_code, str(error)), Record())
    attack = None
    if middle is not None:
        alone = case.paradigm == CENTRALIZED
        attack = Attack(case.victims, middle, folder, lambda: {0: run.pid} if alone else run.pids(callbacks.fetch))
    outcome = run.finish(
        Bounds(plan.timeout, callbacks.stop, callbacks.hurry),
        attack,
        lambda seconds: callbacks.progress(f"{case.name}, {which}: {seconds:.0f} s"),
    )
    result = CaseResult(case, words, outcome, read(folder))
    callbacks.say(f"{case.name}, {which}: {_ending(result)} after {outcome.wall_s:.1f} s")
    return result


def _ending(result: CaseResult) -> str:
    outcome, killed = result.outcome, len(result.outcome.killed)
    if killed:
        return f"{killed} of {result.case.participants} killed, and {'went on' if survived(result) else 'lost'}"
    return f"{outcome.ended} ({outcome.why})" if outcome.why else outcome.ended

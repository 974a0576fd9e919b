"""Case: one run of the comparison: its paradigm, its settings and who is killed in the middle. Starts nothing."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ps import blas
from ps.config import DISTRIBUTED as DISTRIBUTED_MODES
from ps.config import JobConfig, ProcessConfig, env_of, flags_of, settings_of
from ps.config.load import without_ours
from ps.config.transport import shares_memory
from ps.dataclass import dataclass
from ps.errors import ConfigError, UsageError
from ps.launch.plan import PROGRAM, check_count
from ps.script import Script

CENTRALIZED, DISTRIBUTED, MODEL_PARALLEL, FEDERATED = "centralized", "distributed", "model parallel", "federated"
PIPELINE = "pipeline"
"""The one run in which workers have parts of the model."""
NAMES = ("centralized", *DISTRIBUTED_MODES, PIPELINE, "federated-iid", "federated-non-iid")

EVAL_EVERY = 20
"""Steps of one process after which the model is evaluated, if nobody says otherwise."""
MOST_EVALUATIONS = 50
"""Evaluations of a federated run, about: each round, unless there are more."""

_KEPT = ("device", "threads", "kernels", "data", "plugins", "grace", "restarts")
"""Settings of a process that hold for every run alike: the others would make the runs join or overwrite each other."""


@dataclass(frozen=True, slots=True)
class Case:
    """One run. ``job`` holds the settings it is given; ``victims`` the ranks that are killed in its middle.

    ``impossible`` says why it cannot be, if it cannot.
    """

    name: str
    title: str
    paradigm: str
    participants: int
    job: Mapping[str, Any]
    victims: tuple[int, ...] = ()
    impossible: str = ""

    def command(self, script: Script, args: Sequence[str], run_dir: str, program: Sequence[str] = PROGRAM) -> list[str]:
        """Return the command line: ``python SCRIPT`` for the centralized run, ``psctl run`` for the others."""
        if self.paradigm == CENTRALIZED:
            return [sys.executable, *script.words, *args]
        return [
            *program,
            "run",
            *flags_of(JobConfig, self.job),
            "--run-dir",
            run_dir,
            *script.flags,
            "--",
            script.name,
            *args,
        ]

    def environment(self, base: Mapping[str, str], run_dir: str, toml: str, cores: int) -> dict[str, str]:
        """Return ``base`` without what would lead this run elsewhere, and for a script alone with its settings.

        All processes of a run get together as many threads as there are cores, unless ``base`` says otherwise.
        """
        env = without_ours(base, [settings_of(ProcessConfig)[name].env for name in _KEPT])
        env |= {"PS_CONFIG": toml} if toml else {}
        if self.paradigm == CENTRALIZED:
            threads = dict.fromkeys(blas.VARIABLES, str(blas.share(cores, 1)))
            env = {**threads, **env, **env_of(JobConfig, self.job), "PS_RUN_DIR": run_dir}
        return {"PYTHONUNBUFFERED": "1", **env}


def cases(
    explicit: Mapping[str, Any], *, clients: int = 10, non_iid: str = "shards:2", only: Sequence[str] = ()
) -> list[Case]:
    """Return the runs without drop-outs, in the order in which they are run.

    ``explicit`` are the job's settings that somebody set; each run gets those that mean something in it. ``only``
    names the runs that are wanted (all when empty). UsageError for a name that there is not, or settings that the
    comparison makes itself; ConfigError for settings that a run would refuse.
    """
    for name, instead in (("mode", "--only"), ("partition", "--non-iid")):
        if name in explicit:
            raise UsageError(f"{name} = {explicit[name]}: the comparison goes through several; choose with {instead}")
    for name in only:
        if name not in NAMES:
            raise UsageError(f"--only {name}: there is no such run; expected some of {','.join(NAMES)}")
    workers = explicit.get("workers", 4)
    every = explicit.get("eval_every", EVAL_EVERY)
    rounds = explicit.get("rounds", settings_of(JobConfig)["rounds"].default)
    table = settings_of(JobConfig)
    shared = {key: value for key, value in explicit.items() if not table[key].modes}
    alone = {key: value for key, value in shared.items() if key not in ("servers", "workers", "aggregator")}
    found = [Case("centralized", "Centralized", CENTRALIZED, 1, {**alone, "eval_every": every})]
    for mode in DISTRIBUTED_MODES:
        job = {key: value for key, value in explicit.items() if heeded(key, mode) and key != "aggregator"}
        # As many examples between two evaluations as in one process: N workers take N batches in a step.
        job |= {"workers": workers, "mode": mode, "eval_every": max(1, every // workers) if every else 0}
        job |= _aggregator(explicit, job)
        found.append(Case(mode, f"Distributed, {mode}", DISTRIBUTED, workers, job))
    found.append(_pipeline(explicit, workers, every))
    for name, partition in (("federated-iid", "iid"), ("federated-non-iid", non_iid)):
        job = {key: value for key, value in explicit.items() if heeded(key, FEDERATED)}
        job |= {"workers": clients, "mode": "federated", "partition": partition, "rounds": rounds}
        if shares_memory(job.get("transport", "auto")):  # the distributed runs may; a client's delta has to travel
            del job["transport"]
        job["eval_every"] = max(1, rounds // MOST_EVALUATIONS) if every else 0
        kind = "IID" if name == "federated-iid" else f"non-IID ({partition})"
        found.append(Case(name, f"Federated, {kind}", FEDERATED, clients, job))
    _ = JobConfig(**explicit, partition=non_iid).specs  # reads all texts, also those that no run is given
    _check(explicit, found, only)
    return [case for case in found if case.name in only or not only]


def _pipeline(explicit: Mapping[str, Any], workers: int, every: int) -> Case:
    """Return the run whose workers have parts of the model; with other settings than it has, it is impossible."""
    job = {key: value for key, value in explicit.items() if heeded(key, PIPELINE) and key != "aggregator"}
    job |= {"workers": workers, "mode": PIPELINE, "eval_every": 0}
    job |= _aggregator(explicit, job)
    case = Case(PIPELINE, _title(job), MODEL_PARALLEL, workers, job)
    try:
        config = JobConfig(**job)
        config.check()
    except ConfigError as error:
        return dataclasses.replace(case, impossible=str(error))
    return dataclasses.replace(case, job=job | {"eval_every": max(1, every // config.copies) if every else 0})


def fitted(case: Case, layers: int) -> Case:
    """Return the run of a script whose model is a pipeline of so many layers (0: it is none), or why it cannot be.

    Where nobody says how many stages there are, a model with fewer layers than workers gets several pipelines.
    """
    if case.paradigm != MODEL_PARALLEL or case.impossible:
        return case
    if not layers:
        why = "the script's model is no list of layers that could be dealt out. Make it a ps.Pipeline"
        return dataclasses.replace(case, impossible=why)
    config = JobConfig(**case.job)
    stages = config.stages or config.places
    if stages <= layers:
        return case
    if case.job.get("stages") or "pipeline_workers" in case.job:
        why = f"the script's model has {layers} layers, which cannot be cut into {stages} stages"
        return dataclasses.replace(case, impossible=f"{why}. Try: --stages {layers}")
    fewer = max(number for number in range(1, layers + 1) if config.workers % number == 0)
    every = case.job["eval_every"]  # of one pipeline, which is that of one process
    job = {**case.job, "stages": fewer, "eval_every": max(1, every * fewer // config.workers) if every else 0}
    if fewer == 1:
        why = f"the script's model has {layers} layers, and {config.workers} workers are no whole number of pipelines"
        return dataclasses.replace(case, impossible=f"{why} of at most as many workers each")
    return dataclasses.replace(case, job=job, title=_title(job))


def _title(job: Mapping[str, Any]) -> str:
    stages = job.get("stages") or job.get("pipeline_workers") or job["workers"]
    return f"Model parallel, {stages} stages"


def _check(explicit: Mapping[str, Any], found: Sequence[Case], only: Sequence[str]) -> None:
    """Raise ConfigError for what would stop a run, now and not an hour later.

    Looked at are the wanted runs and those others that heed a setting which no wanted one does.
    """
    wanted = [case for case in found if case.name in only or not only]
    unused = {name for name in explicit if not any(name in case.job for case in wanted)}
    for case in found:
        if case in wanted or unused & {*case.job}:
            if case.impossible and case.name not in only:
                continue  # the others can be compared all the same, and it is said why this one is not among them
            try:
                JobConfig(**case.job).check()
                if case.paradigm != CENTRALIZED:
                    check_count(case.job.get("servers", 1), case.participants)
            except ConfigError as error:
                raise ConfigError(f"the run {case.name}: {error}") from None


def heeded(name: str, mode: str) -> bool:
    """Whether a setting of the job means something in a mode."""
    modes = settings_of(JobConfig)[name].modes
    return not modes or mode in modes


def _aggregator(explicit: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the aggregator that somebody set, if this job can have it."""
    given = {key: explicit[key] for key in ("aggregator",) if key in explicit}
    return given if can_be({**job, **given}) else {}


def can_be(job: Mapping[str, Any]) -> bool:
    """Whether these settings go together: an aggregator for many clients may be none for one worker's gradient."""
    try:
        JobConfig(**job).check()
    except ConfigError:
        return False
    return True


def with_victims(case: Case, drop: float, seed: int) -> Case:
    """Return the same run with participants to be killed in its middle.

    One worker of a distributed run, the share ``drop`` of a federation's clients, at least one, chosen by ``seed``.
    Rank 0 is spared where there are others, because it evaluates; the one process of a centralized run is not.
    """
    others = np.arange(1, case.participants) if case.participants > 1 else np.arange(1)
    wanted = max(1, round(drop * case.participants)) if case.paradigm == FEDERATED else 1
    picked = np.random.default_rng((seed, case.participants)).permutation(others)[:wanted]
    victims = tuple(sorted(map(int, picked)))
    return dataclasses.replace(case, name=f"{case.name}-dropout", victims=victims)

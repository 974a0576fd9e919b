"""Promises of ps.launch.plan: commands and environments that mean the same when read back."""

from __future__ import annotations

import shlex
from typing import Any

from ps.config import JobConfig, ProcessConfig, process_from_env
from ps.launch.plan import Plan
from ps.script import Script


def plan(**changes: Any) -> Plan:
    given: dict[str, Any] = {
        "script": Script("my train.py"),
        "args": ("--lr", "0.1 2"),
        "servers": 2,
        "workers": 3,
        "job": {"mode": "ssp", "staleness_scaling": True, "clip_norm": None},
        "process": ProcessConfig(host="10.0.0.1", port=4000, device="cpu", threads=3, kernels="numpy", data="/d"),
        "program": ("psctl",),
    }
    return Plan(**{**given, **changes})


def environment(role: str, rank: int, base: dict[str, str] | None = None, **changes: Any) -> dict[str, str]:
    where: dict[str, Any] = {"scheduler": "tcp://a:1", "runtime_dir": "/t", "run_dir": "/r", "state": "/s"}
    where["trace"] = f"/t.{role}"
    return plan(**changes).environment(base or {}, role, rank, cores=8, **where)


def test_the_scheduler_is_given_the_job_and_the_workers_the_script() -> None:
    words = "psctl scheduler --servers 2 --workers 3 --mode ssp --staleness-scaling --clip-norm none"
    assert shlex.join(plan().command("scheduler")) == words
    assert plan().command("server") == ["psctl", "server"]
    assert plan().command("worker") == ["psctl", "worker", "--", "my train.py", "--lr", "0.1 2"]


def test_commands_for_people_survive_the_shell() -> None:
    join = shlex.split(plan().join_command("tcp://a:1"))
    assert join == ["psctl", "worker", "--scheduler", "tcp://a:1", "my train.py", "--lr", "0.1 2"]
    restart = shlex.split(plan().restart_command("tcp://[fd00::1]:5", "/tmp/a b"))  # which is what it tells others
    assert restart[:8] == ["psctl", "scheduler", "--host", "10.0.0.1", "--port", "5", "--state", "/tmp/a b"]


def test_each_role_gets_its_own_settings_and_nobody_anothers() -> None:
    base = {"PS_RANK": "9", "PS_MODE": "async", "PS_CONFIG": "x", "PS_FORMAT": "pid", "PS_READY_FD": "3"}
    worker = environment("worker", 2, base)
    assert process_from_env(worker) == ProcessConfig(
        scheduler="tcp://a:1",
        host="10.0.0.1",
        rank=2,
        local_rank=2,
        device="cpu",
        threads=3,
        kernels="numpy",
        run_dir="/r",
        trace="/t.worker",
        data="/d",
        state="/s",
        runtime_dir="/t",
    )
    assert worker["PS_FORMAT"] == "pid"
    assert not {"PS_MODE", "PS_CONFIG", "PS_READY_FD"} & worker.keys()
    scheduler = process_from_env(environment("scheduler", 0, base))
    assert (scheduler.port, scheduler.rank, scheduler.state) == (1, None, "/s"), "it comes back where it was"
    server = process_from_env(environment("server", 1, base))
    assert (server.port, server.rank, server.run_dir, server.state) == (0, 1, None, "/s")


def test_the_toml_file_in_force_is_the_childrens_too() -> None:
    assert environment("worker", 0, toml="/a/b.toml")["PS_CONFIG"] == "/a/b.toml"


def test_threads_are_divided_among_the_workers_unless_the_user_did() -> None:
    assert environment("worker", 0)["OMP_NUM_THREADS"] == "2"
    assert environment("worker", 0, workers=100)["OPENBLAS_NUM_THREADS"] == "1"
    assert environment("worker", 0, {"OMP_NUM_THREADS": "5"})["OMP_NUM_THREADS"] == "5"


def test_only_what_the_user_set_is_passed_on() -> None:
    flags = plan(job={}).command("scheduler")
    assert flags == ["psctl", "scheduler", "--servers", "2", "--workers", "3"]
    assert len(JobConfig().to_dict()) > 2

"""Promises of a job that Slurm runs for psctl run: it is followed, ended with it, and every failure is one line."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from ps.engines import slurm_job
from ps.engines.slurm_job import GONE, SlurmJob, Tail, ask, run_job
from ps.errors import ConnectTimeout, PSError, UsageError
from support.cluster import wait_until


class FakeSlurm:
    """Answers as Slurm's commands do; ``states`` are what a job is in, one after another, the last for good."""

    def __init__(self, output: Path, *states: str) -> None:
        self.output, self.states, self.asked = output, list(states), list[tuple[str, ...]]()

    def __call__(self, *words: str, text: str | None = None) -> str:
        self.asked.append(words)
        if words[0] == "sbatch":
            return "12;cluster\n"
        if words[0] == "scancel":
            self.states = ["JobState=CANCELLED ExitCode=0:15"]
            return ""
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return f"JobId=12 JobName=x {state} StdOut={self.output} NodeList=n[1-2]\nJobId=13 JobState=RUNNING\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_job, "LOOK", 0.0)
    monkeypatch.setattr(slurm_job, "NAP", 0.01)


def followed(monkeypatch: pytest.MonkeyPatch, slurm: FakeSlurm) -> tuple[int, list[str]]:
    said: list[str] = []
    monkeypatch.setattr(slurm_job, "ask", slurm)
    monkeypatch.setattr(SlurmJob, "submit", classmethod(lambda cls, script: cls("12", slurm)))
    return run_job("#!/bin/bash\n", said.append), said


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("JobState=COMPLETED ExitCode=0:0", 0),
        ("JobState=FAILED ExitCode=4:0", 4),
        ("JobState=FAILED ExitCode=0:9", 137),
        ("JobState=CANCELLED ExitCode=0:15", 143),
        ("JobState=CANCELLED ExitCode=0:0", 143),
        ("JobState=TIMEOUT ExitCode=0:0", 1),
        ("JobState=NODE_FAIL ExitCode=0:0", 4),
        ("JobState=OUT_OF_MEMORY ExitCode=0:125", 253),
    ],
)
def test_its_exit_code_is_the_jobs_and_never_0_for_one_that_did_not_complete(
    end: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    slurm = FakeSlurm(tmp_path / "out", "JobState=PENDING Reason=Priority", "JobState=RUNNING Reason=None", end)
    status, said = followed(monkeypatch, slurm)
    assert status == code
    assert "job 12 waits in the queue: PENDING Priority" in said and "job 12 runs on n[1-2]" in said
    assert said[-1].startswith("job 12 is over: ")


def test_what_it_prints_is_shown_to_the_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, capfdbinary: Any
) -> None:
    (tmp_path / "out").write_bytes(b"3: step\xff 1\n" * 200_000)
    slurm = FakeSlurm(tmp_path / "out", "JobState=RUNNING", "JobState=COMPLETED ExitCode=0:0")
    assert followed(monkeypatch, slurm)[0] == 0
    assert capfdbinary.readouterr().out == (tmp_path / "out").read_bytes()


def test_a_job_that_is_queued_again_is_followed_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    states = ["JobState=RUNNING Restarts=0", "JobState=PENDING Restarts=1 Reason=BeginTime"]
    states += ["JobState=RUNNING Restarts=1", "JobState=COMPLETED Restarts=1 ExitCode=0:0"]
    status, said = followed(monkeypatch, FakeSlurm(tmp_path / "out", *states))
    assert status == 0 and "job 12 runs on n[1-2], again" in said


def test_a_signal_ends_the_job_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    slurm = FakeSlurm(tmp_path / "out", "JobState=RUNNING")
    main = threading.main_thread().ident or 0

    def interrupt() -> None:
        wait_until(lambda: any(words[0] == "scontrol" for words in slurm.asked))
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    status, said = followed(monkeypatch, slurm)
    assert status == 130 and ("scancel", "12") in slurm.asked and "ending job 12" in said


def test_a_controller_that_is_away_is_asked_again_and_given_up_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*words: str, text: str | None = None) -> str:
        raise ConnectTimeout("Unable to contact slurm controller")

    job = SlurmJob("12", away)
    job.look(100.0)
    job.look(100.0 + GONE)
    with pytest.raises(ConnectTimeout, match=r"nothing was heard of job 12 for 300 s: .* scancel 12"):
        job.look(102.0 + GONE)


def test_a_job_that_slurm_refuses_is_a_usage_error() -> None:
    def refuse(*words: str, text: str | None = None) -> str:
        raise PSError("sbatch: error: invalid partition specified: gpu")

    with pytest.raises(UsageError, match=r"Slurm refuses the job: .*invalid partition"):
        SlurmJob.submit("", refuse)
    with pytest.raises(PSError, match="which is no number of a job"):
        SlurmJob.submit("", lambda *words, text=None: "Submitted!")


def test_a_machine_without_slurm_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="sbatch is not on this machine: psctl run --on slurm"):
        ask("sbatch", "--parsable")


@pytest.mark.parametrize(
    ("script", "kind", "why"),
    [
        (
            "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
            ConnectTimeout,
            "sinfo",
        ),
        ("echo bad >&2; exit 1", PSError, "^bad$"),
        ("exit 3", PSError, "exit code 3"),
        ("sleep 60", ConnectTimeout, "has not answered for 0.2 s"),
    ],
)
def test_what_slurm_says_is_one_line(
    script: str, kind: type[PSError], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "sbatch"
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_job, "PATIENCE", 0.2 if "sleep" in script else 20.0)
    with pytest.raises(kind, match=why) as caught:
        ask("sbatch")
    assert type(caught.value) is kind and "\n" not in str(caught.value)


def test_a_file_is_followed_from_where_it_was_read(tmp_path: Path) -> None:
    tail, place = Tail(), tmp_path / "out"
    assert tail.read("") == tail.read(str(place)) == b""
    place.write_bytes(b"one\n")
    assert tail.read(str(place)) == b"one\n" and tail.read(str(place)) == b""
    with place.open("ab") as file:
        file.write(b"two")
    assert tail.read(str(place)) == b"two"

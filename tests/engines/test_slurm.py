"""Promises of Slurm's batch script: its tasks take their roles from their numbers, and words of a job stay words.

An ``srun`` that starts the tasks on this host stands in for Slurm's; ``test_real_slurm`` uses the real one.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ps.errors import UsageError
from support.rendered import HOSTILE, rendered, workload

SRUN = """\
#!/usr/bin/env python3
# Starts --ntasks tasks here, each with its number; of a job in two parts those of both. Ends with the largest code.
import os, signal, subprocess, sys
words, first, tasks = sys.argv[1:], 0, []
while words:
    end = words.index(":") if ":" in words else len(words)
    part, words = words[:end], words[end + 1:]
    flags = [word for word in part if word.startswith("--") and part.index(word) < part.index("bash")]
    about = dict(flag[2:].split("=", 1) for flag in flags if "=" in flag)
    for _ in range(int(about["ntasks"])):
        env = {**os.environ, "SLURM_PROCID": str(len(tasks)), "SLURM_CPUS_PER_TASK": about["cpus-per-task"]}
        tasks.append(subprocess.Popen(part[part.index("bash"):], env=env))
open("srun.pid", "w").write(str(os.getpid()))
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
sys.exit(max(128 - code if code < 0 else code for code in [task.wait() for task in tasks]))
"""
PSCTL = """\
#!/usr/bin/env python3
import os, sys
if sys.argv[1] == "keys":
    os.makedirs(sys.argv[3])
    sys.exit(0)
with open(f"said.{os.environ['SLURM_PROCID']}", "w") as file:
    names = "OMP_NUM_THREADS", "PYTHONUNBUFFERED"
    file.write(repr((sys.argv[1:], {name: os.environ.get(name) for name in names})))
sys.exit(int(os.environ.get("FAIL_" + os.environ["SLURM_PROCID"], 0)))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a stand-in for srun and psctl, first on the path."""
    for name, text in {"srun": SRUN, "psctl": PSCTL, "scontrol": '#!/bin/sh\necho "$@" > scontrol.said\n'}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        place = tmp_path / "bin" / name
        place.write_text(text.replace("/usr/bin/env python3", sys.executable))
        place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def run_script(folder: Path, script: str, **more: str) -> int:
    env = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    env |= {"SLURM_SUBMIT_DIR": str(folder), **more}
    env.pop("OMP_NUM_THREADS", None)
    return subprocess.run(
        ["bash", "-s"], input=script, text=True, cwd=folder, env=env, timeout=60, check=False
    ).returncode


def said(folder: Path) -> dict[int, tuple[list[str], dict[str, str | None]]]:
    return {int(path.suffix[1:]): eval(path.read_text()) for path in folder.glob("said.*")}


def script_of(work=None, **options: str) -> str:  # type: ignore[no-untyped-def]
    work = work or workload("--epochs", "3", servers=2, workers=3)
    return next(iter(rendered("slurm", work, psctl="psctl", **options).values()))


def test_each_task_becomes_one_role_and_some_worker_has_rank_0(folder: Path) -> None:
    assert run_script(folder, script_of(cpus_per_task="4")) == 0
    found = said(folder)
    assert [found[task][0][0] for task in range(6)] == ["scheduler", "server", "server", "worker", "worker", "worker"]
    ranks = {task: words[words.index("--rank") + 1] for task, (words, _) in found.items() if "--rank" in words}
    assert ranks == {1: "0", 2: "1", 3: "0", 4: "1", 5: "2"}
    at = f"{folder}/psctl-7/scheduler.7.0"
    assert found[0][0][found[0][0].index("--address-file") + 1] == at
    assert all(found[task][0][found[task][0].index("--scheduler") + 1] == f"file:{at}" for task in range(1, 6))
    keys = [found[task][0][found[task][0].index("--keys") + 1].rpartition("/")[2] for task in range(6)]
    assert keys == ["scheduler", "server-0", "server-1", "worker-0", "worker-1", "worker-2"]
    assert all(env == {"OMP_NUM_THREADS": "4", "PYTHONUNBUFFERED": "1"} for _, env in found.values())
    assert found[3][0][-4:] == ["--", "train.py", "--epochs", "3"]
    assert not list(folder.glob("psctl-*"))  # nor any keys


def test_each_life_of_a_job_has_an_address_and_keys_of_its_own(folder: Path) -> None:
    run_script(folder, script_of(), SLURM_RESTART_COUNT="2")
    words = said(folder)[1][0]
    assert words[words.index("--scheduler") + 1].endswith("/scheduler.7.2")
    assert "/keys.7.2/" in words[words.index("--keys") + 1]


@pytest.mark.parametrize("word", HOSTILE)
def test_words_of_a_job_stay_words(folder: Path, word: str) -> None:
    work = workload(word, word + word, script=f"x{word}/train.py", servers=1, workers=1, data=f"d{word}")
    script = script_of(work)
    assert run_script(folder, script) == 0
    words = said(folder)[2][0]
    assert words[words.index("--") + 1 :] == [f"x{word}/train.py", word, word + word]
    assert words[words.index("--data") + 1] == f"d{word}"
    assert sorted(path.name for path in folder.iterdir()) == ["bin", "said.0", "said.1", "said.2", "srun.pid"]


def test_a_job_in_two_parts_numbers_its_tasks_through(folder: Path) -> None:
    script = script_of(gpus_per_task="1", server_queue="cpu", queue="gpu", cpus_per_task="8", server_cpus="2")
    assert run_script(folder, script) == 0
    assert [said(folder)[task][0][0] for task in (0, 1, 2, 3, 5)] == [
        *("scheduler", "server", "server"),
        *("worker", "worker"),
    ]
    assert [said(folder)[task][1]["OMP_NUM_THREADS"] for task in (1, 3)] == ["2", "8"]
    before, after = script.split("#SBATCH hetjob")
    assert "--partition=cpu" in before and "gpus" not in before
    assert "--partition=gpu" in after and "--gpus-per-task=1" in after


def test_srun_repeats_what_it_does_not_inherit() -> None:
    script = script_of(cpus_per_task="6")
    assert "#SBATCH --cpus-per-task=6" in script
    assert "srun --ntasks=6 --cpus-per-task=6 " in script


def test_the_largest_exit_code_is_the_jobs(folder: Path) -> None:
    assert run_script(folder, script_of(), FAIL_4="1", FAIL_1="4") == 4


def test_a_job_that_was_asked_to_end_in_time_is_queued_again_if_it_keeps_something(folder: Path) -> None:
    kept = workload(servers=1, workers=1, checkpoint_dir="kept")
    script = script_of(kept, requeues="2").replace("sleep 60", "true")
    assert run_script(folder, script, FAIL_2="143") == 143
    assert (folder / "scontrol.said").read_text() == "requeue 7\n"
    (folder / "scontrol.said").unlink()
    assert run_script(folder, script, FAIL_2="143", SLURM_RESTART_COUNT="2") == 143
    assert run_script(folder, script, FAIL_2="1") == 1
    assert run_script(folder, script_of(workload(servers=1, workers=1)), FAIL_2="143") == 143
    assert not (folder / "scontrol.said").exists()
    assert "#SBATCH --requeue" in script and "#SBATCH --no-requeue" in script_of()


def test_tasks_are_asked_to_end_by_their_grace_before_the_time_is_over() -> None:
    assert "#SBATCH --signal=TERM@70" in script_of(workload(servers=1, workers=1, grace=40))


def test_no_port_is_made_of_a_number() -> None:
    script = script_of(workload(servers=1, workers=1, port=7070))
    assert re.findall(r"--port (\S+)", script) == ["0"]


def test_keys_of_the_users_own_are_taken_and_none_where_all_are_trusted() -> None:
    assert "PSCTL_KEYS=/my/keys\n" in script_of(workload(servers=1, workers=1, keys="/my/keys"))
    assert "keys init" not in script_of(workload(servers=1, workers=1, keys="/my/keys"))
    open_to_all = script_of(workload(servers=1, workers=1, insecure=True))
    assert "--keys" not in open_to_all and open_to_all.count("--insecure") == 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": "a b"}, "--name, of letters, digits"),
        ({"time": "1\n#SBATCH --uid=0"}, "--time .* is nothing that sbatch takes"),
        ({"queue": "a b"}, "--queue .* is nothing that sbatch takes"),
        ({"sbatch": ("--x\n--y",)}, "is no option of sbatch"),
        ({"sbatch": ("reboot",)}, "is no option of sbatch"),
    ],
)
def test_what_sbatch_would_take_for_something_else_is_refused(options: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        script_of(**options)


def test_a_records_folder_of_a_job_that_goes_on_is_another_one(folder: Path) -> None:
    work = workload(servers=1, workers=1, run_dir="runs/it's", checkpoint_dir="kept")
    assert run_script(folder, script_of(work), SLURM_RESTART_COUNT="1") == 0
    words = said(folder)[0][0]
    assert words[words.index("--run-dir") + 1] == "runs/it's-1"
    run_script(folder, script_of(work))
    assert said(folder)[2][0][said(folder)[2][0].index("--run-dir") + 1] == "runs/it's"


def test_a_federated_jobs_state_is_each_roles_own(folder: Path) -> None:
    work = workload(servers=1, workers=1, mode="federated", checkpoint_dir="kept")
    assert run_script(folder, script_of(work)) == 0
    states = [words[words.index("--state") + 1] for words, _ in (said(folder)[task] for task in range(3))]
    assert states == ["kept/job.db", "kept/job.db.d/server-0", "kept/job.db.d/worker-0"]

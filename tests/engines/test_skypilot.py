"""Promises of SkyPilot's task: who runs where, one's TERM is all processes', and words that stay words."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ps.errors import ConfigError
from support.cluster import wait_until
from support.rendered import HOSTILE, rendered, workload

PSCTL = """\
#!{python}
import os, sys, time
with open(".said." + str(os.getpid()), "w") as file:
    file.write(repr(sys.argv[1:]))
os.rename(file.name, file.name[1:])
time.sleep(float(os.environ.get("LASTS", 0)))
sys.exit(int(os.environ.get("CODE", 0)) if sys.argv[1] == "server" else 0)
"""


def task(work: Any = None, **options: str) -> dict[str, Any]:
    work = work or workload("--epochs", "3", servers=2, workers=4)
    found: dict[str, Any] = yaml.safe_load(next(iter(rendered("skypilot", work, **options).values())))
    return found


def start(folder: Path, run: str, rank: int, **more: str) -> subprocess.Popen[bytes]:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "psctl").write_text(PSCTL.format(python=sys.executable))
    (folder / "bin" / "psctl").chmod(stat.S_IRWXU)
    env = {
        **os.environ,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        **more,
    }
    env |= {"SKYPILOT_NODE_RANK": str(rank), "SKYPILOT_NUM_NODES": "2", "HOME": "/home/x"}
    return subprocess.Popen(["bash", "-c", run], cwd=folder, env=env)


def said(folder: Path) -> list[list[str]]:
    return sorted(eval(path.read_text()) for path in folder.glob("said.*"))


def test_the_first_machine_has_scheduler_and_servers_and_workers_are_on_all(tmp_path: Path) -> None:
    run, ranks = task(nodes="2")["run"], []
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        folder.mkdir()
        assert start(folder, run, rank).wait(30) == 0
        roles = [words[0] for words in said(folder)]
        assert roles == ["scheduler", "server", "server", "worker", "worker"][0 if rank == 0 else 3 :]
        ranks += [words[words.index("--rank") + 1] for words in said(folder) if words[0] == "worker"]
        for words in said(folder)[1 if rank == 0 else 0 :]:
            assert words[words.index("--scheduler") + 1] == "tcp://10.0.0.1:7070"
        assert said(folder)[-1][-4:] == ["--", "train.py", "--epochs", "3"]
    assert sorted(ranks) == ["0", "1", "2", "3"]


def test_a_failure_is_the_tasks(tmp_path: Path) -> None:
    assert start(tmp_path, task()["run"], 0, CODE="4").wait(30) == 4


def test_all_processes_are_asked_to_end(tmp_path: Path) -> None:
    process = start(tmp_path, task()["run"], 0, LASTS="60")
    wait_until(lambda: len(said(tmp_path)) == 5, 20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) != 0


@pytest.mark.parametrize("word", HOSTILE)
def test_words_of_a_job_stay_words(tmp_path: Path, word: str) -> None:
    run = task(workload(word, script=f"x{word}.py", servers=1, workers=1), name="train")["run"]
    assert start(tmp_path, run, 0).wait(30) == 0
    assert said(tmp_path)[-1][-2:] == [f"x{word}.py", word]


def test_machines_keys_and_accelerators() -> None:
    found = task(nodes="3", accelerators="A100:8", cpus="8+")
    assert found["num_nodes"] == 3 and found["resources"] == {"accelerators": "A100:8", "cpus": "8+"}
    assert found["file_mounts"] == {"~/.psctl-keys": "./keys"} and found["setup"].startswith("chmod -R go= ")
    assert "file_mounts" not in task(workload(servers=1, workers=1, insecure=True))
    with pytest.raises(ConfigError, match="no disk in common"):
        task(workload(servers=1, workers=1, state="x"))

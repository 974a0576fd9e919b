"""Promise: a process that the tests' fork server forks is what one of its own would be, for whoever started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.cluster import PSCTL, Process, clean_environment, is_running, wait_until
from support.fork_server import can_be

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

SAYS = """
import gc, json, os, signal, sys, threading
os.write(int(os.environ["FD"]), b"told")
print(json.dumps({
    "arguments": sys.argv[1:], "env": dict(os.environ), "folder": os.getcwd(), "path": sys.path,
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()], "name": __name__, "gc": gc.isenabled(),
    "signals": [getattr(signal.getsignal(n), "__name__", "") for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "threads": [thread.name for thread in threading.enumerate()],
    "files": sorted(os.readlink(f"/proc/self/fd/{fd}").split(":")[0] for fd in os.listdir("/proc/self/fd") if
                    os.path.exists(f"/proc/self/fd/{fd}")),
    "input": sys.stdin.read(),
}))
print("error", file=sys.stderr)
HOW
"""


def run(folder: Path, forked: bool, how: str) -> tuple[Process, str]:
    (folder / "script.py").write_text(SAYS.replace("HOW", how))
    read, write = os.pipe()
    env = clean_environment(FD=str(write), PS_RANK="3", OTHER="ü\n")
    command = [*PSCTL, "worker", "--scheduler", "127.0.0.1:1", "script.py", "a b", "--flag"]
    process = Process("script", command, env, [write], folder, forked=forked)
    os.close(write)
    with os.fdopen(read) as told:
        return process, told.read(4)


@pytest.mark.parametrize(("how", "code"), [("pass", 0), ("sys.exit(7)", 7), ("1 / 0", 1), ("os.abort()", -6)])
def test_it_is_started_and_ends_as_one_of_its_own(how: str, code: int, tmp_path: Path) -> None:
    said = []
    for forked in (True, False):
        process, told = run(tmp_path, forked, how)
        assert (process.wait(), told) == (code, "told")
        said.append(json.loads(process.wait_for(r"^\{.*")[0]))
        assert process.wait_for("^error$")
        assert ("ZeroDivisionError" in process.text) == (code == 1)
    forked_says, own_says = said
    assert forked_says == own_says
    assert forked_says["env"]["PS_RANK"] == "3"


VARY = ("PS_KEYS", "PS_SCHEDULER", "PS_RUNTIME_DIR", "PS_RUN_DIR", "PS_STATE")


def test_what_a_forked_launcher_starts_is_what_a_launcher_starts(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SAYS.replace("os.write", "# ").replace("HOW", "sys.exit(7)"))
    said = []
    for forked in (True, False):
        command = [*PSCTL, "run", "-w", "1", "script.py", "a b", "--flag"]
        process = Process("run", command, clean_environment(OTHER="ü\n"), (), tmp_path, forked=forked)
        assert process.wait() == 7, process.text
        assert process.wait_for("error$")
        says = json.loads(process.wait_for(r"worker 0 \| (\{.*)")[1])
        assert {name for name in VARY if name in says["env"]} == {*VARY}
        said.append({**says, "env": {name: value for name, value in says["env"].items() if name not in VARY}})
    assert said[0] == said[1]
    assert said[0]["arguments"] == ["a b", "--flag"] and said[0]["env"]["OTHER"] == "ü\n"


@pytest.mark.parametrize("forked", [True, False])
def test_a_launcher_that_is_killed_takes_with_it_what_it_has_started(forked: bool, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, time\nprint('pid', os.getpid())\ntime.sleep(60)")
    process = Process("run", [*PSCTL, "run", "-w", "1", "script.py"], clean_environment(), (), tmp_path, forked=forked)
    worker = int(process.wait_for(r"pid (\d+)")[1])
    process.kill()
    wait_until(lambda: not is_running(worker))


@pytest.mark.parametrize("forked", [True, False])
def test_it_is_signalled_and_killed_with_its_group(forked: bool, tmp_path: Path) -> None:
    child = "import subprocess\nprint('pid', subprocess.Popen(['sleep', '60']).pid)\nwhile True: signal.pause()"
    process, _ = run(tmp_path, forked, child)
    sleeps = int(process.wait_for(r"^pid (\d+)")[1])
    assert process.code is None
    process.signal(signal.SIGINT)
    assert process.wait() == 130
    process.end()
    assert not Path(f"/proc/{sleeps}/cmdline").exists() or not Path(f"/proc/{sleeps}/cmdline").read_bytes()


def test_what_the_interpreter_reads_when_it_starts_takes_a_process_of_its_own() -> None:
    assert can_be(clean_environment(PS_RANK="3"))
    assert not can_be(clean_environment(PYTHONPATH=sys.prefix))
    assert not can_be(clean_environment(OMP_NUM_THREADS="2"))


def test_it_is_killed_with_its_group_when_the_tests_are(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import subprocess\nprint(subprocess.Popen(['sleep', '60']).pid)\ninput()")
    starts = """
import os, sys
from support.cluster import PSCTL, Process, clean_environment, is_running
from pathlib import Path
command = [*PSCTL, "worker", "--scheduler", "127.0.0.1:1", "script.py"]
process = Process("script", command, clean_environment(), (), Path(sys.argv[1]), forked=True)
print(process.wait_for(r"^(\\d+)$")[1], flush=True)
os.kill(os.getpid(), 9)
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", starts, str(tmp_path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        sleeps = int(tests.stdout.readline())
        assert tests.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while is_running(sleeps):
        assert time.monotonic() < deadline
        time.sleep(0.05)

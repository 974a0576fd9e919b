"""Promises of the actor: it hands on lines and exit code of its process, and leaves nothing behind when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ps
from ps.errors import ConfigError, PSError
from ps.ray import process_actor
from ps.ray.process_actor import MOST_LINES, ProcessActor, environment
from ps.ray.start import ProcessNews, ProcessStart
from support.cluster import wait_until

pytestmark = pytest.mark.e2e
CHATTY = f"import sys; [print('line', n) for n in range({3 * MOST_LINES})]; print('last', file=sys.stderr); sys.exit(7)"
HOLDER = """\
import sys, time
from ps import interpreter
from ps.ray.process_actor import ProcessActor
from ps.ray.start import ProcessStart
import ps
actor = ProcessActor()
words = ("worker", "--scheduler", "127.0.0.1:1", "--connect-timeout", "60", "--insecure", "--", sys.argv[1])
print(actor.begin(ProcessStart("worker", 0, words, {}, {}, None, 25.0, ps.__version__), "127.0.0.1").pid, flush=True)
time.sleep(60)
"""
IGNORING = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


def start(**changes: object) -> ProcessStart:
    given = {"role": "worker", "rank": 0, "words": ("worker",), "env": {}, "keys": {}, "version": ps.__version__}
    return ProcessStart(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the actor run what stands in the variable PROGRAM, in the place of psctl."""
    code = "import os; exec(os.environ['PROGRAM'])"
    monkeypatch.setattr(process_actor.interpreter, "command", lambda module: (sys.executable, "-c", code))


def all_news(actor: ProcessActor) -> tuple[list[str], ProcessNews]:
    seen, lines = 0, list[str]()
    while True:
        news = actor.news(seen, 5.0)
        assert news.first <= seen
        lines += [text for _, text in news.lines[seen - news.first :]]
        seen = news.first + len(news.lines)
        if news.code is not None:
            return lines, news


def test_all_lines_and_the_exit_code_come_also_if_an_answer_is_lost(program: None) -> None:
    actor = ProcessActor()
    actor.begin(start(env={"PROGRAM": CHATTY}), "127.0.0.1")
    lost = actor.news(0, 5.0)
    assert lost.lines
    lines, news = all_news(actor)
    assert lines[:-1] == [f"line {n}" for n in range(3 * MOST_LINES)] or "last" in lines
    assert len(lines) == 3 * MOST_LINES + 1 and news.code == 7


def test_the_process_takes_the_threads_it_is_told_and_settings_of_the_nodes_are_not_its_own() -> None:
    node = {"OMP_NUM_THREADS": "1", "PS_MODE": "async", "PS_LIFELINE_FD": "3", "PATH": "/bin"}
    found = environment(start(env={"OMP_NUM_THREADS": "4"}), node)
    assert found["OMP_NUM_THREADS"] == "4" and found["PATH"] == "/bin" and found["PYTHONUNBUFFERED"] == "1"
    assert not {"PS_MODE", "PS_LIFELINE_FD"} & found.keys()


def test_keys_are_given_in_a_folder_that_only_it_can_read_and_that_goes_with_it(program: None) -> None:
    show = "import sys, os; at = sys.argv[sys.argv.index('--keys') + 1]; "
    show += "print(at, oct(os.stat(at).st_mode), os.listdir(at))"
    actor = ProcessActor()
    actor.begin(start(env={"PROGRAM": show}, keys={"private.key": b"secret"}), "127.0.0.1")
    [line], _ = all_news(actor)
    place, mode, names = line.split(maxsplit=2)
    assert (mode, names) == ("0o40700", "['private.key']")
    wait_until(lambda: not Path(place).parent.exists())


def test_one_that_is_asked_to_end_and_does_not_is_killed(program: None) -> None:
    actor = ProcessActor()
    actor.begin(start(env={"PROGRAM": IGNORING}), "127.0.0.1")
    assert actor.news(0, 20.0).lines == ((False, "ready"),)
    actor.end(0.2)
    assert all_news(actor)[1].code == -signal.SIGKILL


def test_what_cannot_be_started_is_said() -> None:
    with pytest.raises(ConfigError, match=r"has paramserver .*, and this job 0\.0"):
        ProcessActor().begin(start(version="0.0"), "127.0.0.1")


def test_a_program_that_is_not_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_actor.interpreter, "command", lambda module: ("/nowhere/python",))
    with pytest.raises(PSError, match=r"cannot start worker 0 on .*: No such file"):
        ProcessActor().begin(start(), "127.0.0.1")


@pytest.mark.e2e
def test_a_killed_actor_takes_its_process_with_it_within_seconds(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "train.py")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    try:
        assert Path(f"/proc/{pid}").exists()
        holder.kill()
        holder.wait()
        wait_until(lambda: not _runs(pid))
    finally:
        holder.stdout.close()
        if _runs(pid):
            os.kill(pid, signal.SIGKILL)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

"""Promises of a run: bounded, ended with all it started, its output kept, its victims found."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ps.compare.attack import Attack, Middle
from ps.compare.runner import OUTPUT, Bounds, Run
from ps.compare.watchdog import Watchdog
from ps.errors import ConnectTimeout, PSError
from ps.launch.rundir import announce
from ps.record_files import EVALUATIONS

pytestmark = pytest.mark.e2e


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    with Watchdog(8.0) as watchdog:
        yield watchdog


def begin(code: str, folder: Path, watchdog: Watchdog) -> Run:
    return Run([sys.executable, "-c", code], {**os.environ, "PYTHONUNBUFFERED": "1"}, folder, watchdog)


def bounds(timeout: float = 30.0) -> Bounds:
    return Bounds(timeout, lambda: False)


def quiet(seconds: float) -> None:
    pass


def test_a_run_that_ends_well_has_finished(tmp_path: Path, watchdog: Watchdog) -> None:
    outcome = begin("print('done')", tmp_path, watchdog).finish(bounds(), None, quiet)
    assert (outcome.ended, outcome.status, outcome.why, outcome.tail) == ("finished", 0, "", ("done",))
    assert (tmp_path / OUTPUT).read_text() == "done\n"


def test_a_run_that_fails_says_with_what(tmp_path: Path, watchdog: Watchdog) -> None:
    outcome = begin("import sys; print('why'); sys.exit(4)", tmp_path, watchdog).finish(bounds(), None, quiet)
    assert (outcome.ended, outcome.status, outcome.tail) == ("failed", 4, ("why",))
    assert outcome.why.startswith("exit code 4: ")


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path, watchdog: Watchdog) -> None:
    begun = time.monotonic()
    outcome = begin("import time; time.sleep(60)", tmp_path, watchdog).finish(bounds(0.3), None, quiet)
    assert (outcome.ended, outcome.why) == ("timed out", "still running after 0.3 s, and ended")
    assert time.monotonic() - begun < 10


def test_a_run_ends_when_somebody_wants_to_stop(tmp_path: Path, watchdog: Watchdog) -> None:
    run = begin("import time; time.sleep(60)", tmp_path, watchdog)
    assert run.finish(Bounds(60.0, lambda: True), None, quiet).ended == "interrupted"


def test_a_command_that_is_not_there_is_an_error(tmp_path: Path, watchdog: Watchdog) -> None:
    with pytest.raises(PSError, match="cannot start /gone/python: No such file"):
        Run(["/gone/python"], {}, tmp_path, watchdog)


def test_a_run_whose_process_is_killed_in_its_middle_says_so(tmp_path: Path, watchdog: Watchdog) -> None:
    code = (
        f"import time; open({str(tmp_path / EVALUATIONS)!r}, 'w').write('{{\"t\": 1, \"clock\": 9}}\\n');"
        "print('here'); time.sleep(60)"
    )
    run = begin(code, tmp_path, watchdog)
    attack = Attack((0,), Middle(5, 99.0), tmp_path, lambda: {0: run.pid})
    outcome = run.finish(bounds(), attack, quiet)
    assert (outcome.ended, outcome.status, outcome.killed, outcome.killed_clock) == ("failed", 137, (0,), 9)
    assert outcome.why == "killed by SIGKILL"


def test_workers_are_found_through_the_scheduler_that_the_run_names(tmp_path: Path, watchdog: Watchdog) -> None:
    run = begin("print('scheduler at tcp://a:1', flush=True); import time; time.sleep(60)", tmp_path, watchdog)
    asked: list[str] = []
    seen: list[dict[int, int]] = []

    def fetch(address: str, timeout: float) -> dict[str, object]:
        asked.append(address)
        if len(asked) == 1:
            raise ConnectTimeout("busy")
        workers = [{"rank": 0, "pid": 40, "state": "live"}, {"rank": 1, "pid": 41, "state": "dead"}]
        return {"workers": workers}

    def look() -> bool:
        if "scheduler at" in (tmp_path / OUTPUT).read_text():  # what a script prints is no address
            assert asked or run.pids(fetch) == {}
            announce(tmp_path, "tcp://127.0.0.1:7")
            seen.append(run.pids(fetch))
        return len(seen) >= 2

    assert run.finish(Bounds(30.0, look), None, quiet).ended == "interrupted"
    assert seen[:2] == [{}, {0: 40}]
    assert set(asked) == {"tcp://127.0.0.1:7"}

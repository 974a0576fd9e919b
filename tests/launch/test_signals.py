"""Promises of the launcher about signals: scripts get their time, and what was ignored at the start stays so."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from ps.launch.scope import SIGNALS, signals_into

Start = Callable[..., Any]
SAVES = """
def save(signum, frame):
    time.sleep(3)
    print("saved", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.e2e
@pytest.mark.parametrize(("grace", "saved"), [(30.0, 2), (0.5, 0)])
def test_what_a_script_does_at_sigterm_has_the_time_that_is_set_and_no_more(
    launch: Start, grace: float, saved: int
) -> None:
    run = launch(SAVES, process={"grace": grace})
    for _ in range(2):
        assert "up" in run.process.stdout.readline()
    asked = time.monotonic()
    run.process.terminate()
    assert run.finish(60.0) == 143
    assert run.out.count("saved") == saved
    assert ("waiting for worker 0, worker 1 to end; killed after" in run.err) == bool(saved)
    assert time.monotonic() - asked < 20.0
    run.assert_nothing_left()


@pytest.mark.e2e
def test_a_launcher_that_was_killed_leaves_its_scripts_the_same_time(launch: Start, tmp_path: Any) -> None:
    script = SAVES.replace('print("saved", flush=True)', 'open(sys.argv[1] + os.environ["PS_RANK"], "x")')
    run = launch(script, args=[str(tmp_path / "saved")], process={"grace": 30.0}, FAKE_GRACE="the setting")
    for _ in range(2):
        assert "up" in run.process.stdout.readline()
    run.process.kill()
    run.finish()
    deadline = time.monotonic() + 30.0
    while run.left():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(path.name for path in tmp_path.glob("saved*")) == ["saved0", "saved1"]


@pytest.mark.parametrize("ignored", SIGNALS)
def test_signals_that_were_ignored_at_the_start_stay_ignored(ignored: int) -> None:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}  # a background job ignores SIGINT
    signal.signal(ignored, signal.SIG_IGN)
    try:
        received: list[int] = []
        with signals_into(received):
            assert signal.getsignal(ignored) is signal.SIG_IGN
            for other in set(SIGNALS) - {ignored}:
                signal.raise_signal(other)
        assert set(received) == set(SIGNALS) - {ignored}
        assert signal.getsignal(ignored) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_ctrl_c_while_psctl_is_loaded_is_said_by_its_exit_status() -> None:
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'ps.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from ps.cli import main\n"
        "sys.exit(main(['--version']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")

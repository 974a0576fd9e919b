"""Promises of psctl top: all that matters fits into the window, q ends it, and names move no cursor."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from ps.cli import main
from ps.monitor.job_watcher import JobWatcher
from ps.monitor.top import BLOCKS, picture, spark
from ps.protocol import query
from support.watched import FEDERATED, HOSTILE, job, large, server, worker


def drawn(statuses: list[dict[str, Any]], width: int = 200, height: int | None = None, silence: float = 0.0) -> str:
    """Return what a window shows after these statuses, a second apart."""
    now = [0.0]
    watcher = JobWatcher(lambda: statuses.pop(0), lambda: now[0], lambda: now[0])
    while statuses:
        watcher.look()
        now[0] += 1.0
    assert watcher.seen is not None
    console = Console(file=StringIO(), width=width, color_system="truecolor", force_terminal=True, highlight=False)
    with console.capture() as capture:
        console.print(picture(watcher.seen, watcher.curves(), silence, width, height))
    return capture.get()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_it_shows_members_clocks_waits_speed_bytes_and_loss() -> None:
    rows = [
        worker(0, clock=10 + second, bytes_up=1000 * second, metrics={"loss": 1.0 / (1 + second)})
        for second in range(4)
    ]
    rows[-1] |= {"waiting_for": [3], "waiting_s": 12.0}
    text = plain(
        drawn([job([row], [server(0)], deaths=[{"role": "worker", "rank": 3, "why": "gone"}]) for row in rows])
    )
    assert "sync: running · step 13 of 100 · 1 steps/s · 87 s left" in text and " 13% " in text
    assert "worker 0 has waited 12 s for worker 3, clock 13" in text and "worker 3 died: gone" in text
    assert "1.0 kB/s up" in text and f"{BLOCKS[-1]}" in text
    [row] = [line for line in text.splitlines() if line.strip().startswith("worker 0 ") and "has waited" not in line]
    assert row.split()[:9] == ["worker", "0", "live", "0.2", "13", "0", "64", "0.25", "3.0"]


def test_a_loss_that_is_no_number_and_a_job_without_news_are_told() -> None:
    text = plain(drawn([job([worker(0, metrics={"loss": "nan"})])], silence=7.0))
    assert "no news for 7 s: the scheduler does not answer" in text
    assert next(line for line in text.splitlines() if line.startswith("loss ")).split()[1] == "NaN"
    assert " NaN " in next(line for line in text.splitlines() if line.strip().startswith("worker 0"))


def test_rounds_are_shown_and_nothing_of_a_single_client_where_that_is_private() -> None:
    text = plain(drawn([job([worker(0)], federated=FEDERATED)]))
    assert "fedavg: collect · 3 training · refused: 2 × nan, 1 × late" in text and "client 0" in text and "0.5" in text
    status = job([worker(0, metrics={"loss": 0.777})], federated=FEDERATED)
    status["job"]["secure"] = "pairwise"
    assert "0.777" not in plain(drawn([status]))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_whatever_names_there_are_it_stays_within_the_window(width: int) -> None:
    metrics = dict.fromkeys(HOSTILE, 1.0)
    rows = [worker(rank, host=HOSTILE[rank % len(HOSTILE)], metrics=metrics, why=HOSTILE[2]) for rank in range(50)]
    text = drawn([job(rows, reason=HOSTILE[2], federated={**FEDERATED, "refused": {HOSTILE[2]: 1}})], width, 30)
    assert "\x1b]" not in text
    assert len(text.splitlines()) <= 30
    assert all(len(line) <= width for line in plain(text).splitlines())


def test_of_a_thousand_members_as_many_are_shown_as_fit_and_it_says_how_many_are_not() -> None:
    text = plain(drawn([large(1000)], 120, 40))
    assert len(text.splitlines()) <= 40 and "more members" in text


def test_a_curve_is_drawn_between_its_extremes_and_gaps_are_seen() -> None:
    assert spark([1.0, None, 8.0]) == f"{BLOCKS[0]}·{BLOCKS[-1]}"
    assert spark([]) == spark([None]) == "" and spark([3.0, 3.0]) == BLOCKS[0] * 2
    assert spark([-1.7e308, 1.7e308]) == f"{BLOCKS[0]}{BLOCKS[-1]}" and len(spark([1.0, 2.0] * 100, 10)) == 10


def test_without_a_terminal_it_prints_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(query, "fetch_status", lambda address, timeout, keys: job([worker(0)]))
    assert main(["top", "--scheduler", "10.0.0.1"]) == 0
    page = capsys.readouterr().out
    assert "sync: running" in page and "\x1b" not in page


WATCHES = """
from ps.protocol import query
from support.watched import job, worker
query.fetch_status = lambda address, timeout, keys: job([worker(0)])
from ps.cli import main
raise SystemExit(main(["top"]))
"""


def test_on_a_terminal_it_draws_until_q_is_pressed_and_leaves_the_terminal_as_it_was() -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": "tests", "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    process = subprocess.Popen([sys.executable, "-c", WATCHES], stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    text, deadline, asked = b"", time.monotonic() + 30, False
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 0.2)
        try:
            text += os.read(ours, 65536) if ready else b""
        except OSError:
            break
        if b"worker 0" in text and not asked:
            os.write(ours, b"q")
            asked = True
        if process.poll() is not None and not ready:
            break
    os.close(ours)
    assert process.wait(10) == 0 and asked
    assert b"\x1b[?1049h" in text and b"\x1b[?1049l" in text

"""Promises of a series of attacks: it goes through all there is, past failures and hangs, and ends in time."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from support.chaos_series import attacks, series

FAKE = """
import sys, time
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("begun", given["--seed"], flush=True)
time.sleep(0.3)
if given["--seed"] == "8": sys.exit("FAILED with seed 8")
if given["--seed"] == "9": time.sleep(60)
print("all agree")
"""


def test_every_mode_meets_every_transport_that_it_can_have() -> None:
    modes, transports = ["sync", "federated"], ["shm", "tcp"]
    four = list(itertools.islice(attacks(modes, transports), 4))
    assert four == [("sync", "shm"), ("sync", "tcp"), ("federated", "tcp"), ("sync", "shm")]


def test_a_series_goes_on_after_a_failure_and_a_hang_keeps_what_they_printed_and_counts_them(tmp_path: Path) -> None:
    said: list[str] = []
    begun = time.monotonic()
    failed = series(
        [sys.executable, "-c", FAKE],
        attacks(["sync"], ["tcp"]),
        7,
        0.1,
        0.0,
        tmp_path,
        said.append,
        slack=2.0,
    )
    assert failed == 2
    assert said[0] == "sync, tcp, seed 7: all agree"
    assert said[1] == "sync, tcp, seed 8: FAILED, exit code 1"
    assert said[2].startswith("sync, tcp, seed 9: HUNG after ")
    assert said[3] == "sync, tcp, seed 10: all agree"
    assert said[-1].endswith(f"attacks, 2 failed, see {tmp_path}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sync-tcp-8.txt", "sync-tcp-9.txt"]
    kept = (tmp_path / "sync-tcp-9.txt").read_text()
    assert "--seed 9 --minutes 0\nbegun 9\n" in kept
    assert time.monotonic() - begun < 30

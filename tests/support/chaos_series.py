"""A series of attacks for ``scripts/chaos``: seed after seed, through modes and transports, for a given time."""

from __future__ import annotations

import itertools
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

SLACK = 600.0
"""Seconds that a run may take beyond its attack, for its start, its end and its waits, before it counts as hung."""


def attacks(modes: Sequence[str], transports: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Return every mode with every transport in turns, for ever; a federated job has none in shared memory."""
    possible = [pair for pair in itertools.product(transports, modes) if pair != ("shm", "federated")]
    return ((mode, transport) for transport, mode in itertools.cycle(possible))


def series(
    command: Sequence[str],
    pairs: Iterator[tuple[str, str]],
    seed: int,
    minutes: float,
    each: float,
    folder: Path,
    say: Callable[[str], None],
    slack: float = SLACK,
) -> int:
    """Run ``command`` with one pair and seed after the other, each for ``each`` minutes, until ``minutes`` are over.

    Says how each run ended, keeps in ``folder`` what those printed that failed, and goes on. Returns how many failed.
    """
    end, failed = time.monotonic() + 60 * minutes, 0
    for count, (mode, transport) in enumerate(pairs):
        if time.monotonic() >= end:
            say(f"{count} attacks, {failed} failed{f', see {folder}' if failed else ''}")
            break
        options = ["--mode", mode, "--transport", transport, "--seed", str(seed + count), "--minutes", f"{each:g}"]
        begun = time.monotonic()
        code, output = _run([*command, *options], 60 * each + slack)
        took = time.monotonic() - begun
        last = (output.strip().splitlines() or ["no output"])[-1]
        how = last if code == 0 else f"HUNG after {took:.0f} s" if code is None else f"FAILED, exit code {code}"
        say(f"{mode}, {transport}, seed {seed + count}: {how}")
        if code != 0:
            failed += 1
            kept = folder / f"{mode}-{transport}-{seed + count}.txt"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(f"{shlex.join([*command, *options])}\n{output}")
    return failed


def _run(command: Sequence[str], timeout: float) -> tuple[int | None, str]:
    """Return a command's exit code, None if it had to be ended, and what it printed."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        try:
            output, _ = process.communicate(timeout=timeout)
            return process.returncode, output
        except BaseException as error:  # so that it ends what it has started, also when this process is to end
            process.send_signal(signal.SIGTERM)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
        try:
            output, _ = process.communicate(timeout=60.0)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        return None, output

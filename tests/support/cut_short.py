"""Cut short: runs that are killed as a whole at random moments, again and again, until one comes to its end."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import time
from pathlib import Path

from ps.checkpoint.lives import Lives
from ps.checkpoint.place import place
from support.cluster import PSCTL, SCRIPTS, Process, clean_environment
from support.fork_server import family

SCRIPT = str(SCRIPTS / "resumed.py")
MODES: tuple[tuple[str, ...], ...] = (
    ("--optimizer", "adam:lr=0.01", "--schedule", "cosine:steps=40,warmup=5", "--clip-norm", "1"),
    ("--optimizer", "sgd:lr=0.05", "--compress", "topk:0.05", "--clip-norm", "1"),
    ("--optimizer", "momentum:lr=0.01", "--compress", "int8", "--overlap"),
    ("--optimizer", "momentum:lr=0.01", "--compress", "powersgd:2"),
)
MOST_LIVES = 8


def start(folder: Path, flags: tuple[str, ...], servers: int, seed: int) -> Process:
    command = [*PSCTL, "run", "-s", servers, "-w", 2, "--chunk-size", 4096, "--seed", seed, "--grace", 5, *flags]
    saving = ["--checkpoint-dir", folder, "--checkpoint-every", 3]
    words = [*map(str, [*command, *saving, SCRIPT, "--nap", "0.05", "--epochs", 5])]
    return Process(f"life of {folder.name}", words, clean_environment(), forked=True)


def kill_all(process: Process) -> None:
    """Kill a launcher and everything that it has started, at once."""
    victims = family(process.pid)
    assert victims, process.text
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(20)


def whole(folder: Path) -> list[str]:
    """Return the names of the checkpoints that are whole by now: a manifest is there before all of it is written."""
    return sorted(manifest.folder for manifest in Lives(place(str(folder)), say=lambda _: None).manifests())


def await_whole(folder: Path, count: int, process: Process) -> None:
    """Wait until there are so many checkpoints."""
    deadline = time.monotonic() + 40
    while len(whole(folder)) < count:
        assert process.code is None and time.monotonic() < deadline, process.text
        time.sleep(0.02)


def digests(text: str) -> set[str]:
    return set(re.findall(r"END \d \d+ (\w+)", text))


def attack(seed: int, mode: int, folder: Path) -> tuple[int, str]:
    """Run a job whose lives end at random moments; return how many it had, and what is wrong, or nothing."""
    draw, flags = random.Random(seed), MODES[mode % len(MODES)]
    wanted = start(folder / "undisturbed", flags, 2, seed)
    if wanted.wait(90) != 0:
        return 0, wanted.text
    for life in range(1, MOST_LIVES + 1):
        begun = bool(whole(folder / "kept"))  # it is cut as the first checkpoint is
        run = start(folder / "kept", flags, draw.choice((1, 2, 3)) if begun else 2, seed)
        if life < MOST_LIVES:
            with contextlib.suppress(AssertionError):
                run.wait(draw.uniform(0.3, 1.5))
        if run.code is None and life < MOST_LIVES:
            victims = list(family(run.pid))
            draw.shuffle(victims)
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            run.wait(20)
            continue
        code = run.wait(90)
        if "has ended" in run.text:  # it was killed between its end and its exit
            return life, ""
        if code != 0:
            return life, run.text
        return life, "" if digests(run.text) == digests(wanted.text) else f"other bits: {wanted.text}\n{run.text}"
    raise AssertionError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    wrong = lives = 0
    began = time.monotonic()
    for seed in range(given.seed, given.seed + given.jobs):
        with tempfile.TemporaryDirectory(prefix="cut-short-") as folder:
            count, trouble = attack(seed, seed, Path(folder))
        lives += count
        wrong += bool(trouble)
        print(f"seed {seed}: {count} lives, {trouble or 'the bits of an undisturbed run'}", flush=True)
    print(f"{given.jobs} jobs, {lives} lives, {wrong} wrong, {time.monotonic() - began:.0f} s")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())

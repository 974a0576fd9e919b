"""What a child of the comparison runs: one rank or one server of one case.

A rank does one step and checks the weights, says "ready", then blocks on its input. "STEPS WARM" makes it do WARM steps
untimed and STEPS timed; it answers with when it began and ended, on a clock that all processes share.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable

import numpy as np

from ps.cli.ready import READY, watch_launcher
from ps.descriptors import take_descriptor
from race.case import Peer, Rank, Setup

SPEC = "BENCH_SPEC"


def check(rank: Rank, setup: Setup) -> None:
    """Do the first step. Raises ValueError when the weights are not what they must be after it."""
    rank.steps(1)
    weights = rank.weights() if setup.checked else None
    if weights is None:
        return
    if weights.shape != (setup.size,) or not np.allclose(weights, setup.after_one_step, rtol=1e-6):
        raise ValueError(f"after one step the weights are {weights}, not {setup.size} times {setup.after_one_step}")


def obey(rank: Rank, answer: Callable[[str], None]) -> None:
    """Step as told until there is nobody left to tell."""
    while line := sys.stdin.readline():
        steps, warm = map(int, line.split())
        rank.steps(warm)
        begin = time.monotonic()
        rank.steps(steps)
        answer(f"{begin!r} {time.monotonic()!r}")


def main() -> int:
    """Be what the specification in the environment says."""
    watch_launcher()
    fd = take_descriptor(READY)
    assert fd is not None
    spec = json.loads(os.environ.pop(SPEC))
    setup, options = Setup(**spec["setup"]), spec["options"]

    def answer(line: str) -> None:
        os.write(fd, line.encode() + b"\n")

    try:
        peer: Peer = importlib.import_module(spec["module"])
        if spec["role"] == "server":
            peer.serve(setup, options, spec["index"], answer)
            return 0
        rank = peer.join(setup, options, spec["index"], spec["meeting"])
        check(rank, setup)
        answer("ready")
        obey(rank, answer)
        rank.close()
    except Exception as error:
        traceback.print_exc()
        words = " ".join(traceback.format_exception_only(error)[-1].split())
        print(words, file=sys.stderr, flush=True)  # the last line, for the report
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

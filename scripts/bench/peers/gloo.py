"""Gloo by torch.distributed: all-reduce the gradients of all ranks, then each updates its own replica in place."""

from __future__ import annotations

import datetime
import os
from typing import Any

import numpy as np
from race.case import LR, Case, Launch, Options, Setup

from peers import needs

MODULE = __name__
LACKS = "no server: every worker keeps and updates a replica; the gradient is overwritten by the sum"
PIECE = 20_000_000
"""Bytes per all-reduce. Measured with 2 and 4 ranks, 40 MB: one thread is best with 20 MB, more threads with 40."""


def absent(options: Options) -> str:
    return needs("torch")


def cases(setup: Setup) -> list[Case]:
    if setup.workers == 1:
        return []  # one rank has nobody to exchange with
    update = "then w.add_(g, alpha=-lr/N)"
    pieces = f"all_reduce(SUM) in pieces of {PIECE / 1e6:g} MB, asynchronous, each updated once it is reduced"
    return [
        Case(
            "gloo, 1 thread",
            MODULE,
            "peer",
            f"{pieces}, {update}; torch.set_num_threads(1)",
            LACKS,
            {"threads": 1, "piece": PIECE},
        ),
        Case(
            "gloo, default threads",
            MODULE,
            "peer",
            f"one all_reduce(SUM), {update}; as many threads as torch chooses",
            LACKS,
            {"threads": 0, "piece": setup.nbytes},
        ),
    ]


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return str(launch.directory / "rendezvous")


def join_group(setup: Setup, rank: int, meeting: str) -> Any:
    """Join the process group over loopback; return ``torch``."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    import torch.distributed

    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=setup.workers,
        timeout=datetime.timedelta(seconds=60),
    )
    return torch


class Worker:
    """One rank."""

    def __init__(self, setup: Setup, options: Options, rank: int, meeting: str) -> None:
        torch = join_group(setup, rank, meeting)
        if options["threads"]:
            torch.set_num_threads(options["threads"])
        self._reduce = torch.distributed.all_reduce
        self._torch = torch
        self._factor = -LR / setup.workers
        self._weights = torch.from_numpy(setup.weights())
        self._gradient = torch.from_numpy(setup.gradient(rank))
        size = int(options["piece"]) // 4
        self._pieces = list(zip(self._weights.split(size), self._gradient.split(size), strict=True))
        self._first = True

    def steps(self, count: int) -> None:
        for _ in range(count):
            works = [self._reduce(g, async_op=True) for _, g in self._pieces]
            for work, (w, g) in zip(works, self._pieces, strict=True):
                work.wait()
                w.add_(g, alpha=self._factor)
        if self._first:  # the next steps would sum up sums, and overflow
            self._gradient.zero_()
            self._first = False

    def weights(self) -> np.ndarray:
        found: np.ndarray = self._weights.numpy()
        return found

    def close(self) -> None:
        self._torch.distributed.destroy_process_group()


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Worker:
    return Worker(setup, options, rank, meeting)

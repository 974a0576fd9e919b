"""Statuses of jobs as a scheduler tells them, for what shows them."""

from __future__ import annotations

import random
from typing import Any

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\x1b]0;pwned\x07",
    'quote" and \\ and \n newline',
    "x" * 5000,
    "{{7*7}}",
    "‮evil",
)
"""Names that a job may bring."""


def worker(rank: int, **more: Any) -> dict[str, Any]:
    """Return a worker's row."""
    row = {"id": 100 + rank, "rank": rank, "state": "live", "host": "node", "pid": 1000 + rank, "last_seen_s": 0.2}
    row |= {"clock": 10, "lag": 0, "steps": 10, "samples": 320, "samples_per_s": 64.0, "max_staleness": 1}
    row |= {"bytes_up": 4000, "bytes_down": 8000, "wait_s": 1.5, "planned_steps": 100, "metrics": {"loss": 0.5}}
    return {**row, **more}


def server(rank: int, **more: Any) -> dict[str, Any]:
    """Return a server's row."""
    row = {"id": rank, "rank": rank, "state": "live", "host": "node", "pid": 500 + rank, "last_seen_s": 0.1}
    return {**row, "clock": 10, "bytes": 1000, "addresses": ["tcp://node:1"], **more}


def job(workers: list[dict[str, Any]], servers: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """Return a status."""
    return {
        "job": {"mode": "sync", "workers": len(workers), "secure": "none", "dp": None},
        "epoch": 3,
        "phase": "running",
        "reason": "",
        "uptime_s": 61.5,
        "scheduler": {"address": "tcp://10.0.0.1:7070", "rejected": {}},
        "servers": [server(0)] if servers is None else servers,
        "workers": workers,
        "deaths": [],
        "waits": [],
        **more,
    }


FEDERATED: dict[str, Any] = {
    "algorithm": "fedavg",
    "phase": "collect",
    "round": 3,
    "rounds": 10,
    "attempt": 1,
    "goal": 4,
    "accepted": 2,
    "active": 3,
    "refused": {"nan": 2, "late": 1},
    "capped": 1,
    "abandoned": 0,
    "slow": [4],
    "history": [
        {
            "round": number,
            "seconds": 0.5 + number,
            "selected": 5,
            "accepted": 4,
            "spare": 1,
            "refused": {"nan": number},
            "steps": 48,
            "examples": 1438.0,
            "metrics": {
                "loss": {"mean": 0.5, "min": 0.1, "p10": 0.2, "p50": 0.4, "p90": 0.9, "max": 1.5, "n": 4},
            },
        }
        for number in range(3)
    ],
}


def large(members: int, seed: int = 0) -> dict[str, Any]:
    """Return the status of a job with so many workers, each with all that it may say."""
    chance = random.Random(seed)
    metrics = {f"metric {number}": chance.random() for number in range(20)}
    workers = [
        worker(
            rank,
            clock=10 + chance.randrange(5),
            lag=chance.randrange(5),
            metrics={"loss": chance.random(), **metrics},
            ranges={"loss": [0.1, 0.9, 0]},
            waiting_for=[chance.randrange(members)],
            waiting_s=2.0,
            waits=[{"what": "clock 11", "for": "server 0", "seconds": 2.0}],
        )
        for rank in range(members)
    ]
    totals = {"servers": {"live": 2, "shown": 2}, "workers": {"live": members, "shown": members}}
    return job(workers, [server(0), server(1)], totals=totals)

"""Waits: what this worker waits for, as its report has it: for whom, for which clock and chunk, since when."""

from __future__ import annotations

import time
from typing import Any

from ps.protocol.membership import peers
from ps.protocol.messages import View
from ps.worker.exchange import Exchange

PeerWait = tuple[int, float, str]
"""The rank of a worker, since when it is waited for (monotonic), and for what."""
SHOWN = 1.0
"""Seconds after which a wait is told."""


def shown(
    exchange: Exchange | None,
    peer: PeerWait | None,
    asking: tuple[str, float] | None,
    paused: float | None,
    data: float | None = None,
) -> dict[str, Any]:
    """Return the columns of a report that are about waits.

    ``asking``: what the scheduler is asked, and since when; ``paused``: since when this worker has nothing to do;
    ``data``: since when it waits for more batches. Called on another thread than the one that waits.
    """
    now, found, ranks, since = time.monotonic(), list[tuple[float, str, str]](), tuple[int, ...](), None
    if exchange is not None and (since := exchange.since) is not None:
        ranks, batch = exchange.waiting_for, exchange.batch
        missing = batch.missing.copy() if batch is not None else set()
        what = batch.label if batch is not None else ""
        what += f", chunk {min(missing)}" if missing else ""
        what += f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        found.append((since, exchange.awaited or "the servers", what))
    if peer is not None:
        ranks, since = (peer[0],), peer[1]
        found.append((peer[1], f"worker {peer[0]}", peer[2]))
    if asking is not None:
        found.append((asking[1], "the scheduler", asking[0]))
    if paused is not None:
        found.append((paused, "the scheduler", "a task, for which it is to be asked again"))
    if data is not None:
        found.append((data, "the scheduler", "the next examples, or others to have used theirs"))
    waits = [
        {"for": whom, "what": what, "seconds": round(now - began, 1)}
        for began, whom, what in found
        if now - began >= SHOWN
    ]
    waited = round(now - since, 1) if since is not None else 0.0
    return {"waiting_for": list(ranks), "waiting_s": waited, "waits": waits}


def at_start(view: View | None, seconds: float) -> str:
    """Return what is waited for at the start."""
    if view is None:
        return f"waiting {seconds:.0f} s for the scheduler"
    here = [peer.role for peer in peers(view)]
    servers, workers = here.count("server"), here.count("worker")
    of = {name: f" of {view.job[name]}" if name in view.job else "" for name in ("servers", "workers")}
    return (
        f"waiting {seconds:.0f} s for members: {servers}{of['servers']} servers and "
        f"{workers}{of['workers']} workers are here"
    )

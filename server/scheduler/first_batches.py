"""FirstBatches: whether two workers began with the same batch, as where each believes to be alone."""

from __future__ import annotations

import logging

from ps.server.scheduler.member_record import DEAD, MemberRecord

MOST = 1000
"""Workers that are compared, at most."""

log = logging.getLogger("ps.scheduler")


class FirstBatches:
    """The digests of workers' first batches, as they report them; warns once where two are the same."""

    def __init__(self) -> None:
        self._workers: dict[str, MemberRecord] = {}
        """By the digest, the latest that reported it; only of the first MOST."""
        self._told = False

    def look(self, worker: MemberRecord | None) -> None:
        """Take what a worker has reported of its first batch."""
        digest = worker.report.get("first_batch") if worker is not None and worker.role == "worker" else None
        if self._told or worker is None or not digest:
            return
        first = self._workers.get(digest)
        if len(self._workers) < MOST and (first is None or first.state == DEAD):
            self._workers[digest] = worker
        if first is not None and first.rank != worker.rank:  # who takes a dead one's place begins as that had
            self._told = True
            log.warning(
                "worker %d and worker %d began with the SAME BATCH: they train on the same data, and more workers "
                "bring nothing. Give each its share: kv.batches, ps.torch.sampler, ps.torch.stream, ps.torch.prepare",
                first.rank,
                worker.rank,
            )

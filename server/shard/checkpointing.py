"""ShardCheckpointing: a server's share of its job's checkpoints: what it begins with, and what it writes."""

from __future__ import annotations

import math
import time

from ps.checkpoint.manifest import FOLDER, Manifest, split_name
from ps.checkpoint.place import CheckpointPlace, place
from ps.checkpoint.stored_model import StoredModel
from ps.config.job import JobConfig
from ps.errors import CheckpointError
from ps.protocol.messages import CheckpointOrder
from ps.server.send import Send
from ps.server.shard.copy_room import CopyRoom
from ps.server.shard.cuts import Cuts
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.part_writer import PartWriter
from ps.trace import Trace

BUSY = 1.0
"""Seconds for which a server counts as busy that had something to do."""


class ShardCheckpointing:
    """Nothing at all in a job without a folder for checkpoints, and in a federated one, which keeps its rounds."""

    def __init__(self) -> None:
        self._cuts: Cuts | None = None
        self._prepares = False
        """Whether memory is to be taken as soon as there is a model: the job makes checkpoints by itself."""
        self._worked = -math.inf
        """When this server last had something else to do."""

    def shard(self, rank: int, member: int, job_id: int, job: JobConfig, trace: Trace, threads: int) -> GradientShard:
        """Return the shard of a job, which goes on from its checkpoint if it has one. Raises CheckpointError."""
        shard = GradientShard(rank, trace, threads, stored_model(job))
        self.save(shard, rank, member, job_id, job)
        return shard

    def save(self, shard: GradientShard, rank: int, member: int, job_id: int, job: JobConfig) -> None:
        """Write this shard's part of checkpoints from now on, if the job has any."""
        if job.checkpoint_dir is not None:
            folder, about = place(job.checkpoint_dir), f"{job_id:x}"
            self._cuts = Cuts(
                shard,
                member,
                lambda name, layout, copies: PartWriter(folder, _own(name), rank, layout, copies, about, self._is_busy),
                CopyRoom,
            )
            self._prepares = job.checkpoint_every is not None

    @property
    def patience(self) -> float:
        """Seconds after which there is something to be done, if no message comes."""
        return self._cuts.patience if self._cuts is not None else math.inf

    @property
    def awaited(self) -> bool:
        """Whether there is a model of which there may yet be a checkpoint."""
        return self._cuts is not None and self._cuts.is_filled

    @property
    def is_under_way(self) -> bool:
        """Whether one is being made."""
        return self._cuts is not None and self._cuts.is_under_way

    @property
    def is_last(self) -> bool:
        """Whether no other one comes."""
        return self._cuts is not None and self._cuts.is_last

    @property
    def whole(self) -> int:
        """The number of the last checkpoint that was said to be whole."""
        return self._cuts.whole if self._cuts is not None else 0

    def _is_busy(self) -> bool:
        return time.monotonic() - self._worked < BUSY

    def order(self, order: CheckpointOrder) -> list[Send]:
        """Do what the scheduler wants."""
        return [] if self._cuts is None else [self._cuts.order(order)]

    def turn(self, *, idle: bool) -> list[Send]:
        """Go on with a checkpoint; ``idle``: there is nothing else to do. Return what the scheduler is to hear."""
        if self._cuts is None:
            return []
        if self._prepares and self._cuts.is_filled:
            self._prepares = False
            self._cuts.prepare()
        if self._cuts.patience == math.inf:
            return []
        if idle:
            self._cuts.turn()
        else:
            self._worked = time.monotonic()
            self._cuts.share_out()
        return self._cuts.news()


def _own(name: str) -> str:
    """Return a folder's name if it is that of a checkpoint. Raises CheckpointError."""
    if FOLDER.fullmatch(name) is None:
        raise CheckpointError(f"{name!r:.60} is no folder of a checkpoint")
    return name


def stored_model(job: JobConfig) -> StoredModel | None:
    """Return what a job goes on from, if it does. Raises CheckpointError."""
    if job.resume is None:
        return None
    found, folder = resumed(job.resume)
    try:
        return StoredModel(found, Manifest.read(found, folder))
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {job.resume} to go on from") from None


def resumed(resume: str) -> tuple[CheckpointPlace, str]:
    """Return the place of a checkpoint that is gone on from, and its folder there."""
    folder, name = split_name(resume)
    return place(folder), _own(name)

"""CheckpointKeeper: the disk beside ``Checkpoints``: writes manifests, on a thread of its own, and removes old ones."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ps.checkpoint.claim import Claim, claim
from ps.checkpoint.lives import Life, Lives
from ps.checkpoint.manifest import Manifest, SavedChunk, leaving_folder, split_name
from ps.checkpoint.parts import WrittenPart, part_of, remove_part, take_over
from ps.checkpoint.place import place
from ps.checkpoint.tensor_file import TensorFile
from ps.config.cut import chunk_bytes_of
from ps.config.job import JobConfig
from ps.config.mode import FEDERATED
from ps.errors import CheckpointError, ConfigError, JobEnded, PSError
from ps.protocol.layout import Layout
from ps.server.scheduler.checkpoint_cut import Seal
from ps.server.scheduler.checkpoints import Checkpoints
from ps.server.scheduler.leases import Leases
from ps.server.scheduler.leasing import DataCut

log = logging.getLogger("ps.scheduler")

VARIABLE = "PS_LIFE"
"""The number of the life that a launcher has taken the folder for."""


class CheckpointKeeper:
    """A life of a folder of checkpoints, and what its job is known by."""

    def __init__(self, directory: str, life: Life) -> None:
        self._lives = Lives(place(directory))
        self.life = life
        self._thread: threading.Thread | None = None
        self._done: tuple[int, str] | None = None
        self.is_fenced = False
        """Whether a later run has the folder."""
        self._parent = life.parent

    def turn(
        self,
        checkpoints: Checkpoints,
        job: JobConfig,
        layout: Layout,
        leases: Leases | None,
        data: Callable[[], Mapping[int, Mapping[str, Any]]],
    ) -> tuple[int, str] | None:
        """Begin to write what is to be written; return the number of what has been since, and what went wrong.

        ``data`` returns by what each worker's data are known, by rank.
        """
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
            done, self._done = self._done, None
            return done
        if self._thread is None and checkpoints.seal is not None:
            seal = checkpoints.seal
            work = seal, job, layout, DataCut(leases, seal.workers), data()
            self._thread = threading.Thread(target=self._run, args=work, name="ps-manifest", daemon=True)
            self._thread.start()
        return None

    def _run(self, seal: Seal, *about: Any) -> None:
        why = ""
        try:
            self._write(seal, *about)
        except PSError as error:
            why = str(error)
            with contextlib.suppress(PSError):
                latest = self._lives.latest()
                self.is_fenced = latest is not None and latest.number > self.life.number
        except Exception as error:  # a bug must not look like a disk that takes for ever
            log.exception("a manifest was not written")
            why = repr(error)
        self._done = seal.number, why

    def _write(
        self, seal: Seal, job: JobConfig, layout: Layout, cut: DataCut, data: Mapping[int, Mapping[str, Any]]
    ) -> None:
        lives, folder, names = self._lives, seal.folder, []
        lives.demand_latest(self.life)
        if not seal.only_end:
            chunks, files = list[SavedChunk](), dict[str, TensorFile]()
            workers = dict[int, Mapping[str, Any]]()
            for rank in seal.servers:
                names.append(part_of("server", rank))
                part = WrittenPart.read(lives.place, folder, names[-1])
                chunks += part.chunks
                files.update({} if part.tensors is None else {part.file: part.tensors})
            if lacking := {chunk.index for chunk in layout.cut(job)} - {chunk.index for chunk in chunks}:
                raise CheckpointError(f"no server has written chunk {min(lacking)}")
            for rank, about in seal.workers.items():
                workers[rank] = {name: value for name, value in about.items() if name != "steps"}
                if about.get("file"):
                    names.append(part_of("worker", rank))
                    part = WrittenPart.read(lives.place, folder, names[-1])
                    files.update({} if part.tensors is None else {part.file: part.tensors})
                    workers[rank] = {**workers[rank], "file": part.file, "values": dict(part.about)}
            for rank in range(job.workers):
                is_lacking = "member" not in workers.get(rank, {}) or workers[rank].get("lost")
                if is_lacking and (left := self._left(seal, rank, files)):
                    workers |= left
                    names.append(part_of("worker", rank))
            for rank, known in data.items():
                workers[rank] = {**workers.get(rank, {}), "data": dict(known)}
            identity = dict(self.life.identity)
            about_job = {**job.to_dict(), "chunk_size": chunk_bytes_of(job, layout.nbytes)}
            manifest = Manifest(
                folder,
                seal.step,
                self.life.number,
                self._parent,
                time.time(),
                identity,
                about_job,
                layout,
                tuple(chunks),
                files,
                workers,
                seal.ended,
                self.life.run,
            )
            counted = manifest.counted  # a pipeline goes on with the step that one of its workers lacks
            manifest = replace(manifest, data=cut.data(lambda rank: counted(*job.together_with(rank))))
            lives.demand_latest(self.life)
            manifest.write(lives.place)
            self._parent = folder
        if seal.ended:
            lives.end(self.life, seal.step, folder)
        with contextlib.suppress(PSError):  # what is whole is whole
            for name in names:
                lives.place.remove(f"{folder}/{name}.json")
            if not seal.only_end:
                lives.thin(self.life, job.keep)
            lives.sweep(self.life, folder, last=seal.ended)

    def _left(self, seal: Seal, rank: int, files: dict[str, TensorFile]) -> dict[int, Mapping[str, Any]]:
        """Return what the manifest has of a worker that has left in good order at the clock of this checkpoint."""
        place, name, left = self._lives.place, part_of("worker", rank), leaving_folder(seal.step, self.life.number)
        if f"{name}.json" not in place.names(left):
            return {}
        try:
            part = take_over(place, left, seal.folder, name)
        except CheckpointError as error:
            log.warning("what worker %d kept of its own is not in the last checkpoint: %s", rank, error)
            remove_part(place, seal.folder, name)
            return {rank: {"lost": str(error)}}
        files.update({} if part.tensors is None else {part.file: part.tensors})
        return {rank: {"file": part.file, "values": dict(part.about)}}


def taken(
    explicit: dict[str, Any], life: int, say: Callable[[str], None]
) -> tuple[CheckpointKeeper, tuple[int, str]] | None:
    """Take the folder that a job's settings name, and write into them what is resumed.

    ``life``: the one that a restarted scheduler's job is. Return who keeps its checkpoints, with step and folder of
    what is gone on from; None where there is no folder.

    Raises JobEnded where nothing is left to do, ConfigError and CheckpointError.
    """
    directory, resume = explicit.get("checkpoint_dir"), explicit.get("resume")
    if explicit.get("mode") in FEDERATED:  # it keeps each round
        return None
    if directory is None and resume is None:
        if explicit.get("checkpoint_every") is not None:
            raise ConfigError("checkpoint_every needs a folder: give --checkpoint-dir too")
        return None
    given = os.environ.pop(VARIABLE, "")
    number = life or (int(given) if given.isdecimal() else 0)
    if number and directory is not None:  # whoever started this process has looked after all else
        lives = Lives(place(directory), say)
        mine = lives.life(number)
        last = next((each for each in lives.line(mine) if each.life == number), None) or begun_with(resume)
        return CheckpointKeeper(directory, mine), (last.step, last.folder) if last else (-1, "")
    found: Claim = claim(directory, resume, {}, say)
    if text := found.describe():
        say(text)
    if found.life is None:
        raise JobEnded(found.describe())
    explicit.update(found.settings())
    began = found.manifest
    return CheckpointKeeper(found.directory, found.life), (began.step, began.folder) if began else (-1, "")


def begun_with(resume: str | None) -> Manifest | None:
    """Return the checkpoint that a job has gone on from, where it is there still. Raises CheckpointError.

    A scheduler that is started again may find that it was removed, since newer ones are whole by then.
    """
    if resume is None:
        return None
    folder, name = split_name(resume)
    try:
        return Manifest.read(place(folder), name)
    except FileNotFoundError:
        return None

"""OwnState: what a worker keeps that no server has, for a checkpoint and from one: what compression owes, tensors that
stay with the worker, and what its script says with ``kv.keep``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.checkpoint.chunk_snapshot import entry_of, name_of
from ps.checkpoint.lives import Lives
from ps.checkpoint.manifest import FOLDER, Manifest, leaving_folder, split_name
from ps.checkpoint.parts import BESIDE, part_of, remove_part, write_arrays
from ps.checkpoint.place import CheckpointPlace, place
from ps.checkpoint.plain import packed, unpacked
from ps.checkpoint.stored_model import StoredModel
from ps.config.job import JobConfig
from ps.errors import CheckpointError, PSError, UsageError
from ps.protocol.layout import Chunk
from ps.worker.compression import Compression
from ps.worker.cut_plan import CutPlan, Write
from ps.worker.parameters import Parameters
from ps.xp import Device, HostArray

log = logging.getLogger("ps.worker")

CODEC, KEPT = "codec", "kept"
MOST_NAME = 200


class OwnState:
    """One worker's. Without a folder for checkpoints, and without a cluster, it keeps nothing."""

    def __init__(self, job: JobConfig, rank: int, plan: CutPlan | None, device: Device) -> None:
        self._job = job
        self._rank = rank
        self._plan = plan
        self._device = device
        self._place: CheckpointPlace | None = None
        self._keepers: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {}
        self._model: Parameters | None = None
        self._compression: Callable[[], tuple[Compression, tuple[Chunk, ...]] | None] = lambda: None
        self._found: dict[str, Any] = {}
        """What the checkpoint has for the script, that it has not asked for yet."""
        self._trouble: PSError | None = None
        self._rng: tuple[int, np.random.Generator] | None = None
        if plan is not None and job.checkpoint_dir is not None and not job.federated:
            self._place = place(job.checkpoint_dir)  # now: a script may go to another folder
            plan.capture, plan.is_empty, plan.is_exact = self._capture, self._is_empty, job.lockstep
            part, where = part_of("worker", rank), self._place
            plan.data.wanted = True
            plan.discard = lambda folder: remove_part(where, folder, part)

    # For scripts

    def keep(self, name: str, save: Callable[[], Any], load: Callable[[Any], None]) -> None:
        """Have something of the script's own be part of each checkpoint.

        ``save()`` returns what is to be kept, as it is after the step that was just done: numbers, texts, bytes, truth
        values, None, NumPy arrays, and lists and dicts of these. In a job that goes on from a checkpoint
        ``load(value)`` is called with it: at once, or, before ``kv.init``, there. Each worker keeps its own, by its
        rank. What only follows from ``kv.clock`` need not be kept; random numbers are best drawn from ``kv.rng``.
        Raises UsageError for a name that is taken, CheckpointError when what was kept cannot be read.
        """
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or name in self._keepers:
            raise UsageError(f"kv.keep takes a name of its own, of {MOST_NAME} characters at most, not {name!r:.60}")
        if not callable(save) or not callable(load):
            raise UsageError("kv.keep takes two functions: save() returns what is kept, load(value) takes it back")
        self._keepers[name] = save, load
        if self._model is not None:
            self._give(name)

    def rng(self, clock: int) -> np.random.Generator:
        """Return random numbers of a worker's clock: the same in every run, and after it is resumed."""
        if self._rng is None or self._rng[0] != clock:
            self._rng = clock, np.random.default_rng((self._job.seed, self._rank, clock))
        return self._rng[1]

    # The beginning

    def begin(
        self,
        model: Parameters,
        clock: int,
        compression: Callable[[], tuple[Compression, tuple[Chunk, ...]] | None],
    ) -> None:
        """The model has its first values, or those of a checkpoint: then this worker goes on as it was.

        Raises CheckpointError when what it kept cannot be read.
        """
        self._model, self._compression = model, compression
        if self._plan is not None:
            self._plan.go_on(clock)
        if self._job.resume is None or self._job.federated:
            return
        try:
            arrays, values = self._read(clock)
        except PSError as error:
            if not self._is_empty():
                raise
            self._trouble = error
            return
        self._restore(arrays)
        self._found = {name: unpacked(value, arrays) for name, value in values.items()}
        for name in list(self._keepers):
            self._give(name)

    def _read(self, clock: int) -> tuple[Mapping[str, HostArray], Mapping[str, Any]]:
        """Return the arrays and values that this worker has kept; nothing where it begins elsewhere."""
        assert self._job.resume is not None
        folder, name = split_name(self._job.resume)
        if FOLDER.fullmatch(name) is None:
            raise CheckpointError(f"{self._job.resume!r:.100} is no checkpoint")
        where = place(folder)
        try:
            manifest = Manifest.read(where, name)
        except FileNotFoundError:
            raise CheckpointError(f"there is no checkpoint {self._job.resume}") from None
        about = manifest.workers.get(self._rank, {})
        if self._plan is not None:
            self._plan.data.go_on(about.get("data"), self._job.resume, refuses=not self._takes_anything())
        if self._job.lockstep and clock != manifest.step:
            return {}, {}
        if lost := about.get("lost"):
            log.warning("what worker %d kept of its own is not in the checkpoint: %s", self._rank, lost)
        elif (
            not {"member", "file"} & about.keys()
            and self._rank < manifest.job.get("workers", 0)
            and not self._is_empty()
        ):
            log.warning(
                "what worker %d kept of its own is not in the checkpoint, which was made after it was gone: it "
                "begins anew. --resume takes an earlier one too",
                self._rank,
            )
        return StoredModel(where, manifest).worker(self._rank) or {}, about.get("values") or {}

    def _takes_anything(self) -> bool:
        """Whether this run was told to go on whatever is other than before."""
        life = Lives(self._place).latest() if self._place is not None else None
        return life is None or life.forced

    def _restore(self, arrays: Mapping[str, HostArray]) -> None:
        assert self._model is not None
        for name, array in self._model.beside.items():
            kept = arrays.get(BESIDE + name)
            if kept is None or not _writable(array):
                continue
            if (kept.shape, kept.dtype) != (tuple(array.shape), array.dtype):
                raise CheckpointError(f"the checkpoint has {name!r} as {kept.dtype}{list(kept.shape)}")
            array[...] = self._device.array(kept)
        found = self._compression()
        if found is None:
            return
        compression, chunks = found
        begins = {name_of(chunk): chunk.index for chunk in chunks}
        for name, array in arrays.items():
            kind, _, rest = name.partition("/")
            where, _, slot = rest.rpartition("/")
            if kind == CODEC and where in begins:
                compression.state.setdefault(begins[where], {})[slot] = self._device.array(array)

    def _give(self, name: str) -> None:
        """Have the script take back what it has kept under a name, if it has."""
        if self._trouble is not None:
            raise self._trouble
        if name in self._found:
            self._keepers[name][1](self._found.pop(name))

    # Checkpoints

    def stepped(self, clock: int, settle: Callable[[], None]) -> None:
        """A step is done. ``settle`` returns once all of it is answered."""
        if self._plan is not None:
            if self._plan.waits_for(clock) and self._job.defers and not self._is_empty():
                settle()
            self._plan.stepped(clock)

    def leave(self, clock: int, settle: Callable[[], None]) -> None:
        """The script has come to its end: write what is kept where the job's last checkpoint takes it from.

        That is made when all workers have left. Where there is no clock for all nobody could tell of which it is.
        """
        if self._place is None or not self._job.lockstep or self._is_empty():
            return
        try:
            settle()
            write, life = self._capture(), Lives(self._place).latest()
            if write is not None and life is not None:
                write(leaving_folder(clock, life.number))
        except Exception as error:  # whatever a script's own function raises
            log.warning("what worker %d keeps of its own is not in the last checkpoint: %s", self._rank, error)

    def _is_empty(self) -> bool:
        beside = self._model.beside if self._model is not None else {}
        return not (self._keepers or self._job.compress != "none" or any(_writable(each) for each in beside.values()))

    def _capture(self) -> Write | None:
        """Copy what is kept; return what writes it."""
        if self._place is None or self._model is None:
            return None
        where, arrays = self._place, dict[str, HostArray]()
        for name, array in self._model.beside.items():
            if _writable(array):
                arrays[BESIDE + name] = np.array(xp.to_host(array))
        if (found := self._compression()) is not None:
            compression, chunks = found
            for index, state in compression.state.items():
                for slot, array in state.items():
                    arrays[f"{CODEC}/{entry_of(chunks[index], slot)}"] = np.array(xp.to_host(array))
        values: dict[str, Any] = {}
        for name, (save, _) in self._keepers.items():
            values[name] = packed(save(), f"{KEPT}/{name}", arrays)
        part = part_of("worker", self._rank)

        def write(folder: str) -> Mapping[str, Any]:
            try:
                write_arrays(where, folder, part, arrays, values)
            except BaseException:
                remove_part(where, folder, part)
                raise
            return {"file": True}

        return write


def _writable(array: Any) -> bool:
    """Whether a tensor that stays with the worker may change: what is frozen cannot, on the host."""
    return not xp.is_host(array) or bool(array.flags.writeable)

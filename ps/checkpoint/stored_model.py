"""StoredModel: the tensors of a checkpoint, found by their names, however the model was cut then and is cut now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ps.checkpoint.chunk_snapshot import CODEC, MASTER, SHADOW, WEIGHTS, ChunkSnapshot
from ps.checkpoint.manifest import Manifest, SavedChunk
from ps.checkpoint.place import CheckpointPlace
from ps.checkpoint.tensor_file import read_tensor, read_tensors
from ps.dataclass import dataclass
from ps.errors import CheckpointError, LayoutMismatch
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages.rate import latest
from ps.regular_file import shown
from ps.xp import HostArray

MOST_HELD = 64 << 20
"""Bytes of arrays that are kept for whoever asks for another part of them next."""


@dataclass(frozen=True, slots=True)
class TensorPiece:
    """Elements ``lo`` to ``hi`` of a tensor lie in a saved chunk from its element ``at`` on."""

    chunk: SavedChunk
    lo: int
    hi: int
    at: int


class StoredModel:
    """What a manifest's files hold. Every array that is read is compared with its checksum."""

    def __init__(self, place: CheckpointPlace, manifest: Manifest) -> None:
        self.manifest = manifest
        self._place = place
        self._held: dict[tuple[str, str], HostArray] = {}
        self._tensors = {tensor.name: tensor for tensor in manifest.layout.tensors}
        self._by_section: dict[str, list[SavedChunk]] = {}
        for chunk in sorted(manifest.chunks, key=lambda chunk: chunk.start):
            self._by_section.setdefault(chunk.section, []).append(chunk)

    def demand(self, layout: Layout) -> None:
        """Raise LayoutMismatch, naming the first difference, unless a model has the tensors of this one."""
        for tensor in layout.tensors:
            known = self._tensors.get(tensor.name)
            if known is None or (known.dtype, known.shape) != (tensor.dtype, tensor.shape):
                had = f"{known.dtype}{list(known.shape)}" if known else "none of that name"
                raise LayoutMismatch(
                    f"the checkpoint {self._where} is of another model: it has {had} where this one has {tensor}"
                )
        if len(layout.tensors) != len(self._tensors):
            names = {tensor.name for tensor in layout.tensors}
            extra = next(name for name in self._tensors if name not in names)
            raise LayoutMismatch(f"the checkpoint {self._where} is of another model: it also has {extra!r}")

    @property
    def _where(self) -> str:
        return f"{shown(self._place.name)}/{self.manifest.folder}"

    def snapshot(self, layout: Layout, chunk: Chunk) -> ChunkSnapshot:
        """Return what is known of a chunk of a model that is cut anew. Raises CheckpointError for damaged files.

        What a codec keeps belongs to a chunk as a whole: it is there only if that was one then. Words about a learning
        rate are the latest that any part has; updates are those of the part that has had most.
        """
        spans, sources, missed = layout.spans(chunk), list[SavedChunk](), dict[int, int]()
        arrays: dict[str, HostArray] = {}
        for number, (tensor, (lo, hi)) in enumerate(zip(layout.parts_in(chunk), spans, strict=True)):
            first = max(tensor.start, chunk.start) - tensor.start
            for part in self._parts(tensor.name, first, first + hi - lo):
                sources.append(part.chunk)
                missed[number] = part.chunk.missed.get(tensor.name, 0)
                for kind in part.chunk.arrays:
                    if kind.startswith(CODEC) or (kind == SHADOW and part.chunk.shadow < 0):
                        continue
                    values = self._array(part.chunk, kind)
                    if kind not in arrays:
                        arrays[kind] = np.empty(chunk.size, values.dtype)
                    at = lo + part.lo - first
                    arrays[kind][at : at + part.hi - part.lo] = values[part.at : part.at + part.hi - part.lo]
        if not sources:
            raise CheckpointError(f"the checkpoint {self._where} has nothing of chunk {chunk.index}")
        one = sources[0]
        if all(s is one for s in sources) and (one.start, one.stop) == (chunk.start, chunk.stop):
            arrays |= {kind: self._array(one, kind).copy() for kind in one.arrays if kind.startswith(CODEC)}
        updates = max(source.updates for source in sources)
        done: dict[int, int] = {}
        for source in sources:
            done = {rank: min(clock, done.get(rank, clock)) for rank, clock in source.done.items()}
        whole = all(source.shadow >= 0 for source in sources)
        if not whole:
            arrays.pop(SHADOW, None)
        return ChunkSnapshot(
            chunk,
            max(source.version for source in sources),
            updates,
            max(source.reached for source in sources),
            {number: count for number, count in missed.items() if count},
            latest([source.rate for source in sources]),
            done,
            max(source.shadow for source in sources) if whole else -1,
            arrays,
            max(source.examples for source in sources),
        )

    def tensor(self, name: str, *, masters: bool = False) -> HostArray:
        """Return a tensor, or its float32 master if it has one. Raises CheckpointError."""
        tensor = self._tensors[name]
        found: HostArray | None = None
        for part in self._parts(name, 0, tensor.size):
            kind = MASTER if masters and MASTER in part.chunk.arrays else WEIGHTS
            values = self._array(part.chunk, kind)
            if found is None:
                found = np.empty(tensor.size, values.dtype)
            found[part.lo : part.hi] = values[part.at : part.at + part.hi - part.lo]
        if found is None:
            found = np.empty(0, np.dtype(tensor.dtype))
        return found.reshape(tensor.shape)

    def _parts(self, name: str, lo: int, hi: int) -> Iterator[TensorPiece]:
        """Yield where elements of a tensor lie, in order. Raises CheckpointError where some are nowhere."""
        tensor = self._tensors[name]
        at = lo
        for chunk in self._by_section.get(tensor.section, ()):
            begin, end = max(at, chunk.start - tensor.start), min(hi, chunk.stop - tensor.start)
            if begin < end:
                if begin != at:
                    break
                yield TensorPiece(chunk, begin, end, tensor.start + begin - chunk.start)
                at = end
        if at < hi:
            raise CheckpointError(f"the checkpoint {self._where} lacks elements {at} to {hi} of {name!r}")

    def _array(self, chunk: SavedChunk, kind: str) -> HostArray:
        key = chunk.file, chunk.arrays[kind]
        if key not in self._held:
            path = f"{self.manifest.folder}/{chunk.file}"
            entry = self.manifest.files[chunk.file].entries[chunk.arrays[kind]]
            if sum(array.nbytes for array in self._held.values()) + entry.nbytes > MOST_HELD:
                self._held.clear()
            try:
                with self._place.reading(path) as file:
                    self._held[key] = read_tensor(file, path, chunk.arrays[kind], entry)
            except FileNotFoundError:
                raise CheckpointError(f"{shown(path)} is missing") from None
        return self._held[key]

    def worker(self, rank: int) -> Mapping[str, HostArray] | None:
        """Return the arrays that a worker has kept, None where it has none. Raises CheckpointError."""
        about = self.manifest.workers.get(rank)
        file = about.get("file") if about else None
        if not isinstance(file, str):
            return None
        path, known = f"{self.manifest.folder}/{file}", self.manifest.files.get(file)
        if known is None:
            raise CheckpointError(f"{shown(path)} is missing")
        return read_tensors(self._place, path, known)

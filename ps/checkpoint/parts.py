"""Parts: what one server or worker writes of a checkpoint: a file of arrays, and beside it what is in that.

Whoever seals the checkpoint takes the second into the manifest and removes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ps.checkpoint.chunk_snapshot import ChunkSnapshot
from ps.checkpoint.manifest import SavedChunk
from ps.checkpoint.place import CheckpointPlace
from ps.checkpoint.sealed import read_sealed, write_sealed
from ps.checkpoint.tensor_file import TensorFile, read_tensors, write_tensors
from ps.dataclass import dataclass
from ps.errors import CheckpointError
from ps.protocol.layout import Layout
from ps.xp import HostArray

BESIDE = "beside/"
"""What is before the names of tensors that stay with a worker, in its part."""


def part_of(role: str, rank: int) -> str:
    """Return what the files of a member are called, without their endings."""
    return f"{role}-{rank}"


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """What a member has written: the ``file`` of its arrays, if it has one, which chunks are in it, what it says."""

    file: str
    tensors: TensorFile | None
    chunks: tuple[SavedChunk, ...]
    about: Mapping[str, Any]

    @staticmethod
    def read(place: CheckpointPlace, folder: str, name: str) -> WrittenPart:
        """Return a member's. Raises CheckpointError where it is not there or damaged."""
        try:
            values = read_sealed(place, f"{folder}/{name}.json")
            tensors = None if values["tensors"] is None else TensorFile.unpack(values["tensors"])
            chunks = tuple(SavedChunk.unpack(row) for row in values["chunks"])
            return WrittenPart(str(values["file"]), tensors, chunks, dict(values["about"]))
        except (FileNotFoundError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{folder}/{name}.json is none of ours: {error!r:.100}") from None


def write_chunks(
    place: CheckpointPlace,
    folder: str,
    name: str,
    layout: Layout,
    snapshots: Iterable[ChunkSnapshot],
    about: Mapping[str, str],
    rest: Callable[[], None] = lambda: None,
) -> None:
    """Write a server's chunks; ``rest`` is called now and then. Raises CheckpointError."""
    file, arrays, chunks = f"{name}.safetensors", dict[str, HostArray](), []
    for snapshot in snapshots:
        arrays |= snapshot.entries()
        chunks.append(snapshot.saved(file, tuple(t.name for t in layout.parts_in(snapshot.chunk))))
    _write(place, folder, name, file, arrays, chunks, {}, about, rest)


def write_arrays(
    place: CheckpointPlace, folder: str, name: str, arrays: Mapping[str, HostArray], values: Mapping[str, Any]
) -> None:
    """Write what a worker keeps: arrays by name, and values as JSON has them. Raises CheckpointError."""
    _write(place, folder, name, f"{name}.safetensors", arrays, (), values, {})


def _write(
    place: CheckpointPlace,
    folder: str,
    name: str,
    file: str,
    arrays: Mapping[str, HostArray],
    chunks: Iterable[SavedChunk],
    values: Mapping[str, Any],
    about: Mapping[str, str],
    rest: Callable[[], None] = lambda: None,
) -> None:
    try:
        tensors = write_tensors(place, f"{folder}/{file}", arrays, about, rest).pack()
        packed = [chunk.pack() for chunk in chunks]
        table = {"file": file, "tensors": tensors, "chunks": packed, "about": dict(values)}
        write_sealed(place, f"{folder}/{name}.json", table)
    except FileExistsError as error:
        raise CheckpointError(f"{folder}/{name} was written before: {error}") from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"cannot write {folder}/{name}: {error}") from None


def take_over(place: CheckpointPlace, source: str, folder: str, name: str) -> WrittenPart:
    """Write what a worker keeps, as it has written it into another folder, into this one. Raises CheckpointError."""
    found = WrittenPart.read(place, source, name)
    arrays = {} if found.tensors is None else read_tensors(place, f"{source}/{found.file}", found.tensors)
    write_arrays(place, folder, name, arrays, found.about)
    return WrittenPart.read(place, folder, name)


def remove_part(place: CheckpointPlace, folder: str, name: str) -> None:
    """Remove what a member has written into a folder that is no checkpoint, as far as that can be done."""
    for ending in ("json", "safetensors"):
        with contextlib.suppress(CheckpointError):
            place.remove(f"{folder}/{name}.{ending}")
    place.remove_folder(folder)

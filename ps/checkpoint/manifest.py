"""Manifest: what a checkpoint is. It is written last, and only with it there is a checkpoint."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ps.checkpoint.place import CheckpointPlace
from ps.checkpoint.sealed import read_sealed, write_sealed
from ps.checkpoint.tensor_file import TensorFile, check_file
from ps.dataclass import dataclass
from ps.errors import BadMessage, CheckpointError
from ps.protocol.layout import Layout
from ps.regular_file import shown

NAME = "manifest.json"
FORMAT = 1
FOLDER = re.compile(r"step-([0-9]{6,17})(?:\.([0-9]{1,9})(?:\.([0-9]{1,9}))?)?")
"""A checkpoint's folder: its step, the life that made it, if that is not the first, and which attempt, if several."""


@dataclass(frozen=True, slots=True)
class SavedChunk:
    """One chunk: which range of a section it is, and what a server knew of it besides arrays.

    ``arrays``: ``weights``, ``master``, ``slot/NAME``, ``shadow``, ``codec/NAME`` -> what they are called in ``file``.
    """

    index: int
    section: str
    start: int
    stop: int
    file: str
    version: int
    updates: int
    reached: int
    missed: Mapping[str, int]
    """Tensor -> the updates that it took no part in."""
    rate: tuple[int, int, float, float]
    done: Mapping[int, int]
    """Rank -> clocks of that worker that are counted here."""
    shadow: int
    """The version of the weights as workers have them; -1 where they have them as they are."""
    arrays: Mapping[str, str]
    examples: float = 0.0
    """Examples of which there are gradients in the weights."""

    def pack(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        values = dataclasses.asdict(self)
        return {**values, "done": {str(rank): clock for rank, clock in self.done.items()}, "rate": list(self.rate)}

    @staticmethod
    def unpack(values: Mapping[str, Any]) -> SavedChunk:
        """Return what ``pack`` wrote. Raises ValueError, LookupError, TypeError."""
        number, rank, lr, decay = values["rate"]
        numbers = ("index", "start", "stop", "version", "updates", "reached", "shadow")
        plain: dict[str, Any] = {name: int(values[name]) for name in numbers}
        return SavedChunk(
            **plain,
            section=str(values["section"]),
            file=str(values["file"]),
            missed={str(name): int(count) for name, count in values["missed"].items()},
            rate=(int(number), int(rank), float(lr), float(decay)),
            done={int(rank): int(clock) for rank, clock in values["done"].items()},
            arrays={str(kind): str(name) for kind, name in values["arrays"].items()},
            examples=float(values.get("examples", 0.0)),
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """One checkpoint. ``parent`` is the folder, or address, of the one before it in its line; "" for none.

    ``job`` has all settings; ``workers``: rank -> ``file``, if it has one, and what the worker says of itself, or
    ``lost``: why it says nothing. ``files``: name in the folder -> what is in it. ``data``: which batches are not used.
    """

    folder: str
    step: int
    life: int
    parent: str
    made: float
    identity: Mapping[str, Any] = field(repr=False)
    job: Mapping[str, Any] = field(repr=False)
    layout: Layout = field(repr=False)
    chunks: tuple[SavedChunk, ...] = field(repr=False)
    files: Mapping[str, TensorFile] = field(repr=False)
    workers: Mapping[int, Mapping[str, Any]] = field(repr=False)
    ended: bool = False
    run: str = ""
    """What all lives of the folder have in common, trackers' runs too."""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def write(self, place: CheckpointPlace) -> None:
        """Write it. Raises FileExistsError, CheckpointError."""
        values = {
            "format": FORMAT,
            "folder": self.folder,
            "step": self.step,
            "life": self.life,
            "run": self.run,
            "parent": self.parent,
            "made": self.made,
            "ended": self.ended,
            "identity": dict(self.identity),
            "job": dict(self.job),
            "layout": [[name, section, list(shape)] for name, section, shape in self.layout.pack()],
            "chunks": [chunk.pack() for chunk in self.chunks],
            "files": {name: file.pack() for name, file in self.files.items()},
            "workers": {str(rank): dict(about) for rank, about in self.workers.items()},
            "data": dict(self.data),
        }
        write_sealed(place, f"{self.folder}/{NAME}", values)

    @staticmethod
    def read(place: CheckpointPlace, folder: str) -> Manifest:
        """Return that of a folder. Raises FileNotFoundError where there is none, CheckpointError for a damaged one."""
        values = read_sealed(place, f"{folder}/{NAME}")
        if values.get("format") != FORMAT:
            raise CheckpointError(f"{shown(folder)} is of another version of this program")
        try:
            layout = Layout.unpack(tuple((name, section, tuple(shape)) for name, section, shape in values["layout"]))
            return Manifest(
                folder,
                int(values["step"]),
                int(values["life"]),
                str(values["parent"]),
                float(values["made"]),
                dict(values["identity"]),
                dict(values["job"]),
                layout,
                tuple(SavedChunk.unpack(row) for row in values["chunks"]),
                {str(name): TensorFile.unpack(file) for name, file in values["files"].items()},
                {int(rank): dict(about) for rank, about in values["workers"].items()},
                bool(values["ended"]),
                str(values.get("run", "")),
                dict(values.get("data", {})),  # which older ones do not have
            )
        except (ValueError, LookupError, TypeError, AttributeError, BadMessage) as error:
            raise CheckpointError(f"{shown(folder)}/{NAME} is none of ours: {error!r:.200}") from None

    def check(self, place: CheckpointPlace) -> None:
        """Read all its files. Raises CheckpointError, naming the first in which anything is wrong."""
        for name, file in self.files.items():
            check_file(place, f"{self.folder}/{name}", file)

    def counted(self, *ranks: int) -> int:
        """Return how many clocks of a worker, or of each of several, are counted in every chunk."""
        return min((chunk.done.get(rank, 0) for chunk in self.chunks for rank in ranks), default=0)

    @property
    def most(self) -> int:
        """The highest version of any chunk."""
        return max((chunk.version for chunk in self.chunks), default=0)

    @property
    def cut_for(self) -> int:
        """For how many servers the model is cut."""
        return int(self.job.get("cut_for") or self.job["servers"])


def folder_of(step: int, life: int = 1, attempt: int = 1) -> str:
    """Return the name of a checkpoint's folder: no two lives, and no two attempts of one, have the same."""
    if attempt > 1:
        return f"step-{step:06d}.{life}.{attempt}"
    return f"step-{step:06d}.{life}" if life > 1 else f"step-{step:06d}"


def leaving_folder(step: int, life: int) -> str:
    """Return where workers that leave in good order, after a step, write what they keep: no attempt has that name.

    The job's last checkpoint, which is made when all have left, takes it over.
    """
    return f"step-{step:06d}.{life}.0"


def is_leaving(folder: str, life: int) -> bool:
    """Whether a folder has what workers keep that have left in a life."""
    found = FOLDER.fullmatch(folder)
    return found is not None and found[3] == "0" and int(found[2]) == life


def split_name(resume: str) -> tuple[str, str]:
    """Return in what a checkpoint lies that is named, and its own name, which may be any other one."""
    folder, slash, name = resume.rstrip("/").rpartition("/")
    return f"{folder}/" if folder.endswith(":/") else folder or slash or ".", name


def within(folder: str, name: str) -> str:
    """Return how a checkpoint is named that lies in a folder, or in what an address is of."""
    return f"{folder}{name}" if folder.endswith("/") else f"{folder}/{name}"


def life_of(folder: str) -> int:
    """Return the life that a checkpoint's folder is of; 0 for any other name."""
    found = FOLDER.fullmatch(folder)
    return int(found[2] or 1) if found else 0

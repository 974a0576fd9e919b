"""Lives: which runs have had a folder of checkpoints, whose turn it is, and which checkpoints belong to one line.

Each run that takes a folder is a life of it, with the next number. Its file says from which checkpoint it goes on, so
that the lives and their checkpoints are a tree, and the latest life's branch is the line that is followed. A life with
a later one after it may write nothing more.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ps.checkpoint.manifest import FOLDER, NAME, Manifest, is_leaving, life_of
from ps.checkpoint.place import CheckpointPlace
from ps.checkpoint.sealed import read_sealed, write_sealed
from ps.dataclass import dataclass
from ps.errors import CheckpointError
from ps.regular_file import shown

log = logging.getLogger("ps.checkpoint")

_LIFE = re.compile(r"life-([0-9]{6,9})\.json")
_ENDED = re.compile(r"life-([0-9]{6,9})\.ended\.json")
_PART = re.compile(r"(server|worker)-[0-9]{1,10}\.(json|safetensors)")
MOST_TRIES = 100


@dataclass(frozen=True, slots=True)
class Life:
    """One run of a folder. ``parent``: the checkpoint that it began with; ``resume``: what it was asked for.

    ``run``: when its first life began, and a random part, which all that follow have in common. ``forced``: whether its
    command says to go on whatever is other than before.
    """

    number: int
    parent: str
    resume: str
    identity: Mapping[str, Any]
    run: str = ""
    forced: bool = False

    @property
    def file(self) -> str:
        """Its file's name."""
        return f"life-{self.number:06d}.json"


class Lives:
    """The runs that a place has had, and their checkpoints. What is damaged is named and passed over."""

    def __init__(self, place: CheckpointPlace, say: Callable[[str], None] = log.warning) -> None:
        self.place = place
        self._say = say

    def latest(self) -> Life | None:
        """Return the life that has the place now. Raises CheckpointError."""
        numbers = self._numbers(_LIFE)
        if not numbers:
            return None
        try:
            return self.life(max(numbers))
        except CheckpointError as error:
            manifests = sorted(self.manifests(), key=lambda m: (m.life, m.step, m.made))
            last = manifests[-1] if manifests else None
            parent = "" if last is None else last.parent if last.life == max(numbers) else last.folder
            self._say(f"{error}; what it has is known by its checkpoints" if last else f"{error}; it is passed over")
            return Life(max(numbers), parent, "", last.identity if last else {}, last.run if last else "")

    def life(self, number: int) -> Life:
        """Return one of them. Raises CheckpointError."""
        try:
            values = read_sealed(self.place, f"life-{number:06d}.json")
            about = str(values["parent"]), str(values["resume"]), dict(values["identity"]), str(values.get("run", ""))
            forced = bool(values.get("forced"))
        except (FileNotFoundError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"life-{number:06d}.json is none of ours: {error!r:.100}") from None
        return Life(number, *about, forced)

    def begin(
        self, parent: str, resume: str, identity: Mapping[str, Any], now: float, run: str = "", *, forced: bool = False
    ) -> Life:
        """Take the place for a new life, of a new run or one that is there; all before it may write no more.

        Raises CheckpointError.
        """
        run = run or f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{secrets.token_hex(3)}"
        for _ in range(MOST_TRIES):
            number = max(self._numbers(_LIFE), default=0) + 1
            life = Life(number, parent, resume, identity, run, forced)
            about = {"parent": parent, "resume": resume, "identity": dict(identity), "life": number, "run": run}
            about["forced"] = forced
            who = {"began": now, "host": socket.gethostname(), "pid": os.getpid()}
            try:
                write_sealed(self.place, life.file, {**about, **who})
            except FileExistsError:  # somebody else did at the same moment
                continue
            return life
        raise CheckpointError(f"{shown(self.place.name)}: others take it again and again")

    def demand_latest(self, life: Life) -> None:
        """Raise CheckpointError when another run has the place by now."""
        latest = max(self._numbers(_LIFE), default=0)
        if latest > life.number:
            raise CheckpointError(
                f"{shown(self.place.name)} belongs to a later run (life {latest}, this is {life.number}), which goes "
                f"on with what was whole: this one writes no more checkpoints there"
            )

    def end(self, life: Life, step: int, folder: str) -> None:
        """Note that a life's job has come to its end. Raises CheckpointError."""
        self.demand_latest(life)
        write_sealed(self.place, f"life-{life.number:06d}.ended.json", {"step": step, "folder": folder})

    def ended(self, life: Life) -> int | None:
        """Return the step at which a life's job has come to its end, if it has.

        A run that was killed in between has only the checkpoint that says so, and nobody's own state is in that.
        """
        if life.number not in self._numbers(_ENDED):
            return max(
                (each.step for each in self.manifests() if each.life == life.number and each.ended), default=None
            )
        try:
            return int(read_sealed(self.place, f"life-{life.number:06d}.ended.json")["step"])
        except (FileNotFoundError, LookupError, TypeError, ValueError, CheckpointError) as error:
            self._say(f"the file that says that life {life.number} has ended is passed over: {error}")
            return None

    def manifests(self) -> list[Manifest]:
        """Return all checkpoints that have a manifest, whichever life's."""
        found = []
        for folder in self.place.names():
            if FOLDER.fullmatch(folder) is None or NAME not in self.place.names(folder):
                continue
            try:
                found.append(Manifest.read(self.place, folder))
            except FileNotFoundError:  # it was removed meanwhile
                continue
            except CheckpointError as error:
                self._say(f"{error}: it is passed over")
        return found

    def line(self, life: Life) -> Iterator[Manifest]:
        """Yield the checkpoints that a life's model has gone through, the newest first, in this place."""
        manifests = self.manifests()
        by_folder = {manifest.folder: manifest for manifest in manifests}
        number, limit, seen = life.number, None, set[int]()
        while number not in seen:
            seen.add(number)
            own = [m for m in manifests if m.life == number and (limit is None or m.step <= limit)]
            yield from sorted(own, key=lambda m: (m.step, m.made), reverse=True)
            before = by_folder.get(self._parent(number, life, own))
            if before is None:
                return
            number, limit = before.life, before.step

    def _parent(self, number: int, latest: Life, own: list[Manifest]) -> str:
        """Return from which checkpoint a life went on; where its own file is damaged, as its first checkpoint says."""
        if number == latest.number:
            return latest.parent
        try:
            return self.life(number).parent
        except CheckpointError:
            return min(own, key=lambda m: (m.step, m.made)).parent if own else ""

    def newest(self, life: Life) -> Manifest | None:
        """Return the newest whole checkpoint of a life's line; of those that are damaged it is said what is wrong."""
        for manifest in self.line(life):
            try:
                manifest.check(self.place)
            except CheckpointError as error:
                self._say(f"{error}: the checkpoint {manifest.folder} is passed over")
                continue
            return manifest
        return None

    def thin(self, life: Life, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` of a life's line, and return their names. What others wrote stays."""
        self.demand_latest(life)
        removed = []
        for manifest in list(self.line(life))[keep:]:
            self.remove(manifest)
            removed.append(manifest.folder)
        return removed

    def remove(self, manifest: Manifest) -> None:
        """Remove a checkpoint: first what says that it is one, then its files, then the folder if that is empty."""
        self.place.remove(f"{manifest.folder}/{NAME}")
        self.clear(manifest.folder, manifest.files)

    def clear(self, folder: str, files: Iterable[str]) -> None:
        """Remove files of ours from a folder that is no checkpoint, and the folder if nothing else is in it."""
        for name in files:
            self.place.remove(f"{folder}/{name}")
        self.place.remove_folder(folder)

    def sweep(self, life: Life, but: str, *, last: bool = False) -> None:
        """Remove what earlier lives, and this one but for one folder, have left of what was never whole.

        What workers that have left keep stays until the ``last`` of the life's checkpoints, this one, is whole.
        """
        for folder in self.place.names():
            if not 0 < life_of(folder) <= life.number or folder == but:
                continue
            is_awaited = not last and is_leaving(folder, life.number)
            names = self.place.names(folder)
            if NAME not in names and not is_awaited:
                self.clear(folder, [name for name in names if _PART.fullmatch(name)])

    def _numbers(self, pattern: re.Pattern[str]) -> set[int]:
        return {int(found[1]) for name in self.place.names() if (found := pattern.fullmatch(name))}

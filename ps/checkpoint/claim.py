"""Claim: a run takes a folder of checkpoints, and learns from which it goes on, or that nothing is left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ps.checkpoint.identity import differences
from ps.checkpoint.lives import Life, Lives
from ps.checkpoint.manifest import FOLDER, Manifest, split_name, within
from ps.checkpoint.place import CheckpointPlace, place
from ps.dataclass import dataclass
from ps.errors import CheckpointError, ConfigError
from ps.regular_file import shown


@dataclass(frozen=True, slots=True)
class Claim:
    """``manifest`` in ``source`` is gone on from; None for a job that begins. ``ended``: the step of the end."""

    directory: str
    life: Life | None
    manifest: Manifest | None
    source: str
    ended: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return what the job's settings have of it: what is resumed is cut as it was."""
        found: dict[str, Any] = {"checkpoint_dir": self.directory}
        if self.manifest is not None:
            job = self.manifest.job
            found |= {"resume": within(self.source, self.manifest.folder), "cut_for": self.manifest.cut_for}
            if job.get("chunk_size"):
                found["chunk_size"] = job["chunk_size"]
        return found

    def describe(self) -> str:
        """Return in a line what becomes of the job; nothing for one that begins in an empty folder."""
        where = shown(self.directory)
        if self.ended is not None:
            return f"the job in {where} has ended at step {self.ended}, nothing to do; another one needs another folder"
        if self.manifest is None:
            return ""
        return f"going on from step {self.manifest.step}, with {shown(within(self.source, self.manifest.folder))}"


def claim(directory: str | None, resume: str | None, identity: Mapping[str, Any], say: Callable[[str], None]) -> Claim:
    """Take a folder for a new run.

    Without ``resume`` it goes on with what the folder has, if that is of the same script, settings and data. With it
    it goes on from there, whatever they are, and what differs is said; the same command given again goes on with what
    it has made itself since.

    Raises ConfigError when that is another job's, or there is nothing to go on from, and CheckpointError.
    """
    source, wanted = source_of(resume) if resume else (None, "")
    target = place(directory) if directory else source
    if target is None:
        raise ConfigError("no folder for checkpoints: give --checkpoint-dir")
    lives = Lives(target, say)
    life = lives.latest()
    is_same = source is None or target.name == source.name
    if life is not None and (resume is None or life.resume == resume or (is_same and not wanted)):
        return _go_on(lives, life, resume, identity, say)
    if resume is not None and source is not None:
        manifest = chosen(source, wanted, say)
        _tell(identity, manifest.identity, say)
        parent = manifest.folder if is_same else within(source.name, manifest.folder)
        if life is not None and is_same:
            _tell_of_others(lives, life, manifest, say)
        run = life.run if life is not None and is_same else ""
        now = lives.begin(parent, resume, identity, time.time(), run, forced=True)
        return Claim(target.name, now, manifest, source.name)
    return Claim(target.name, lives.begin("", "", identity, time.time()), None, target.name)


def _go_on(
    lives: Lives, life: Life, resume: str | None, identity: Mapping[str, Any], say: Callable[[str], None]
) -> Claim:
    """Go on with the line of the life that had the folder last."""
    name, differ = lives.place.name, list(differences(identity, life.identity))
    if differ and resume is None:
        raise ConfigError(
            f"{shown(name)} has the checkpoints of another job: {'; '.join(differ)}. Give an empty folder, or go on "
            f"from it all the same with --resume {shown(name)}"
        )
    ended = lives.ended(life)
    if ended is not None and not differ:
        return Claim(name, None, None, name, ended)
    _tell(identity, life.identity, say)
    manifest, source, parent = lives.newest(life), name, ""
    if manifest is not None:
        parent = manifest.folder
    elif life.parent:
        is_outer = "/" in life.parent
        source, parent = split_name(life.parent)
        outer = place(source) if is_outer else lives.place
        source = outer.name
        manifest = chosen(outer, parent, say)
        parent = life.parent
    elif any(lives.manifests()):
        say(f"no checkpoint of the job in {shown(name)} is whole: it begins anew")
    asked = life.resume or resume or ""
    now = lives.begin(parent, asked, identity, time.time(), life.run, forced=resume is not None)
    return Claim(name, now, manifest, source)


def source_of(resume: str) -> tuple[CheckpointPlace, str]:
    """Return the folder of checkpoints, and the one in it that is named, if one is."""
    folder, last = split_name(resume)
    if FOLDER.fullmatch(last):
        return place(folder), last
    return place(resume), ""


def chosen(source: CheckpointPlace, wanted: str, say: Callable[[str], None]) -> Manifest:
    """Return the checkpoint to go on from. Raises ConfigError, CheckpointError."""
    lives = Lives(source, say)
    if wanted:
        try:
            manifest = Manifest.read(source, wanted)
        except FileNotFoundError:
            raise ConfigError(f"there is no whole checkpoint {wanted} in {shown(source.name)}") from None
        manifest.check(source)
        return manifest
    life = lives.latest()
    newest = lives.newest(life) if life is not None else next(_whole(lives), None)
    if newest is None:
        raise ConfigError(f"there is no whole checkpoint in {shown(source.name)} to go on from")
    return newest


def _whole(lives: Lives) -> Iterator[Manifest]:
    """Yield whole checkpoints that lie in a folder without its lives, as where one was copied, the newest first."""
    for manifest in sorted(lives.manifests(), key=lambda m: (m.life, m.step, m.made), reverse=True):
        try:
            manifest.check(lives.place)
        except CheckpointError:
            continue
        yield manifest


def _tell(ours: Mapping[str, Any], theirs: Mapping[str, Any], say: Callable[[str], None]) -> None:
    for text in differences(ours, theirs):
        say(f"{text}: that counts from now on")


def _tell_of_others(lives: Lives, life: Life, manifest: Manifest, say: Callable[[str], None]) -> None:
    """Name the checkpoints that are left behind, which nobody removes."""
    after = [m.folder for m in lives.line(life) if m.step > manifest.step]
    if after:
        more = f" and {len(after) - 3} more" if len(after) > 3 else ""
        say(f"a new line begins at step {manifest.step}: {', '.join(after[:3])}{more} stay, and are not gone on from")

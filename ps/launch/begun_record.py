"""begin_record: where a run leaves its record: with that of the lives before it, if it goes on from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ps.checkpoint.place import is_address
from ps.config import ProcessConfig
from ps.config.mode import APART
from ps.launch.checkpointed import Checkpointed
from ps.record_lives import RecordLife, go_on
from ps.text import counted

if TYPE_CHECKING:
    from ps.checkpoint.claim import Claim

KEPT = "record"
"""The folder of the record, beside checkpoints, of a run that is tracked and has no --run-dir."""


def begin_record(
    taken: Checkpointed | None, run_dir: Path | None, own: Path, process: ProcessConfig, say: Callable[[str], None]
) -> tuple[Path, RecordLife | None]:
    """Return the folder of a run's record, and with checkpoints as which life it goes on there.

    ``own`` is where it is if nobody is to keep it.
    """
    folder = run_dir or _beside(taken, process, say) or own
    folder.mkdir(exist_ok=True)
    if taken is None or taken.claim.life is None:
        return folder, None
    wanted = _life(taken.claim)
    try:
        life, lost = go_on(folder, wanted)
    except OSError as error:
        say(f"the record in {folder} does not say which of its lines are of this run: {error.strerror}")
        return folder, wanted
    if lost:
        say(f"{counted(lost, 'line')} of the record after step {life.step} stay, and are not of this run any more")
    return folder, life


def _beside(taken: Checkpointed | None, process: ProcessConfig, say: Callable[[str], None]) -> Path | None:
    """Return where a tracked run has a record that the next one can go on with, if nobody has asked for one."""
    if taken is None or process.track is None or process.run_dir is not None:
        return None
    if is_address(taken.claim.directory):
        say("give --run-dir: without a record trackers keep steps that are lost when a checkpoint is gone back to")
        return None
    return Path(taken.claim.directory) / KEPT


def _life(claim: Claim) -> RecordLife:
    """Return a life as the record has it."""
    life, begun = claim.life, claim.manifest
    assert life is not None
    if begun is None:
        return RecordLife(life.number, 0, 0, life.run, life.run)
    parent = begun.life if claim.source == claim.directory else 0
    steps: Mapping[int, int] = {}
    if begun.job.get("mode") in APART:
        steps = {rank: begun.counted(rank) for rank in {rank for chunk in begun.chunks for rank in chunk.done}}
    return RecordLife(life.number, parent, begun.step, life.run, life.run, steps)

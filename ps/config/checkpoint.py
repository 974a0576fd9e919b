"""What a job's settings say of its checkpoints: in which folder, how often, how many are kept, what it goes on from."""

from __future__ import annotations

import re
from typing import Any

from ps.config.cut import CutConfig
from ps.config.setting import setting
from ps.config.values import LONGEST_WAIT, Kind
from ps.dataclass import dataclass
from ps.number import MOST_STEPS

LONGEST_PLACE = 1000
"""Characters of the name of a folder, which may be one that fsspec understands."""
HURRY = 0.25
"""The part of the grace after which the last checkpoint is made without the workers, who wait for it no longer."""
_EVERY = re.compile(r"([0-9]{1,16})|([0-9]{1,9}(?:\.[0-9]{1,6})?)s")


def _place(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value.strip()) <= LONGEST_PLACE or not value.isprintable():
        raise ValueError
    return value.strip()


def _every(value: Any) -> str:
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    found = Every.read(text)
    if not found.steps and not found.seconds:
        raise ValueError
    return text


PLACE = Kind("PATH", f"a folder, or an address that fsspec understands, of {LONGEST_PLACE} characters at most", _place)
EVERY = Kind("TEXT", "a whole number of steps such as 1000, or a number of seconds such as 30s", _every)


@dataclass(frozen=True, slots=True)
class Every:
    """How often something is done: every so many ``steps``, or ``seconds``; one of them is 0."""

    steps: int = 0
    seconds: float = 0.0

    @staticmethod
    def read(text: str) -> Every:
        """Return what a text means. Raises ValueError."""
        found = _EVERY.fullmatch(text)
        if found is None:
            raise ValueError(text)
        every = Every(int(found[1])) if found[1] else Every(seconds=float(found[2]))
        if every.steps > MOST_STEPS or every.seconds > LONGEST_WAIT:
            raise ValueError(text)
        return every


@dataclass(frozen=True, slots=True)
class CheckpointConfig(CutConfig):
    """The settings of a job that are about its checkpoints."""

    checkpoint_dir: str | None = setting(
        None,
        "folder for checkpoints, or an address that fsspec understands; the same command goes on with what is there",
        kind=PLACE,
    )
    checkpoint_every: str | None = setting(
        None,
        "how often a checkpoint is made: 1000 for steps, 30s for seconds; none: when asked, and at the end",
        kind=EVERY,
    )
    keep: int = setting(3, "how many checkpoints are kept of those that a job makes", low=1, high=1_000_000)
    resume: str | None = setting(
        None,
        "folder of checkpoints, or one checkpoint in it, to go on from, with whatever settings are given",
        kind=PLACE,
    )


def cadence(text: str | None) -> Every:
    """Return how often a checkpoint is made, by the setting's text."""
    return Every.read(text) if text else Every()

"""What a participant holds, in the run's record: a client of the examples, and a worker of a pipeline of the model.

How many examples of each label and which layers, nothing of what is in them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ps.record_files import SHARES, STAGES
from ps.xp import HostArray

log = logging.getLogger("ps.worker")

MOST_LABELS = 1000
"""Different labels beyond which they are no classes: only the number of examples is noted then."""


def write_share(run_dir: str, rank: int, examples: int, labels: HostArray | None = None) -> None:
    """Add a client's line to ``shares.jsonl``: ``{"rank", "examples", "labels": {label: examples}}``.

    ``labels`` (n,) are those of its own examples; other than whole numbers in one dimension they are left out. A full
    disk costs the record, not the training.
    """
    counts: dict[str, int] = {}
    if labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        found, numbers = np.unique(labels, return_counts=True)
        if len(found) <= MOST_LABELS:
            counts = {str(label): int(number) for label, number in zip(found.tolist(), numbers, strict=True)}
    _add(Path(run_dir) / SHARES, {"rank": rank, "examples": examples, **({"labels": counts} if counts else {})})


def write_stages(run_dir: str, rank: int, layers: Sequence[int], count: int, nbytes: int) -> None:
    """Add a worker's line to ``stages.jsonl``: ``{"rank", "layers": [places], "of": layers of the model, "bytes"}``."""
    _add(Path(run_dir) / STAGES, {"rank": rank, "layers": list(layers), "of": count, "bytes": nbytes})


def _add(path: Path, line: dict[str, object]) -> None:
    text = json.dumps(line)
    try:
        with path.open("a") as file:
            file.write(f"{text}\n")
    except OSError as error:
        log.warning("%s is not written: %s", path, error.strerror)

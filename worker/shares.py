"""What a client holds, in the run's record: how many examples of each label. Nothing of the examples themselves."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from ps.record_files import SHARES
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
    line = json.dumps({"rank": rank, "examples": examples, **({"labels": counts} if counts else {})})
    try:
        with (Path(run_dir) / SHARES).open("a") as file:
            file.write(f"{line}\n")
    except OSError as error:
        log.warning("%s is not written: %s", Path(run_dir) / SHARES, error.strerror)

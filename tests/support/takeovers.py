"""Takeovers: a pipeline's job whose workers die at instants that a test names, and what comes of it in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ps.errors import JobEnded
from ps.testing import LocalCluster
from support.mortal import Crew, Script, counted
from support.pipeline_job import assert_same

Start = Callable[..., LocalCluster]


def run(start: Start, script: Script, fates: dict[int, int], workers: int, spares: int, **job: Any) -> Crew:
    cluster = start(mode="pipeline", workers=workers, spares=spares, timeout=30.0, start_timeout=15.0, **job)
    with counted():
        crew = Crew(cluster, script, fates)
        crew.start(workers + spares)
        try:
            crew.join()
        except JobEnded:  # who was not needed
            assert len(crew.died) < spares
    return crew


def assert_undisturbed(crew: Crew, expected: tuple[dict[str, Any], list[float]], pipelines: int = 1) -> None:
    """Compare what the workers have in the end, and the losses that they have seen, if they are known."""
    found: dict[str, np.ndarray] = {}
    for params, losses in crew.results.values():
        found |= params
        same = zip(losses[::-1], expected[1][::-1], strict=False)
        assert pipelines > 1 or all(one == other or np.isnan(one) for one, other in same)
    assert_same(found, expected[0])

"""Where a model is cut with ``--stages auto``: by how long its layers take, which one worker measures and all are told,
or by their bytes, which all know."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from ps import xp
from ps.errors import PeerLost, UsageError
from ps.pipeline import Pipeline
from ps.pipeline.balance import balanced, bytes_of, explained, seconds_of
from ps.pipeline.cut import Cut
from ps.protocol.messages import CutChosen, CutRequest
from ps.worker.pipeline.dealing import LayerValues
from ps.worker.session import Session
from ps.xp import Array, Device

log = logging.getLogger("ps.worker")

MEASURES = 0
"""The rank of the worker that measures."""


def balanced_cut(
    pipeline: Pipeline, count: int, arrays: Mapping[str, Array], first: LayerValues, session: Session, device: Device
) -> Cut:
    """Return the cut into ``count`` stages that all workers of the job have, and say why.

    ``arrays`` and ``first`` are as ``described`` gives them. Raises UsageError for a script that cuts the model itself,
    for more stages than layers, and for layers that cannot work with the sample; PeerLost when the worker that measures
    is gone.
    """
    chain = pipeline.chain
    if len(pipeline.cut.stages) > 1:
        raise UsageError(
            f"the script cuts the model into {len(pipeline.cut.stages)} stages: leave cuts out, or --stages auto"
        )
    if not (pipeline.sample is None or (isinstance(pipeline.sample, tuple | list) and len(pipeline.sample) == 2)):
        raise UsageError(f"sample is a pair x, y like a micro-batch, not a {type(pipeline.sample).__name__}")
    say = log.warning if session.rank == MEASURES else log.info  # people ask for it, and are to see it once
    if pipeline.sample is None:
        costs = bytes_of(chain, arrays)
        cut = balanced(costs, count)
        say(
            "the model is cut by the bytes of its layers, since there is no sample for measuring how long they take "
            "(pipe.init(kv, sample=(x, y)))\n%s",
            explained([cost / 1e6 for cost in costs], cut, chain, "MB"),
        )
        return cut
    if count == 1:
        return Cut(len(chain))
    starts: tuple[int, ...] = ()
    if session.rank == MEASURES:
        costs = _measured(pipeline, arrays, first, device)
        starts = balanced(costs, count).starts
    told = _agreed(session, starts)
    cut = Cut(len(chain), told)
    if len(cut.stages) != count:
        raise UsageError(f"the others cut the model into {len(cut.stages)} stages, and this worker into {count}")
    if session.rank != MEASURES:
        log.info("the model is cut where worker %d has measured that it is best: before layers %s", MEASURES, told)
    elif told == starts:
        say(
            "the model is cut by how long its layers take\n%s",
            explained([1e3 * cost for cost in costs], cut, chain, "ms"),
        )
    return cut


def _measured(pipeline: Pipeline, arrays: Mapping[str, Array], first: LayerValues, device: Device) -> list[float]:
    """Return the seconds that each layer takes for the sample, with the first values of one layer at a time."""

    def brought(array: Any) -> Any:
        return pipeline.arrays.from_host(array) if xp.is_host(array) else array

    batch = pipeline.arrays.tree(brought, pipeline.sample)
    try:
        return seconds_of(
            pipeline.chain,
            pipeline.arrays,
            pipeline.loss_function,
            lambda name: device.array(first.value(name)),
            pipeline.chain.split(arrays),
            batch,
            time.perf_counter,
        )
    finally:
        first.forget()


def _agreed(session: Session, starts: tuple[int, ...]) -> tuple[int, ...]:
    """Tell the scheduler where the model would be cut, or ask it (no ``starts``); return where it is."""

    def demand_measuring() -> None:
        if not starts and all(peer.rank != MEASURES for peer in session.peers("worker")):
            raise PeerLost(
                f"worker {MEASURES} is gone, which was to measure where the model is best cut. What went wrong there "
                f"is in its log"
            )

    session.serve(demand_measuring)
    try:
        return session.ask(
            lambda request, member: CutRequest(request, member, starts),
            CutChosen,
            f"worker {MEASURES} to measure where the model is best cut",
        ).starts
    finally:
        session.serve(lambda: None)

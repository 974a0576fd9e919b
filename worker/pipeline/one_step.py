"""One step of a pipeline as one of its workers does it, where no other step is under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ps.pipeline.runner import StepPlan
from ps.pipeline.worker_stages import WorkerStages
from ps.trace import Trace
from ps.worker.pipeline.passes import Passes
from ps.worker.pipeline.peers import PipelinePeers
from ps.worker.pipeline.stage_route import StageRoute
from ps.worker.traffic import Traffic
from ps.xp import Array

Batch = tuple[list[Any], list[Any]]


def gradients_of(
    own: WorkerStages,
    plan: StepPlan,
    batch: Batch | None,
    params: Mapping[str, Any],
    trained: Mapping[str, Any],
    lines: PipelinePeers,
    passes: Passes,
    route: StageRoute,
    trace: Trace,
    traffic: Traffic,
) -> tuple[dict[str, Array], float]:
    """Do this worker's part of a step; return the gradients, and the mean loss. Raises PeerLost and StageReplaced."""
    began, busy = time.monotonic(), 0.0
    runner = own.runner(plan, params, trained)
    with lines.counting(runner.unused):
        for transfer in [] if batch else passes.kept:
            runner.receive(transfer)
        for transfer in runner.feed(*batch) if batch else []:
            passes.send(route.rank_of(transfer.stage), transfer)
        while not runner.done:
            lines.turn()
            for transfer in passes.take():
                runner.receive(transfer)
            if (wanted := runner.waiting_for) is not None:
                since = trace.now()
                passes.wait(f"{wanted!r} of step {plan.step}", route.sender(wanted))
                trace.add("wait", since, name=repr(wanted), clock=plan.step)
            elif not runner.done:
                since, action, at = trace.now(), runner.next, time.monotonic()
                transfers = runner.run()
                busy += time.monotonic() - at
                for transfer in transfers:
                    passes.send(route.rank_of(transfer.stage), transfer, plan.step)
                trace.add("compute", since, name=repr(action), clock=plan.step)
    traffic.passes["busy_s"] += busy
    traffic.passes["pipeline_s"] += (took := time.monotonic() - began)
    traffic.passes["bubble_s"] += took * own.bubble(plan.microbatches)
    runner.finish()
    return runner.gradients(), runner.loss

"""How a batch goes through the stages of several workers when the model is measured: what one of them does of that.

What goes from stage to stage then is of a kind of its own: it is not to wait for the room that activations of steps
take which are under way, and which nobody works with before this is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ps.pipeline.runner import OUTPUTS, Transfer
from ps.pipeline.stage import PipelineStage
from ps.pipeline.worker_stages import WorkerStages
from ps.worker.pipeline.peers import PipelinePeers
from ps.worker.pipeline.stage_route import StageRoute


def _evaluate(number: int, stage: PipelineStage, params: Mapping[str, Any], names: list[dict[str, str]], x: Any) -> Any:
    return stage.evaluate(params, names, x)


def outputs_of(
    own: WorkerStages,
    params: Mapping[str, Any],
    given: Iterable[tuple[int, Any]],
    lines: PipelinePeers,
    route: StageRoute,
    number: int,
    evaluate: Callable[..., Any] = _evaluate,
) -> Any:
    """Do this worker's part of the pass with a number; return what comes out of the last stage, where the first is.

    ``given``: what is here already for some stages. ``evaluate`` returns the output of one. Raises PeerLost when the
    worker that something is to come from is gone.
    """
    last, here = len(route.cut.stages) - 1, dict(given)

    def await_input(stage: int, what: str) -> None:
        """Have what a stage works with among what is here; that of one beyond the last are the outputs."""
        while stage not in here:
            for transfer in lines.take(number):
                here[transfer.stage or last + 1] = transfer.tree
            if stage not in here:
                lines.await_any(number, what, route.rank_of(stage - 1))

    for stage, here_is in own.stages.items():
        await_input(stage, f"the input of stage {stage} of outputs")
        y = evaluate(stage, here_is, params, own.names, here.pop(stage))
        target = 0 if stage == last else stage + 1
        if target in own.stages:
            here[stage + 1] = y
        else:
            lines.send(route.rank_of(target), number, Transfer(OUTPUTS, target, 0, y))
    if 0 not in own.stages:
        return None
    await_input(last + 1, "the outputs")
    return here[last + 1]

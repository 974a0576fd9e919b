"""Where NaN or Inf in a loss came from, when the stages that its batch went through are on several workers.

All of them know the loss, and so that it is to be looked for: the micro-batches go through the stages again, one after
the other, until one of the layers returns what is not finite; and then all are told which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ps.errors import GradientError
from ps.pipeline.stage import PipelineStage

FIRST_BAD, ORIGIN = "first bad", "origin"
"""The plan of a pass in which it is looked for, and that which ends the search: a tuple, with what was found."""


def evaluate(number: int, stage: PipelineStage, params: Mapping[str, Any], names: list[dict[str, str]], x: Any) -> Any:
    """Return the output of a stage, and what has returned NaN or Inf first, if anything has; ``x`` is such a pair."""
    given, found = x
    if found:
        return x
    output, layer = stage.first_bad(params, names, given)
    return output, f"{layer}, in stage {number}," if layer else ""


def demand_none(
    step: int,
    loss: float,
    xs: list[Any] | None,
    announce: Callable[[Any], None],
    next_plan: Callable[[], Any],
    go: Callable[[Any], Any],
) -> None:
    """Raise GradientError, on all workers, with the layer that the NaN or Inf of a loss comes from, if any.

    ``xs``: the micro-batches, where they go in, else None. ``announce`` and ``next_plan`` begin a pass, ``go`` does
    this worker's part of it. Raises PeerLost when another worker is gone.
    """
    if found := _origin(xs, announce, next_plan, go):
        raise GradientError(
            f"the loss of step {step} is {loss:g}; nothing was applied (a lower learning rate may help). {found}"
        )


def _origin(
    xs: list[Any] | None, announce: Callable[[Any], None], next_plan: Callable[[], Any], go: Callable[[Any], Any]
) -> str:
    if xs is None:
        while (told := next_plan()) == FIRST_BAD:
            go(None)
        return str(told[1])
    found = ""
    for number, x in enumerate(xs):
        announce(FIRST_BAD)
        if layer := go((x, ""))[1]:
            found = f"{layer} returned NaN or Inf first, for micro-batch {number}"
            break
    announce((ORIGIN, found))
    return found

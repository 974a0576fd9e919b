"""Where to cut a chain so that its stages take equally long, or hold equally much; what each layer takes is given."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ps.errors import UsageError
from ps.pipeline.arrays import ArrayKind
from ps.pipeline.chain import Chain
from ps.pipeline.cut import Cut
from ps.pipeline.gradient_sums import GradientSums
from ps.pipeline.loss import PipelineLoss
from ps.pipeline.stage import PipelineStage


def balanced(costs: Sequence[float], stages: int) -> Cut:
    """Return the cut whose most expensive stage is as cheap as can be; of several one whose first stages are full.

    ``costs`` are those of the layers, none below 0. Raises UsageError for more stages than layers.
    """
    layers = len(costs)
    if not 1 <= stages <= layers:
        raise UsageError(f"{layers} layers can be cut into 1 to {layers} stages, not {stages}")
    sums = list(itertools.accumulate(costs, initial=0.0))
    bounds = sorted({high - low for low, high in itertools.combinations(sums, 2)} | {max(costs)})
    least = bounds[bisect.bisect_left(bounds, True, key=lambda bound: _fits(costs, stages, bound))]
    starts: list[int] = []
    held, at = 0.0, 0
    for place, cost in enumerate(costs):
        left = layers - place
        if place > at and (held + cost > least or left == stages - 1 - len(starts)):
            starts.append(place)
            held, at = 0.0, place
        held += cost
    return Cut(layers, tuple(starts))


def _fits(costs: Sequence[float], stages: int, bound: float) -> bool:
    """Whether so many stages are enough if none may cost more."""
    used, held = 1, 0.0
    for cost in costs:
        if cost > bound:
            return False
        if held + cost > bound:
            used, held = used + 1, 0.0
        held += cost
    return used <= stages


def bytes_of(chain: Chain, params: Mapping[str, Any]) -> list[float]:
    """Return the bytes of each layer's own tensors; shared ones count where they are first."""
    found, seen = [], set[str]()
    for names in chain.split(params):
        own = set(names.values()) - seen
        seen |= own
        found.append(float(sum(params[name].nbytes for name in own)))
    return found


def seconds_of(
    chain: Chain,
    kind: ArrayKind,
    loss: PipelineLoss,
    value: Callable[[str], Any],
    names: list[dict[str, str]],
    batch: tuple[Any, Any],
    now: Callable[[], float],
    times: int = 3,
) -> list[float]:
    """Return how long each layer takes for the forward and backward pass of a micro-batch: the shortest of ``times``.

    ``value`` returns a tensor by its whole name, and is asked for those of one layer at a time: no more is held of the
    model. ``names`` are as ``Chain.split`` gives them; ``now`` is a clock. Nothing of the layers' own is changed.
    """

    def copied(tree: Any) -> Any:
        return kind.tree(kind.copy, tree)

    def begin(place: int, params: Mapping[str, Any]) -> PipelineStage:
        stage = PipelineStage(chain, range(place, place + 1), kind, loss)
        sums = GradientSums(chain, names, dict.fromkeys(params), kind, once=True)
        stage.begin(params, names, sums, 0, 0)
        return stage

    x, y = batch
    inputs = []
    for place, own in enumerate(names):
        inputs.append(x)
        params = {name: value(name) for name in own.values()}
        x = begin(place, params).forward(0, copied(x))
    took, dy = [float("inf")] * len(chain), None
    for place in reversed(range(len(chain))):
        params = {name: value(name) for name in names[place].values()}
        for _ in range(times):
            stage, x, above = begin(place, params), copied(inputs[place]), copied(dy)
            since = now()
            output = stage.forward(0, x)
            if stage.is_last:
                stage.lose(0, output, y, loss.weight(y))
            dx = stage.backward(0, above)
            took[place] = min(took[place], now() - since)
        dy = dx
        inputs.pop()
    return took


def explained(costs: Sequence[float], cut: Cut, chain: Chain, unit: str) -> str:
    """Return what was chosen and why: a line for each stage, with its share of the whole."""
    total = sum(costs) or 1.0
    lines = []
    for number, places in enumerate(cut.stages):
        cost = sum(costs[place] for place in places)
        names = chain.names[places.start], chain.names[places.stop - 1]
        of = f"layer {names[0]}" if len(places) == 1 else f"layers {names[0]} to {names[1]}"
        lines.append(f"stage {number}: {of}, {cost:.3g} {unit}, {cost / total:.0%}")
    return "\n".join(lines)

"""LocalStep training of a group: clients that begin with the same weights and are computed together.

What a client gets does not depend on who else is in its group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ps.algorithms import LocalStep, StepArrays
from ps.dataclass import dataclass
from ps.xp import HostArray

WORKING_SET = 8 << 20
"""Bytes of one group's arrays, at most where it is more than one client: they stay in a core's caches."""

MOST = 16
"""Clients in a group, at most. Measured, softmax regression of 784 inputs: 64 take 5 % longer, as they leave L2."""

Gradients = Callable[[HostArray, HostArray, HostArray, HostArray], HostArray]
"""``gradients(weights, rows, counts, out)`` writes the gradients of a step of some clients into ``out``, and returns
their losses. Weights and out are (clients, elements), rows are (clients, width) examples of which ``counts`` count."""


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """What a group begins with: the weights (elements,) that all have, and what each client brings.

    ``control`` (elements,) and ``own`` (clients, elements) are SCAFFOLD's control variates. ``states`` are the local
    optimizers' after ``done`` updates, one for each client; none of them for a new one.
    """

    anchor: HostArray
    lr: float
    states: Sequence[Mapping[str, HostArray]] = ()
    done: int = 0
    control: HostArray | None = None
    own: HostArray | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """The clients' new weights (clients, elements), the means of their losses, and their optimizers' states."""

    weights: HostArray
    losses: HostArray
    state: Mapping[str, HostArray]


def group_size(elements: int, width: int, features: int, arrays: int) -> int:
    """Return how many clients are computed at once so that their ``arrays`` model-sized arrays stay in the caches."""
    each = 4 * (elements * arrays + width * features)
    return max(1, min(MOST, WORKING_SET // each))


def train(
    local: LocalStep, start: TrainingStart, batches: Sequence[tuple[HostArray, HostArray]], gradients: Gradients
) -> Trained:
    """Train clients from where they start.

    ``batches`` are those of ``LocalWork.batches`` for each client, all of one width, the most steps first; ValueError
    in another order.
    """
    steps = [len(rows) for rows, _ in batches]
    if steps != sorted(steps, reverse=True):
        raise ValueError("a group's clients come in the order of their steps, the most first")
    rows = np.zeros((steps[0], len(batches), batches[0][0].shape[1]), np.intp)
    counts = np.ones((steps[0], len(batches)), np.intp)
    for client, (examples, count) in enumerate(batches):
        rows[: len(examples), client] = examples
        counts[: len(count), client] = count
    weights = np.empty((len(batches), start.anchor.size), start.anchor.dtype)
    weights[:] = start.anchor
    gradient = np.empty_like(weights)
    state = {name: slot.reshape(weights.shape) for name, slot in local.optimizer.init(weights.reshape(-1)).items()}
    for client, brought in enumerate(start.states):
        for name, values in brought.items():
            state[name][client] = values
    losses = np.zeros(len(batches))
    active = len(batches)
    # What diverges becomes Inf or NaN, which the servers refuse; it is no reason to stop the others.
    with np.errstate(all="ignore"):
        for step in range(steps[0]):
            while steps[active - 1] <= step:
                active -= 1
            w, g = weights[:active], gradient[:active]
            losses[:active] += gradients(w, rows[step, :active], counts[step, :active], g)
            slots = {name: slot[:active] for name, slot in state.items()}
            _update(local, start, w, g, slots, start.done + step + 1)
    return Trained(weights, losses / steps, state)


def _update(
    local: LocalStep,
    start: TrainingStart,
    weights: HostArray,
    gradient: HostArray,
    state: Mapping[str, HostArray],
    t: int,
) -> None:
    """Do what a client of a real job does with its gradient: for all clients at once, unless each has its own norm."""
    clients = len(weights)
    each = [slice(i, i + 1) for i in range(clients)] if local.clip_norm is not None else [slice(clients)]
    for part in each:
        own = None if start.own is None else start.own[:clients][part]
        slots = {name: slot[part] for name, slot in state.items()}
        stepped = StepArrays(weights[part], gradient[part], slots, start.lr, t, start.anchor, start.control, own)
        local.step([stepped])

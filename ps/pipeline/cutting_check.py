"""Whether a layer or a loss gives for two micro-batches what it gives for both as one, so that cutting is harmless."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps.errors import UsageError
from ps.pipeline.arrays import ArrayKind, leaves, shown
from ps.pipeline.loss import PipelineLoss
from ps.xp import HostArray

NEAR = {2: 3e-2}
"""What may be left by rounding, of the largest number, by the bytes of one."""
OTHERWISE = 1e-3
WAY_OUT = (
    "so what is trained would depend on the number of micro-batches. With microbatches=1 it is the whole batch's; "
    "Pipeline(..., inexact=True) takes what the micro-batches give"
)


def demand_same(one: Any, other: Any, both: Any, kind: ArrayKind, name: str) -> None:
    """Raise UsageError if the outputs for two micro-batches, side by side, are not that for both as one.

    Arrays in which no axis has grown by the examples cannot be compared, and are not.
    """
    parts = [leaves(each, "y") for each in (one, other, both)]
    for (where, a), (_, b), (_, whole) in zip(*parts, strict=False):
        if not all(isinstance(each, kind.types) for each in (a, b, whole)):
            continue
        first, second, joint = (kind.to_host(each) for each in (a, b, whole))
        axis = _grown(first.shape, second.shape, joint.shape)
        if axis is not None and not _near(np.concatenate([first, second], axis), joint):
            raise UsageError(
                f"{name} returns something else for a batch ({shown(joint)}{where.removeprefix('y')}) than for its two "
                f"halves, {WAY_OUT}"
            )


def demand_additive(
    loss: PipelineLoss, outputs: tuple[Any, Any, Any], labels: tuple[Any, Any, Any], kind: ArrayKind
) -> None:
    """Raise UsageError if the loss of two micro-batches, or its gradient, is not that of both as one."""
    one, other, both = (loss(output, y) for output, y in zip(outputs, labels, strict=True))
    parts, whole = float(one[0]) + float(other[0]), float(both[0])
    if not np.allclose(parts, whole, rtol=OTHERWISE, atol=0, equal_nan=True):
        raise UsageError(
            f"the sum of the loss is {whole:g} for a batch and {parts:g} for its two halves together, {WAY_OUT}"
        )
    demand_same(one[1], other[1], both[1], kind, "the gradient of the loss")


def _grown(one: tuple[int, ...], other: tuple[int, ...], both: tuple[int, ...]) -> int | None:
    """Return the axis in which both as one are as long as the two together."""
    if not len(one) == len(other) == len(both):
        return None
    differing = [at for at, size in enumerate(both) if not one[at] == other[at] == size]
    if len(differing) != 1 or one[differing[0]] + other[differing[0]] != both[differing[0]]:
        return None
    return differing[0]


def _near(parts: HostArray, whole: HostArray) -> bool:
    if parts.dtype.kind not in "fcV":
        return bool(np.array_equal(parts, whole))
    a, b = parts.astype(np.float64), whole.astype(np.float64)
    scale = max(float(np.nanmax(np.abs(b), initial=0)), 1e-30)
    return bool(np.allclose(a, b, rtol=0, atol=scale * NEAR.get(parts.dtype.itemsize, OTHERWISE), equal_nan=True))

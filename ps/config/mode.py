"""ModeTraits: what everybody has to know of a mode. When it applies what is pushed is for servers only to know."""

from __future__ import annotations

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class ModeTraits:
    """One mode, as the members of a job tell it from the others."""

    module: str = ""
    """The module of ``ps.server.modes`` that decides, where gradients are pushed: its ``build(job)`` is the mode."""

    lockstep: bool = False
    """Whether all workers contribute to one clock at a time, so that all have the same weights in it."""

    federated: bool = False
    """Whether clients train on their own and ship deltas."""

    pipeline: bool = False
    """Whether the model is cut into stages, and each worker has some of them."""


MODES = {
    "sync": ModeTraits("sync", lockstep=True),
    "async": ModeTraits("asynchronous"),
    "ssp": ModeTraits("ssp"),
    "pipeline": ModeTraits("sync", lockstep=True, pipeline=True),
    "pipeline-ssp": ModeTraits("ssp", pipeline=True),
    "federated": ModeTraits(federated=True),
}
"""A mode is one line here and one file in ``ps/server/modes``."""

DISTRIBUTED = tuple(name for name, traits in MODES.items() if not (traits.federated or traits.pipeline))
"""The modes in which workers push gradients of the whole model."""
APART = tuple(name for name in DISTRIBUTED if not MODES[name].lockstep)
"""Those in which each worker has a clock of its own."""
FEDERATED = tuple(name for name, traits in MODES.items() if traits.federated)
PIPELINE = tuple(name for name, traits in MODES.items() if traits.pipeline)
"""The modes in which a worker has a part of the model."""
BOUNDED = tuple(name for name, traits in MODES.items() if traits.module == "ssp")
"""The modes in which nobody is more than ``staleness`` clocks ahead of the slowest."""

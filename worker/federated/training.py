"""Training: a client's local steps in one round, and the delta that comes of them. Arrays only: no sockets, no data."""

from __future__ import annotations

from collections.abc import Mapping

from ps import xp
from ps.algorithms import LocalStep, StepArrays, effective_steps
from ps.config.job import JobConfig
from ps.optim.rate import LearningRate
from ps.xp import Array

Sections = Mapping[str, Array]
"""Flat vectors by section: ``float32``, ``float32/buffer``, ``float32/control`` and so on, all on one side."""


class Training:
    """Changes the weights in place, step by step, and says by what they changed.

    ``own`` are this client's control variates (SCAFFOLD) and ``slots`` the local optimizer's state, both by section.
    """

    def __init__(self, job: JobConfig) -> None:
        self.algorithm = job.specs.algorithm.build()
        self._optimizer = job.specs.local_optimizer.build()
        self._rate = LearningRate(self._optimizer.lr, job.specs.schedule.build())
        self._local = LocalStep(self._optimizer, self.algorithm, job.clip_value, job.clip_norm)
        self.own: dict[str, Array] = {}
        self.slots: dict[str, dict[str, Array]] = {}
        self.updates = 0
        """How many steps the optimizer's state has seen."""
        self.steps = 0
        """Steps in this round."""
        self._weights: Sections = {}
        self._anchor: dict[str, Array] = {}
        self.renewed: dict[str, Array] = {}
        """What the control variates become if the last round's contribution counts."""
        self._lr = 0.0

    def set_lr(self, round: int, lr: float) -> None:
        """From this round on the base learning rate is ``lr``."""
        self._rate.set(round, lr)

    def begin(self, weights: Sections, round: int) -> None:
        """Begin a round with the weights of its version, which are changed in place from now on."""
        self._weights = weights
        self._anchor = {section: vector.copy() for section, vector in weights.items() if not _is_control(section)}
        self._lr = self._rate(round)
        self.steps = 0
        for section in self._trained():
            like = weights[section]
            if section not in self.slots or not self.algorithm.keeps_optimizer:
                self.slots[section] = self._optimizer.init(like)
                self.updates = 0
            if self.algorithm.control and section not in self.own:
                self.own[section] = xp.namespace(like).zeros_like(like)
            # after a restart they come from disk, and are on the host
            self.slots[section] = {name: beside(vector, like) for name, vector in self.slots[section].items()}
            if section in self.own:
                self.own[section] = beside(self.own[section], like)

    def step(self, gradients: Sections) -> None:
        """Take one local step; the gradients, by section, may be changed."""
        self.updates += 1
        self.steps += 1
        parts = [
            StepArrays(
                self._weights[section],
                gradients[section],
                self.slots[section],
                self._anchor[section],
                self._weights.get(f"{section}/control"),
                self.own.get(section),
            )
            for section in self._trained()
        ]
        self._local.step(parts, lr=self._lr, t=self.updates)

    def delta(self) -> dict[str, Array]:
        """Return by what each section has changed in this round, as new arrays."""
        found = {section: self._weights[section] - anchor for section, anchor in self._anchor.items()}
        if self.algorithm.renew is not None:
            effective = effective_steps(self._optimizer, self.steps)
            for section in self._trained():
                control, own = self._weights[f"{section}/control"], self.own[section]
                weights, anchor = self._weights[section], self._anchor[section]
                renewed = self.algorithm.renew(own, control, anchor, weights, effective, self._lr)
                self.renewed[section] = renewed
                found[f"{section}/control"] = renewed - own
        return found

    def stepped(self, steps: int) -> None:
        """Note that something else has changed the weights, in so many steps."""
        self.steps += steps

    def settle(self, accepted: bool) -> None:
        """End the round: only a contribution that counts renews the client's control variates."""
        if accepted:
            self.own.update(self.renewed)
        self.renewed = {}

    def undo(self) -> None:
        """Bring the weights back to what the round began with."""
        for section, anchor in self._anchor.items():
            xp.copy(anchor, self._weights[section])

    def _trained(self) -> list[str]:
        return [section for section in self._weights if "/" not in section]


def beside(array: Array, like: Array) -> Array:
    """Return an array on the side of another: itself, or a copy on that device."""
    backend = xp.backend_of(like)
    return array if isinstance(array, backend.array_type) else backend.to_device(xp.to_host(array))


def _is_control(section: str) -> bool:
    return section.endswith("/control")

"""Training: a client's local steps in one round, and the delta that comes of them. Arrays only: no sockets, no data."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping

from ps import xp
from ps.algorithms import LocalStep, StepArrays, effective_steps
from ps.config.job import JobConfig
from ps.optim import Optimizer
from ps.optim.absences import Absences
from ps.optim.group import optimizer_of, with_decay
from ps.optim.rate import LearningRate
from ps.protocol.layout import Layout, control_of, group_of, kind_of
from ps.xp import Array

_NONE: Mapping[str, frozenset[int]] = types.MappingProxyType({})

Sections = Mapping[str, Array]
"""Flat vectors by section: ``float32``, ``float32/buffer``, ``float32/control`` and so on, all on one side."""


class Training:
    """Changes the weights in place, step by step, and says by what they changed.

    ``own`` are this client's control variates (SCAFFOLD) and ``slots`` the local optimizer's state, both by section.
    """

    def __init__(self, job: JobConfig) -> None:
        self.algorithm = job.specs.algorithm.build()
        self._spec = job.specs.local_optimizer
        self._schedule = job.specs.schedule.build()
        self._optimizers: dict[str, Optimizer] = {}
        self._rates: dict[str, LearningRate] = {}
        """By group of tensors."""
        self._learn({""})
        self._local = LocalStep(self._spec.build(), self.algorithm, job.clip_value, job.clip_norm)
        self._absences: dict[str, Absences] = {}
        """By section."""
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
        self._lr: dict[str, float] = {}
        """By group, for this round."""

    def take(self, layout: Layout) -> None:
        """Learn of which groups the model's tensors are, and where they lie."""
        chunks = layout.of_kind("trainable").whole()
        self._absences = {chunk.section: Absences(layout.spans(chunk)) for chunk in chunks}
        self._learn({chunk.group for chunk in chunks})

    def _learn(self, groups: Iterable[str]) -> None:
        for group in groups:
            optimizer = self._optimizers[group] = optimizer_of(self._spec, group)
            self._rates[group] = LearningRate(optimizer.lr, self._schedule)

    def set_rates(
        self, round: int, groups: Iterable[str], lr: float | None = None, weight_decay: float | None = None
    ) -> None:
        """From this round on these groups have this base learning rate, and this weight decay."""
        for group in groups:
            if lr is not None:
                self._rates[group].set(round, lr)
            if weight_decay is not None:
                self._optimizers[group] = with_decay(self._optimizers[group], weight_decay)

    @property
    def missed(self) -> dict[str, list[tuple[int, int]]]:
        """By section, which tensors took no part in how many steps of the optimizer's state."""
        kept = {section: sorted(absences.missed.items()) for section, absences in self._absences.items()}
        return {section: pairs for section, pairs in kept.items() if pairs}

    @missed.setter
    def missed(self, kept: Mapping[str, Iterable[tuple[int, int]]]) -> None:
        for section, pairs in kept.items():
            self._absences[section].missed = dict(pairs)

    def begin(self, weights: Sections, round: int) -> None:
        """Begin a round with the weights of its version, which are changed in place from now on."""
        self._weights = weights
        self._anchor = {key: vector.copy() for key, vector in weights.items() if kind_of(key) != "control"}
        self._lr = {group: rate(round) for group, rate in self._rates.items()}
        self.steps = 0
        for section in self._trained():
            like = weights[section]
            self._absences.setdefault(section, Absences(((0, like.size),)))
            if section not in self.slots or not self.algorithm.keeps_optimizer:
                self.slots[section] = self._optimizers[group_of(section)].init(like)
                self.updates = 0
                self._absences[section].missed.clear()
            if self.algorithm.control and section not in self.own:
                self.own[section] = xp.namespace(like).zeros_like(like)
            # after a restart they come from disk, and are on the host
            self.slots[section] = {name: beside(vector, like) for name, vector in self.slots[section].items()}
            if section in self.own:
                self.own[section] = beside(self.own[section], like)

    def step(self, gradients: Sections, absent: Mapping[str, frozenset[int]] = _NONE) -> None:
        """Take one local step; the gradients, by section, may be changed.

        ``absent``: by section, the tensors that have none, by their number among its tensors.
        """
        self.updates += 1
        self.steps += 1
        parts = []
        for section in self._trained():
            group, control, own = group_of(section), self._weights.get(control_of(section)), self.own.get(section)
            spans = self._absences[section].update(self.updates, absent.get(section, frozenset()))
            for lo, hi, t in spans:
                parts.append(
                    StepArrays(
                        self._weights[section][lo:hi],
                        gradients[section][lo:hi],
                        {name: slot[lo:hi] for name, slot in self.slots[section].items()},
                        self._lr[group],
                        t,
                        self._anchor[section][lo:hi],
                        None if control is None else control[lo:hi],
                        None if own is None else own[lo:hi],
                        self._optimizers[group],
                    )
                )
        self._local.step(parts)

    def delta(self) -> dict[str, Array]:
        """Return by what each section has changed in this round, as new arrays."""
        found = {section: self._weights[section] - anchor for section, anchor in self._anchor.items()}
        if self.algorithm.renew is not None:
            for section in self._trained():
                group = group_of(section)
                effective, lr = effective_steps(self._optimizers[group], self.steps), self._lr[group]
                control, own = self._weights[control_of(section)], self.own[section]
                weights, anchor = self._weights[section], self._anchor[section]
                renewed = self.algorithm.renew(own, control, anchor, weights, effective, lr)
                self.renewed[section] = renewed
                found[control_of(section)] = renewed - own
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
        return [section for section in self._weights if kind_of(section) == "trainable"]


def beside(array: Array, like: Array) -> Array:
    """Return an array on the side of another: itself, or a copy on that device."""
    backend = xp.backend_of(like)
    return array if isinstance(array, backend.array_type) else backend.to_device(xp.to_host(array))

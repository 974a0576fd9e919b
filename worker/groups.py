"""Groups: what a script calls the groups of its tensors, and which of them a new learning rate is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ps.config.job import JobConfig
from ps.errors import UsageError
from ps.number import DECAY, RATE, Range
from ps.optim.group import Group, decays, optimizer_of
from ps.protocol.layout import Layout
from ps.worker.interrupt import HOLD
from ps.worker.numbers import as_float, shown
from ps.worker.step_log import StepLog


class Groups:
    """The groups of the tensors that are trained; "" is that of all others."""

    def __init__(self, layout: Layout, job: JobConfig, set_rates: Callable[..., None], log: StepLog) -> None:
        """``set_rates`` is the store's; ``log`` is told the rate of the first group where that is set anew."""
        self._set_rates, self._log = set_rates, log
        self._spec = job.specs.step_optimizer
        self._groups = {
            text: Group.read(text) if text else Group("")
            for text in dict.fromkeys(tensor.group for tensor in layout.tensors if tensor.size)
        }

    def set_lr(self, value: Any, group: str | None) -> None:
        """Set the learning rate of a group, or of all without an own one. Raises UsageError."""
        rate = _number("the learning rate", RATE, value)
        with HOLD:
            groups = self.of(group, "lr")
            self._set_rates(groups, lr=rate)
            if next(iter(self._groups)) in groups:
                self._log.base_lr = rate

    def set_weight_decay(self, value: Any, group: str | None) -> None:
        """Set the weight decay of a group, or of all without an own one. Raises UsageError."""
        decay = _number("the weight decay", DECAY, value)
        with HOLD:
            self._set_rates(self.of(group, "weight_decay"), weight_decay=decay)

    def of(self, name: str | None, number: str) -> list[str]:
        """Return the groups, as texts, for which one of the optimizer's numbers is set anew.

        Without a ``name`` they are all that were not declared with an own one. Raises UsageError.
        """
        if number == "weight_decay" and not decays(optimizer_of(self._spec, "")):
            raise UsageError(f"optimizer {self._spec.name} has no weight decay")
        if name is not None:
            found = [text for text, group in self._groups.items() if group.name == name]
            if found:
                return found
            known = ", ".join(repr(group.name) for group in self._groups.values() if group.name) or "none"
            raise UsageError(f"no group of trained tensors is called {name!r}; kv.init was given {known}")
        found = [text for text, group in self._groups.items() if number not in dict(group.numbers)]
        if not found:
            raise UsageError(f"every group was declared with an own {number}: say which is meant, with group=...")
        return found


def _number(what: str, allowed: Range, value: Any) -> float:
    if (given := as_float(value)) not in allowed:
        raise UsageError(f"{what} {allowed.refusal(given)}, not {shown(value)}")
    return given

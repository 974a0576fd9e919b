"""TrainedGroups: an optimizer's ``param_groups`` on one side, the groups of a connection on the other."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from ps.config.job import JobConfig
from ps.errors import UsageError
from ps.torch import bare_names
from ps.worker import KV

log = logging.getLogger("ps.worker")

SETTABLE = ("lr", "weight_decay")
"""What may change between steps."""
NO_NUMBERS = ("params", "param_names", "name", "initial_lr")
"""Keys of a group that are not the optimizer's."""


def numbers_of(job: JobConfig) -> dict[str, float]:
    """Return the numbers of the optimizer that updates the model, as the job has them: lr, weight_decay and others."""
    spec = job.specs.step_optimizer
    return {name: float(value) for name, value in dataclasses.asdict(spec.build()).items()}  # type: ignore[call-overload]


def read_groups(
    given: Any, model: torch.nn.Module | None
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor], torch.nn.Module | None]:
    """Return param groups with named parameters, all parameters of the model by name, and the model, if there is one.

    ``given``: a module, parameters, or groups of them; both of the latter with or without names. Raises UsageError.
    """
    if isinstance(given, torch.nn.Module):
        given, model = [{"params": [parameter for _, parameter in bare_names.parameters(given)]}], given
    elif isinstance(given, torch.Tensor) or not isinstance(given, Iterable):
        raise UsageError(f"DistributedOptimizer takes a module, parameters or groups, not {type(given).__name__}")
    items = list(given)
    if not items:
        raise UsageError("DistributedOptimizer got no parameters")
    named = {} if model is None else dict(bare_names.parameters(model))
    names = {id(parameter): name for name, parameter in named.items()}
    groups = []
    for group in items if isinstance(items[0], Mapping) else [{"params": items}]:
        inside = group["params"]
        pairs: list[tuple[str, Any]] = []
        for each in [inside] if isinstance(inside, torch.Tensor) else inside:
            name, parameter = each if isinstance(each, tuple) else ("", each)
            if not isinstance(parameter, torch.Tensor):
                raise UsageError(f"an optimizer takes tensors, not {type(parameter).__name__}")
            if model is not None and id(parameter) not in names:
                raise UsageError(f"a parameter of {list(parameter.shape)} in the groups is none of the model's")
            found = names.setdefault(id(parameter), name or str(len(names)))
            if named.setdefault(found, parameter) is not parameter:
                raise UsageError(f"two parameters are called {found!r}")
            pairs.append((found, parameter))
        groups.append({**group, "params": [pair for pair in pairs if pair[1].requires_grad]})
    return groups, named, model


class TrainedGroups:
    """What each of an optimizer's groups is called in the connection, and which numbers were sent for it."""

    def __init__(self, groups: list[dict[str, Any]], job: JobConfig) -> None:
        """Raises UsageError for what is no number."""
        self._job = job
        self._defaults = numbers_of(job)
        self._names: list[str | None] = []
        self._sent: list[dict[str, float]] = []
        self._warned = job.schedule == "constant"
        self.declared: dict[str, dict[str, Any]] = {}
        """The groups as ``kv.init`` takes them."""
        only = len(groups) == 1
        for index, group in enumerate(groups):
            own = self._own(index, group)
            name = None if only and not own else str(group.get("name") or f"group{index}")
            if name in self.declared:
                raise UsageError(f"two groups are called {name!r}")
            self._names.append(name)
            self._sent.append({**self._defaults, **own})
            if name is not None and group["params"]:
                self.declared[name] = {"tensors": [pair[0] for pair in group["params"]], **own}
            for key in [key for key in group if key not in NO_NUMBERS]:
                del group[key]
            group.update(self._sent[-1])

    def _own(self, index: int, group: Mapping[str, Any]) -> dict[str, float]:
        """Return a group's numbers that are not the job's."""
        found: dict[str, float] = {}
        for key, value in group.items():
            if key in NO_NUMBERS:
                continue
            if key == "betas" and isinstance(value, tuple | list) and len(value) == 2:
                found |= {"beta1": _number(index, "beta1", value[0]), "beta2": _number(index, "beta2", value[1])}
            else:
                found[key] = _number(index, key, value)
        return {key: value for key, value in found.items() if self._defaults.get(key) != value}

    @property
    def defaults(self) -> dict[str, float]:
        """What a group has that says nothing else: the numbers of the job's optimizer."""
        return dict(self._defaults)

    def check(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Raise UsageError for a number that was changed and cannot be."""
        for index, (group, sent) in enumerate(zip(groups, self._sent, strict=True)):
            for key, value in sent.items():
                if key not in SETTABLE and group.get(key) != value:
                    raise UsageError(
                        f"{key} of param group {index} is {group.get(key)!r} now and was {value!r}: the servers keep "
                        f"it for the whole job; only lr and weight_decay may change (OneCycleLR: cycle_momentum=False)"
                    )

    def demand_sent(self, groups: Iterable[Mapping[str, Any]]) -> None:
        """Raise UsageError for a number that is another one than that of the gradients that are sent already."""
        for index, (group, sent) in enumerate(zip(groups, self._sent, strict=True)):
            for key in SETTABLE:
                if key in sent and _number(index, key, group[key]) != sent[key]:
                    raise UsageError(
                        f"{key} of param group {index} was changed between the backward pass, in which gradients were "
                        f"sent with it, and step(): change it after step(), or leave out overlap=True"
                    )

    def send(self, groups: Iterable[Mapping[str, Any]], kv: KV) -> None:
        """Tell the job of each learning rate and weight decay that is another one than before."""
        for index, (group, sent) in enumerate(zip(groups, self._sent, strict=True)):
            for key in SETTABLE:
                if key not in sent or (value := _number(index, key, group[key])) == sent[key]:
                    continue
                if group["params"]:
                    (kv.set_lr if key == "lr" else kv.set_weight_decay)(value, group=self._names[index])
                sent[key] = value
                if key == "lr" and not self._warned:
                    self._warned = True
                    log.warning(
                        "the learning rate was set by the script, and the job's schedule %s multiplies it: leave one "
                        "of them out",
                        self._job.schedule,
                    )


def _number(index: int, key: str, value: Any) -> float:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise UsageError(f"{key} of param group {index} is a number of the job's optimizer, not {value!r}")
    return float(value)

"""Group: tensors that are updated with other numbers than the rest, as ``kv.init(params, groups=...)`` declares them.

A group travels as the text by which its sections in the layout are told apart (``protocol.layout``), so that workers
which disagree about one train different models, and a server knows of each chunk how it is updated.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from ps.dataclass import dataclass
from ps.errors import ConfigError, UsageError
from ps.number import parse_decimal
from ps.optim.optimizer import Optimizer
from ps.optim.registry import OPTIMIZERS
from ps.spec import Numbers, Spec

MOST_GROUP = 200
"""Characters of a group's name."""
TENSORS = "tensors"
"""The key under which a group lists its tensors."""
PART = " @"
"""What stands before the part in a group's text."""


@dataclass(frozen=True, slots=True)
class Group:
    """A name, and the numbers of the job's optimizer that are others for these tensors.

    Where a worker has a part of the model, ``part`` says which workers have these, "0" or "0+3": places in a pipeline.
    A group in several parts is one group all the same, of which no chunk is in two.
    """

    name: str
    numbers: Numbers = ()
    part: str = ""

    def __str__(self) -> str:
        part = f"{PART}{self.part}" if self.part else ""
        return f"{self.name}{part} " + ",".join(f"{key}={value!r}" for key, value in self.numbers)

    @property
    def giver(self) -> int | None:
        """The place of the worker that gives the gradients of these tensors; None where workers have all of them."""
        first = self.part.partition("+")[0]
        return int(first) if first.isdecimal() else None

    @staticmethod
    def read(text: str) -> Group:
        """Return the group of a text, which ``str`` wrote. Raises ConfigError when it is none."""
        name, _, rest = text.rpartition(" ")
        name, _, part = name.rpartition(PART) if PART in name else (name, "", "")
        numbers = []
        for item in rest.split(",") if rest else ():
            key, _, value = item.partition("=")
            try:
                numbers.append((key, parse_decimal(value)))
            except ValueError:
                raise ConfigError(f"group {text[:40]!r}: {item[:40]!r} is not key=number") from None
        if not (name or part):
            raise ConfigError(f"group {text[:40]!r} has no name")
        return Group(name, tuple(numbers), part)

    def optimizer(self, spec: Spec[Optimizer]) -> Optimizer:
        """Return the job's optimizer with this group's numbers. Raises ConfigError for those that it does not take."""
        try:
            return OPTIMIZERS.spec(spec.name, {**dict(spec.numbers), **dict(self.numbers)}).build()
        except ConfigError as error:
            raise ConfigError(f"group {self.name!r}: {error}") from None


@functools.lru_cache(maxsize=4096)
def optimizer_of(spec: Spec[Optimizer], group: str) -> Optimizer:
    """Return what updates the tensors of a group, by its text, or with "" those of none. Raises ConfigError."""
    return Group.read(group).optimizer(spec) if group else spec.build()


def with_decay(optimizer: Optimizer, weight_decay: float) -> Optimizer:
    """Return an optimizer with another weight decay, if it has one."""
    if optimizer.weight_decay == weight_decay or not decays(optimizer):
        return optimizer
    changed: Optimizer = dataclasses.replace(optimizer, weight_decay=weight_decay)  # type: ignore[type-var]
    return changed


def decays(optimizer: Optimizer) -> bool:
    """Whether an optimizer has a weight decay that can be set."""
    return any(field.name == "weight_decay" for field in dataclasses.fields(optimizer))  # type: ignore[arg-type]


def assign(groups: Any, names: list[str], spec: Spec[Optimizer]) -> dict[str, str]:
    """Return each tensor's group, as text, of those that have one; the first of several that name it counts.

    ``groups``: by name, which is also the pattern of its tensors' names unless it lists patterns under ``tensors``, the
    numbers that are others: ``{"*.bias": {"weight_decay": 0}}``. Raises UsageError or ConfigError, also for a pattern
    that no tensor's name matches.
    """
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise UsageError(f"groups is a dict with the numbers of each group of tensors, not {type(groups).__name__}")
    found: dict[str, str] = {}
    for name, declared in groups.items():
        patterns, group = _declared(name, declared)
        group.optimizer(spec)
        for pattern in patterns:
            matching = [tensor for tensor in names if matches(tensor, pattern)]
            if not matching:
                raise UsageError(f"group {name!r}: no trained tensor is called {pattern!r}; there are {_some(names)}")
            for tensor in matching:
                found.setdefault(tensor, str(group))
    return found


def divide(groups: Mapping[str, str], parts: Mapping[str, str]) -> dict[str, str]:
    """Return each tensor's group, as text, where tensors are dealt out in ``parts``: those of none have one too."""
    found = {}
    for name, part in parts.items():
        text = groups.get(name, "")
        found[name] = str(dataclasses.replace(Group.read(text) if text else Group(""), part=part))
    return found


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern means a tensor: its very name, or one with ``*``, ``?`` and ``[...]`` as in a shell."""
    return name == pattern or fnmatchcase(name, pattern)


def _declared(name: Any, declared: Any) -> tuple[list[str], Group]:
    if not isinstance(name, str) or not 0 < len(name) <= MOST_GROUP:
        raise UsageError(f"group {name!r}: a name has 1 to {MOST_GROUP} characters")
    if not isinstance(declared, Mapping):
        raise UsageError(f"group {name!r} is a dict with the numbers that are others, not {declared!r}")
    patterns = declared.get(TENSORS, [name])
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise UsageError(f"group {name!r}: tensors is a list of names or patterns, not {patterns!r}")
    numbers = []
    for key, value in declared.items():
        if key == TENSORS:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"group {name!r}: {key} is a number, not {value!r}")
        numbers.append((str(key), float(value)))
    return list(patterns), Group(name, tuple(sorted(numbers)))


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

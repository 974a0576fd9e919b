"""Engine: a program that starts a job's processes on machines of its own, and what it is given to run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ps.config.values import Kind
from ps.dataclass import dataclass
from ps.engines.workload import Workload
from ps.errors import ConfigError, UsageError

Given = Mapping[str, Any]
"""An engine's options by name, each with its value or its default."""
Files = Mapping[str, str]
"""Texts by the names of their files."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class EngineOption:
    """One option of an engine: ``--name VALUE`` of psctl render, ``-o name=VALUE`` of psctl run."""

    name: str
    kind: Kind
    default: Any
    help: str
    low: float = 0
    high: float = 1_000_000_000
    repeats: bool = False

    @property
    def flag(self) -> str:
        """The command line's spelling."""
        return "--" + self.name.replace("_", "-")

    def read(self, text: str) -> Any:
        """Return a text's value. Raises ConfigError for what is none."""
        bounds = f", at least {self.low:g} and at most {self.high:g}" if self.kind.is_number else ""
        try:
            value = self.kind.read(text)
            if not bounds or self.low <= value <= self.high:
                return value
        except (ValueError, OverflowError, TypeError, AttributeError):
            pass
        raise ConfigError(f"{self.flag} {text!r:.60}: must be {self.kind.wanted}{bounds}")


@dataclass(frozen=True, slots=True)
class JobEngine:
    """One engine. ``render`` returns the files it is given; with ``run`` psctl run --on has it run a job."""

    name: str
    about: str
    example: str
    options: tuple[EngineOption, ...]
    render: Callable[[Workload, Given], Files]
    run: Callable[[Workload, Given, Say], int] | None = None

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options by name, from texts. Raises ConfigError for what an engine does not have."""
        table = {option.name: option for option in self.options}
        for name in given:
            if name not in table:
                known = ", ".join(table) or "none"
                raise ConfigError(f"{self.name} has no option {name!r:.60}; it has {known}")
        found: dict[str, Any] = {}
        for name, option in table.items():
            value = given.get(name)
            if value is None or value == ():
                found[name] = option.default
            elif option.repeats:
                found[name] = tuple(option.read(each) for each in ((value,) if isinstance(value, str) else value))
            else:
                found[name] = option.read(value)
        return found


def demand_name(name: str, pattern: str, wanted: str, flag: str = "--name") -> str:
    """Return a name that an engine can have. Raises UsageError, saying which it can."""
    if not re.fullmatch(pattern, name):
        raise UsageError(f"{name!r:.80} cannot be this job's name there: give {flag}, {wanted}")
    return name

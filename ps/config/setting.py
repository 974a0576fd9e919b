"""Setting: one row of the configuration table. Flags, environment, TOML and help are all derived from it."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ps.config.values import BOOL, FLOAT, INT, MODULES, TEXT, Kind
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.text import shortened

_KINDS: dict[Any, Kind] = {int: INT, float: FLOAT, bool: BOOL, str: TEXT}

_LONGEST_SHOWN = 60
"""Characters of a value in a message."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name in the four spellings, its values, its help."""

    name: str
    default: Any
    help: str
    kind: Kind
    choices: Sequence[str] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    optional: bool = False
    short: str = ""
    roles: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    """The modes in which it means something; empty for all."""

    @property
    def flag(self) -> str:
        """The command line's spelling."""
        name = self.name.removesuffix("s") if self.repeats else self.name
        return "--" + name.replace("_", "-")

    @property
    def repeats(self) -> bool:
        """Whether the flag names one of several and may be given again."""
        return self.kind is MODULES

    @property
    def env(self) -> str:
        """The environment's spelling."""
        return "PS_" + self.name.upper()

    @property
    def wanted(self) -> str:
        """What a value has to be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        show = self.kind.show
        bounds = []
        if self.above is not None:
            bounds.append(f"greater than {show(self.above)}")
        if self.low is not None:
            bounds.append(f"at least {show(self.low)}")
        if self.high is not None:
            bounds.append(f"at most {show(self.high)}")
        words = self.kind.wanted + (", " + " and ".join(bounds) if bounds else "")
        return words + (", or none" if self.optional else "")

    def read(self, value: Any, source: str) -> Any:
        """Return the value typed and within its range; ConfigError naming key, value, source and the rule."""
        if self.optional and (value is None or (isinstance(value, str) and value.strip().lower() == "none")):
            return None
        try:
            found = self.kind.read(value)
        except (ValueError, OverflowError, TypeError, AttributeError):
            found = None
        if found is None or not self.allows(found):
            guess = suggest(value, self.choices) if isinstance(value, str) and self.choices else ""
            raise ConfigError(f"{self.name} = {shorten(value)} ({source}): must be {self.wanted}{guess}")
        return found

    def show(self, value: Any) -> str:
        """Return a value as the text that ``read`` takes."""
        return "none" if value is None else self.kind.show(value)

    def allows(self, value: Any) -> bool:
        """Whether a value of the right kind is one of the choices and within the bounds."""
        return (
            (not self.choices or value in self.choices)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
        )


def setting(
    default: Any,
    help: str,
    choices: Sequence[str] = (),
    *,
    kind: Kind | None = None,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    short: str = "",
    roles: tuple[str, ...] = (),
    fallbacks: tuple[str, ...] = (),
    modes: tuple[str, ...] = (),
) -> Any:
    """Declare one setting: its default, a line of help and, where there are limits, its values.

    ``low`` and ``high`` are inclusive, ``above`` is not; a number needs both ends, and each value between them works.
    ``roles`` are the commands that take it as a flag, ``fallbacks`` the variables of other launchers that are read when
    its own is not set. ``modes`` are those in which it means something, if that is not all; its help begins with them.
    """
    words = f"{', '.join(modes)}: {help}" if modes else help
    row = {"help": words, "choices": choices, "kind": kind, "low": low, "high": high, "above": above}
    more = {"short": short, "roles": roles, "fallbacks": fallbacks, "modes": modes}
    return dataclasses.field(default=default, metadata={**row, **more})


_tables: dict[type, Mapping[str, Setting]] = {}


def settings_of(cls: type) -> Mapping[str, Setting]:
    """Return the table of a configuration class: its settings by name, in the order of declaration."""
    if cls not in _tables:
        hints = typing.get_type_hints(cls)
        own = sorted(dataclasses.fields(cls), key=lambda field: field.name not in cls.__annotations__)
        rows = (_row(field, hints[field.name]) for field in own if field.init)
        _tables[cls] = types.MappingProxyType({row.name: row for row in rows})
    return _tables[cls]


def _row(field: dataclasses.Field[Any], hint: Any) -> Setting:
    options = typing.get_args(hint) or (hint,)
    base = next(option for option in options if option is not types.NoneType)
    row = {**field.metadata, "kind": field.metadata["kind"] or _KINDS[base]}
    found = Setting(field.name, field.default, optional=types.NoneType in options, **row)
    if found.kind.is_number and (found.high is None or (found.low is None and found.above is None)):
        raise TypeError(f"the setting {found.name} is a number without a least and a greatest value")
    return found


def shorten(value: Any, most: int = _LONGEST_SHOWN) -> str:
    """Return a value as it is written in Python, in ``most`` characters; its type where it cannot be written."""
    try:
        text = repr(value)
    except Exception:  # a whole number of thousands of digits, or whatever a foreign class does
        return f"something of type {type(value).__name__}"
    return shortened(text, most)


def suggest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``; did you mean 'x'?`` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_ranges(config: Any, sources: Mapping[str, str]) -> None:
    """Raise ConfigError unless every field of a configuration holds a value that its setting allows."""
    for name, row in settings_of(type(config)).items():
        row.read(getattr(config, name), sources.get(name, "given"))


def flags_of(cls: type, values: Mapping[str, Any]) -> list[str]:
    """Return the command-line flags that give these values, in the order of the table."""
    flags = []
    for name, row in settings_of(cls).items():
        if name in values:
            value = values[name]
            if row.kind is BOOL:
                flags.append(row.flag if value else "--no-" + row.flag[2:])
            else:
                flags += [row.flag, row.show(value)]
    return flags


def env_of(cls: type, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that give these values; those that are None are left out."""
    table = settings_of(cls)
    return {
        row.env: row.show(values[name]) for name, row in table.items() if name in values and values[name] is not None
    }

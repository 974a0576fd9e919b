"""Value: what an option of a command's own takes, read and refused as settings are."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from ps.config import Setting
from ps.config.values import FLOAT, INT, PATH, Kind


class Value(click.ParamType[Any]):
    """A value of a kind, a number from ``low`` or above ``above`` to ``high``. ConfigError names the option."""

    name = "value"

    def __init__(
        self, kind: Kind, *, low: float | None = None, above: float | None = None, high: float | None = None
    ) -> None:
        self.row = Setting("", None, "", kind, low=low, above=above, high=high)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what a text, or a default, stands for."""
        name, source = (param.name or "", f"flag {param.opts[0]}") if param else ("a value", "given")
        return dataclasses.replace(self.row, name=name).read(value, source)


def whole(low: int, high: int) -> Value:
    """Return the type of a whole number from ``low`` to ``high``."""
    return Value(INT, low=low, high=high)


def real(*, low: float | None = None, above: float | None = None, high: float) -> Value:
    """Return the type of a finite number from ``low``, or above ``above``, to ``high``."""
    return Value(FLOAT, low=low, above=above, high=high)


def place() -> Value:
    """Return the type of a file's or a folder's path."""
    return Value(PATH)

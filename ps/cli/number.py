"""Number: an option's value that is a number of a command's own, between two bounds, read as settings are."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from ps.config import Setting
from ps.config.values import FLOAT, INT, Kind


class Number(click.ParamType[Any]):
    """A number of a kind, from ``low`` or above ``above`` to ``high``. ConfigError names the option for any other."""

    def __init__(self, kind: Kind, *, low: float | None = None, above: float | None = None, high: float) -> None:
        self.name = "number"
        self.row = Setting("", None, "", kind, low=low, above=above, high=high)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number that a text, or a default, stands for."""
        name, source = (param.name or "", f"flag {param.opts[0]}") if param else ("a number", "given")
        return dataclasses.replace(self.row, name=name).read(value, source)


def whole(low: int, high: int) -> Number:
    """Return the type of a whole number from ``low`` to ``high``."""
    return Number(INT, low=low, high=high)


def real(*, low: float | None = None, above: float | None = None, high: float) -> Number:
    """Return the type of a finite number from ``low``, or above ``above``, to ``high``."""
    return Number(FLOAT, low=low, above=above, high=high)

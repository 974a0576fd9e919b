"""The TOML file: which one is read, and reading it. Its keys are the settings' names, at the top level."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from ps.config.load import TOML_NAME
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.regular_file import blaming, read_regular, reason

LARGEST = 1 << 20
"""Bytes of a file of settings, at most."""


@dataclass(frozen=True, slots=True)
class Toml:
    """What a TOML file says, and its name for messages."""

    name: str = TOML_NAME
    values: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    """The file's absolute path; empty when there is none."""


def find_toml(env: Mapping[str, str], flag: str | None = None, directory: str = ".") -> Toml:
    """Read the file of ``--config``, else of ``PS_CONFIG``, else ./paramserver.toml if there is one.

    ConfigError when a file that was asked for cannot be read, is none of ``LARGEST`` bytes at most, or does not hold
    TOML.
    """
    asked = flag or env.get("PS_CONFIG", "").strip()
    path = Path(asked) if asked else Path(directory) / TOML_NAME
    source = ("--config" if flag else "PS_CONFIG") if asked else "the working directory"
    try:
        with blaming(path, source=source, error=ConfigError):
            data = read_regular(path, LARGEST)
    except ConfigError:
        if not asked and not os.path.lexists(path):
            return Toml()
        raise
    try:
        return Toml(str(path), tomllib.loads(data.decode("utf-8-sig")), str(path.resolve()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = reason(error)
    except ValueError:  # Python's limit
        why = "a number in it has too many digits"
    except RecursionError:
        why = "it is nested too deeply"
    raise ConfigError(f"{path} (from {source}) is no valid TOML: {why}")

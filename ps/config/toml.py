"""The TOML file: which one is read, and reading it. Its keys are the settings' names, at the top level."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ps.config.load import TOML_NAME
from ps.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Toml:
    """What a TOML file says, and its name for messages."""

    name: str = TOML_NAME
    values: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    """The file's absolute path; empty when there is none."""


def find_toml(env: Mapping[str, str], flag: str | None = None, directory: str = ".") -> Toml:
    """Read the file of ``--config``, else of ``PS_CONFIG``, else ./paramserver.toml if there is one.

    ConfigError when a file that was asked for cannot be read, or does not hold TOML.
    """
    asked = flag or env.get("PS_CONFIG", "").strip()
    path = Path(asked) if asked else Path(directory) / TOML_NAME
    source = "--config" if flag else "PS_CONFIG"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if not asked:
            return Toml()
        raise ConfigError(f"{source}: there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    try:
        return Toml(str(path), tomllib.loads(text.decode()), str(path.resolve()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}") from None

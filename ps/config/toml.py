"""The TOML file: which one is read, and reading it. Its keys are the settings' names, at the top level."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ps.config.load import TOML_NAME
from ps.errors import ConfigError

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
        data = _read(path)
    except FileNotFoundError:
        if not asked:
            return Toml()
        raise ConfigError(f"{source}: there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path} (from {source}): {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"cannot read {path!s:.200} (from {source}): {error}") from None
    try:
        return Toml(str(path), tomllib.loads(data.decode("utf-8-sig")), str(path.resolve()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = str(error)
    except ValueError:  # Python's limit
        why = "a number in it has too many digits"
    except RecursionError:
        why = "it is nested too deeply"
    raise ConfigError(f"{path} (from {source}) is no valid TOML: {why}")


def _read(path: Path) -> bytes:
    """Return what a file holds. Raises OSError; ValueError where it is no file, or too large a one."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # of a FIFO that nobody writes to, the opening would not return
    with os.fdopen(fd, "rb") as file:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "Is a directory")
        if not stat.S_ISREG(mode):
            raise ValueError("it is a device, a pipe or a socket, not a file")
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST} bytes, and no file of settings")
    return data

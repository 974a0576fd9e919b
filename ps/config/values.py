"""Kinds of values: how a text or a typed value becomes a setting's value, and how it is shown again."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import numbers
import os
import re
from collections.abc import Callable
from typing import Any

from ps.dataclass import dataclass
from ps.number import parse_decimal, parse_whole

SCHEDULER_PORT = 7070
"""The port a scheduler listens on, and is looked for, unless told otherwise."""

FILE = "file:"
"""Before the path of a file in which a scheduler says where it is."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_DECIMAL_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9}
_SIZE = re.compile(r"([0-9]{1,40}(?:\.[0-9]{1,40})?)\s*([kmg]?)(i?b)?", re.IGNORECASE | re.ASCII)
_HOST = re.compile(r"\*|[\w.-]{1,253}")
_PLACE = re.compile(r"(?:tcp://)?(\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]|[\w.-]{1,253})(?::([0-9]{1,5}))?")
LONGEST_TEXT = 1000
"""Characters of a text, at most: a dozen numbers with all their digits."""
LONGEST_PATH = 4096
"""Bytes of a path that any system opens, at most."""

LONGEST_WAIT = 1e9
"""Seconds that anything may be waited for, at most: thirty years."""
MOST_PROCESSES = 1000
"""Servers and workers that are started on one machine, at most: each is a process of some 50 MB."""

AUTO = "auto"
MOST_STAGES = 1000
"""Stages of a pipeline, at most."""

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of value: ``read`` raises ValueError for what is not ``wanted``; ``show`` is its inverse."""

    metavar: str
    wanted: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    is_number: bool = False
    """Whether its settings must say between which bounds a value lies."""


def _int(value: Any) -> int:
    if isinstance(value, str):
        return parse_whole(value.strip())
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
        raise ValueError
    number = parse_decimal(value.strip()) if isinstance(value, str) else float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE + _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_TEXT:
        raise ValueError
    return value.strip()


def _path(value: Any) -> str:
    if not isinstance(value, str | os.PathLike):
        raise ValueError
    path = os.fspath(value)
    if not isinstance(path, str) or not path or "\0" in path or len(os.fsencode(path)) > LONGEST_PATH:
        raise ValueError
    return path


def parse_size(value: Any) -> int:
    """Return bytes for 1048576, "1MiB", "1M" (the same) or "1MB" (a million); ValueError for anything else."""
    if not isinstance(value, str):
        return _int(value)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError
    number, unit, suffix = match[1], match[2].lower(), (match[3] or "").lower()
    if suffix == "ib" and not unit:
        raise ValueError
    factor = _DECIMAL_UNITS[unit] if suffix == "b" and unit else _UNITS[unit]
    size = float(number) * factor
    if not size.is_integer():
        raise ValueError
    return int(size)


def format_size(size: int) -> str:
    """Return a size as ``parse_size`` reads it, in the largest unit that divides it."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def parse_address(value: Any) -> str:
    """Return tcp://host:port, ipc://path or file:path for that, host:port or host; else ValueError."""
    text = _text(value)
    for scheme in ("ipc://", FILE):
        if text.startswith(scheme):
            if len(text) == len(scheme):
                raise ValueError
            return text
    host, port = _place(text)
    return f"tcp://{host}:{port or SCHEDULER_PORT}"


def _place(text: str) -> tuple[str, int | None]:
    match = _PLACE.fullmatch(text)
    if match is None or not (match[2] is None or 0 < int(match[2]) < 1 << 16):
        raise ValueError
    return match[1], int(match[2]) if match[2] else None


def _advertised(value: Any) -> str:
    text = _text(value)
    with contextlib.suppress(ValueError):
        text = f"[{ipaddress.IPv6Address(text)}]"  # as Kubernetes tells a pod its own
    host, port = _place(text)
    return f"tcp://{host}:{port}" if port else f"tcp://{host}"


def _host(value: Any) -> str:
    host = _text(value).removeprefix("[").removesuffix("]")
    if ":" in host:
        ipaddress.IPv6Address(host)
    elif not _HOST.fullmatch(host):
        raise ValueError
    return host


def _device(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", text):
        raise ValueError
    return text


def _modules(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else [part for item in value for part in item.split(",")]
    if sum(map(len, names)) > LONGEST_TEXT:
        raise ValueError
    found = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not found or not all(part.isidentifier() for name in found for part in name.split(".")):
        raise ValueError
    return found


def _stages(value: Any) -> int:
    if isinstance(value, str) and value.strip().lower() == AUTO:
        return 0
    number = _int(value)
    if not (0 if isinstance(value, int) else 1) <= number <= MOST_STAGES:
        raise ValueError
    return number


INT = Kind("N", "a whole number", _int, is_number=True)
FLOAT = Kind("X", "a finite number", _float, repr, is_number=True)
BOOL = Kind("", "true or false", _bool, lambda value: "true" if value else "false")
TEXT = Kind("TEXT", f"a text that is not empty, of {LONGEST_TEXT} characters at most", _text)
PATH = Kind("PATH", f"a path, of {LONGEST_PATH} bytes at most", _path)
SIZE = Kind("SIZE", "a number of bytes such as 1048576, 512KiB or 1MiB", parse_size, format_size, is_number=True)
ADDRESS = Kind("ADDRESS", "an address such as tcp://host:7070, or file:PATH", parse_address)
ADVERTISED = Kind("ADDRESS", "a host that others can name, or host:port", _advertised)
HOST = Kind("HOST", "the name or address of this host, 0.0.0.0 for all of its addresses", _host)
STAGES = Kind(
    "N",
    f"a whole number from 1 to {MOST_STAGES}, or auto",
    _stages,
    lambda number: str(number or AUTO),
)
"""How many stages; 0: as many as there are workers for them, cut where all take equally long."""
DEVICE = Kind("DEVICE", "one of auto, cpu, cuda, cuda:N", _device)
MODULES = Kind("MODULE", "names of modules such as mine or package.mine, without .py", _modules, ",".join)

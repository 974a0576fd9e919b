"""YAML as text: mappings, lists and plain values. Every text is quoted, whatever the words of a job are.

Of several lines of a program it makes a block, which people can read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN_KEY = re.compile(r"[A-Za-z][\w./-]*")
_BLOCK = re.compile(r"[!-~][ -~]*\n([ -~]*[!-~]\n)+")
"""Lines that a block says as they are: printable, none empty, the last one ended."""
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
"""What some readers do not take for a text without quotes."""


class Template(str):
    """An expression of a chart, which is written as it stands: what it becomes is quoted where it is replaced."""

    __slots__ = ()


def yaml_text(value: Any) -> str:
    """Return a value as a document of YAML. Texts stand in JSON's quotes, which are YAML's too."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _under(f"{_key(key)}:", inner)
    elif isinstance(value, list | tuple) and value:
        for inner in value:
            rest = list(_lines(inner))
            yield f"- {rest[0]}"
            yield from (f"  {line}" for line in rest[1:])
    else:
        yield _scalar(value)


def _under(head: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list | tuple) and value:
        yield head
        yield from (f"  {line}" for line in _lines(value))
    elif isinstance(value, str) and _BLOCK.fullmatch(value):
        yield f"{head} |"
        yield from (f"  {line}" for line in value.splitlines())
    else:
        yield f"{head} {_scalar(value)}"


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and key.lower() not in _WORDS else json.dumps(key)


def _scalar(value: Any) -> str:
    return str(value) if isinstance(value, Template) else json.dumps(value)

"""The documents, and what stands in them as code: commands to type, Python, and what is in backticks."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(
    ROOT / path
    for path in (
        "CHANGELOG.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "README.md",
        "protocol/README.md",
        "protocol/SECURITY.md",
        "ps/README.md",
        "scripts/bench/README.md",
        "scripts/containers/README.md",
        "scripts/engines/README.md",
        "scripts/examples/hospitals/README.md",
        "server/README.md",
        "tests/README.md",
        "worker/README.md",
    )
)
TEXTS = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
SCRIPTS = {path.stem: path.read_text() for path in sorted((ROOT / "ps" / "examples").glob("[a-z]*.py"))}
"""The examples. They tell how they are called in their first lines, which their --help shows."""

WHOLE = ("psctl demo", "psctl config")
PROGRAMS = r"(?:psctl|python|pip|docker|debootstrap|tar|scripts/\S+)"
_COMMAND = re.compile(rf"(?:[A-Z_]+=(?:\"[^\"]*\"|'[^']*'|\S*) )*{PROGRAMS}(?: |$)")


@dataclass(frozen=True, slots=True)
class Python:
    """A fenced block of Python."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Session:
    """Commands that stand together: those of an indented block, or one in backticks."""

    lines: tuple[str, ...]


def fenced(text: str) -> list[tuple[str, str]]:
    """Return the language and the text of every fenced block."""
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


def indented(text: str) -> list[list[str]]:
    """Return the lines of every indented block, without what follows a comment's sign, and without prompts."""
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    blocks = re.findall(r"(?:^|\n\n)((?:    .+\n?)+)", rest)
    return [[_typed(line.strip()) for line in block.splitlines()] for block in blocks]


def in_backticks(text: str) -> list[str]:
    """Return what is in backticks."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def _typed(line: str) -> str:
    return re.sub(r"^\w?\$ |(?:  +|\s#).*$", "", line)


def is_command(line: str) -> bool:
    """Return whether a line begins with a program of ours, or one that the documents call."""
    return _COMMAND.match(line) is not None


def blocks_of_python() -> list[Python]:
    """Return all of them."""
    return [
        Python(name, code) for name, text in TEXTS.items() for language, code in fenced(text) if language == "python"
    ]


def told_by(script: str) -> list[str]:
    """Return the commands that a script tells in its first lines."""
    text = ast.get_docstring(ast.parse(script)) or ""
    return [line for line in map(_typed, map(str.strip, text.splitlines())) if is_command(line)]


def sessions() -> list[Session]:
    """Return what can be typed, once however often it is told.

    One word in backticks is a name, and so is that of a command, but for those that need nothing else (``WHOLE``).
    """
    found = [tuple(block) for text in TEXTS.values() for block in indented(text)]
    together = {line for block in found for line in block}
    single = [line for text in TEXTS.values() for line in in_backticks(text) if is_command(line) and " " in line]
    single += [line for script in SCRIPTS.values() for line in told_by(script)]
    names = {line for line in single if re.fullmatch(r"psctl \w+", line) and line not in WHOLE}
    alone = [(line,) for line in single if line not in together | names]
    return [Session(lines) for lines in dict.fromkeys([*found, *alone])]

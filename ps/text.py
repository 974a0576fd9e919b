"""Text: words that processes of several kinds say alike, and no longer than they may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def shortened(text: str, most: int) -> str:
    """Return a text in at most ``most`` characters, with an ellipsis where it goes on."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def with_article(name: str) -> str:
    """Return the name of a kind of thing behind a or an."""
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """Return a number of things, in words."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('h') else 's'}"


def one_of(names: Iterable[str]) -> str:
    """Return names as a choice: ``a``, ``a or b``, ``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def stopping(stop: Mapping[str, Any], *, federated: bool = False, past: bool = False) -> str:
    """Return where training ends before all is done, who asked for it and why, of a status's ``stop``."""
    clock, why = stop.get("clock") or 0, f"{stop.get('reason')} ({stop.get('by')})"
    if not stop.get("decided"):
        return f"training is to end: {why}"
    where = f"with round {clock:,}" if federated else f"at clock {clock:,}" if clock else "at each worker's next step"
    return f"training {'was ended' if past else 'ends'} {where}: {why}"


def waited(who: str, whom: str, what: str, seconds: float) -> str:
    """Return in a sentence that somebody waits."""
    verb = "have" if who.startswith(("workers", "clients", "servers")) else "has"
    return f"{who} {verb} waited {seconds:.0f} s for {whom}: {what}"

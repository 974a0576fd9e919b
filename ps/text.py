"""Text: what is quoted in a message is no longer than it may be."""

from __future__ import annotations


def shortened(text: str, most: int) -> str:
    """Return a text in at most ``most`` characters, with an ellipsis where it goes on."""
    return text if len(text) <= most else f"{text[: most - 1]}…"

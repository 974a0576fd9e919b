"""Who takes part in a comparison: this system, raw limits, and other systems where they are installed.

Each module offers what ``race.case.Peer`` lists and imports nothing large before it serves or joins.
"""

from __future__ import annotations

from importlib.util import find_spec


def needs(module: str) -> str:
    """Return why something that needs a module cannot take part, or nothing when it is installed."""
    return "" if find_spec(module) else f'{module} is not installed; pip install "paramserver[bench]"'

"""The engines by name, each in a file of its own that is loaded when it is asked for."""

from __future__ import annotations

import importlib

from ps.config.setting import suggest
from ps.engines.engine import JobEngine
from ps.errors import UsageError

MODULES = {
    "slurm": "ps.engines.slurm",
    "ray": "ps.engines.ray",
    "kubernetes": "ps.engines.kubernetes",
    "helm": "ps.engines.helm",
    "compose": "ps.engines.compose",
    "skypilot": "ps.engines.skypilot",
}


def engine(name: str) -> JobEngine:
    """Return an engine. Raises UsageError for a name that is none's."""
    if name not in MODULES:
        raise UsageError(f"there is no engine {name!r:.60}{suggest(name, MODULES)}; there are {', '.join(MODULES)}")
    found: JobEngine = importlib.import_module(MODULES[name]).ENGINE
    return found

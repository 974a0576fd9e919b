"""A job on Ray: its scheduler, servers and workers as processes that actors start and watch.

import ps.ray

ps.ray.run("train.py", "--epochs", "3", servers=2, workers=4, resources={"CPU": 2})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["run"]

if TYPE_CHECKING:
    from ps.ray.call import run


def __getattr__(name: str) -> Any:
    """Load what a program calls when it does: an actor, which is on each node, needs none of it."""
    if name != "run":
        raise AttributeError(f"module 'ps.ray' has no attribute {name!r}")
    from ps.ray.call import run

    globals()["run"] = run
    return run

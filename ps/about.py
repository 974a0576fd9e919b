"""About: what a process tells of itself with each heartbeat, for those who look for what is wrong."""

from __future__ import annotations

import functools
import platform
import sys
import time
from typing import Any

import numpy as np

from ps import native


@functools.cache
def software() -> str:
    """Return the versions that have to be the same for the same bits."""
    return f"paramserver {sys.modules['ps'].__version__}, Python {platform.python_version()}, NumPy {np.__version__}"


def vitals() -> dict[str, Any]:
    """Return what time it is here, the software, and whose loops do the arithmetic."""
    return {"sent_at": time.time(), "software": software(), "kernels": native.running()}

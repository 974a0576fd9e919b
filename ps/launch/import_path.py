"""Import path: how processes that a program starts find this package where only that program knows of its place."""

from __future__ import annotations

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path


def import_path(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variable that new processes need for that; nothing where they find it by themselves."""
    root = str(Path(__file__).parents[2])
    before = environ.get("PYTHONPATH", "")
    if root in (*site.getsitepackages(), site.getusersitepackages(), *before.split(os.pathsep)) or root not in sys.path:
        return {}
    return {"PYTHONPATH": os.pathsep.join([root, before] if before else [root])}

"""What a process of this host holds: open files, and mappings of shared memory."""

from __future__ import annotations

import gc
import os
from pathlib import Path


def descriptors(pid: int | str = "self") -> int:
    """How many files a process has open; in this one what nobody refers to is closed before."""
    gc.collect()
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208


def mappings(pid: int | str = "self") -> int:
    """How many ranges of its address space show memory that we share."""
    gc.collect()
    return sum("/memfd:ps" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())

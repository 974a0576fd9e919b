"""What ``psctl run`` prints, in tests that need a device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*words: str, where: Path = ROOT, timeout: float = 100) -> str:
    """Run a job to its good end; ``words`` follow ``psctl run``. Returns all of the output."""
    command = [sys.executable, "-c", "from ps.cli import main; main()", "run", *words]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=timeout)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output

"""Make the simulators and the made-up contributions importable for the tests below."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "federated")]

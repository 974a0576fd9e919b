"""Promises of ps.memory: a script gets its memory back to the system, though ps keeps some for its next message."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from ps.memory import uncollected

PROGRAM = """
import resource
import numpy as np
from ps.memory import KEPT, keep_freed_memory

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) << 10

def fill(megabytes):
    blocks = [None] * megabytes  # its full size at once: a small block between the large ones would hold those below it
    for index in range(megabytes):
        blocks[index] = np.ones(1 << 18, np.float32)
    return blocks

keep_freed_memory()
before = resident()
blocks = fill(400)
full = resident()
del blocks
print(full - before >= 350 << 20, resident() - before <= KEPT + (32 << 20))
fill(16)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill(16)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults < 2000)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="speaks to glibc")
def test_what_a_script_frees_goes_back_but_for_what_the_next_message_needs() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert found.stdout.split() == ["True", "True", "True"], found.stderr


@pytest.mark.parametrize("enabled", [True, False])
def test_whatever_happens_while_modules_are_loaded_cycles_are_collected_afterwards_as_before(enabled: bool) -> None:
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(ImportError), uncollected():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()

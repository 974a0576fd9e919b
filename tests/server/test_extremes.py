"""Promises to whoever is spoken to: valid messages with extreme values in every field end no process.

From a member, from a stranger and from a member of another job; what the two last say changes no bit of the weights.
"""

from __future__ import annotations

import gc
import random
import tracemalloc

import pytest

from support import extremes
from support.extremes import TARGETS, WHO, Who

COUNT = 160
SEED = 20260
MOST_GROWN = 3_000_000
"""Bytes of memory by which a process may grow while it is told anything; most is what members may send it to keep."""


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", TARGETS)
def test_extreme_values_end_no_process_and_strangers_change_no_weights(name: str, who: Who) -> None:
    said = extremes.run(name, who, SEED, COUNT)
    assert said.total() == COUNT
    assert said["taken"] > 0


@pytest.mark.parametrize("who", ["member", "stranger"])
@pytest.mark.parametrize("name", ["scheduler federated", "scheduler sync", "server async", "server federated none"])
def test_the_memory_of_a_process_does_not_grow_with_what_is_said_to_it(name: str, who: Who) -> None:
    target, chance = TARGETS[name](), random.Random(SEED)
    extremes.speak(target, who, chance, 150)
    tracemalloc.start()
    try:
        extremes.speak(target, who, chance, 350)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MOST_GROWN

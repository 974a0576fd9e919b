"""Random numbers of torch's that follow from a seed, for as long as a module computes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator

import torch

_GENERATORS = threading.RLock()


@contextlib.contextmanager
def drawing(seed: int, devices: Collection[int] = ()) -> Iterator[None]:
    """Have torch draw its numbers from this seed, and from where it was after that; ``devices``: also on these GPUs.

    One thread at a time, since torch's generators are the process's, and workers of a ``LocalCluster`` are threads.
    ``torch.manual_seed`` takes half a millisecond, for it looks at who calls it.
    """
    with _GENERATORS:
        yield from _drawn(seed, devices)


def _drawn(seed: int, devices: Collection[int]) -> Iterator[None]:
    generators = [torch.default_generator, *(torch.cuda.default_generators[index] for index in sorted(devices))]
    states = [each.get_state() for each in generators]
    for each in generators:
        each.manual_seed(seed)
    try:
        yield
    finally:
        for each, state in zip(generators, states, strict=True):
            each.set_state(state)

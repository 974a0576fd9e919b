"""The workers of a pipeline with channels between them that hold little: real runners, and bad luck in between."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from typing import Any

from ps.pipeline.runner import StageRunner, Transfer


def run_over_links(
    runners: list[StageRunner], home: dict[int, int], fed: list[Transfer], window: int, seed: int
) -> Any:
    """Run a step to its end over channels, one for each kind and stage, each of which has room for ``window`` things
    that have come and were not worked with; in an order that the seed decides. Return the gradients of all.
    """
    luck = random.Random(seed)
    channels: dict[tuple[str, int], deque[Transfer]] = defaultdict(deque)
    for transfer in fed:
        channels[(transfer.kind, transfer.stage)].append(transfer)
    while any(not runner.done for runner in runners):
        able: list[Any] = [runner for runner in runners if not runner.done and runner.waiting_for is None]
        able += [key for key, channel in channels.items() if channel and has_room(runners[home[key[1]]], key, window)]
        assert able, [(runner.next, runner.waiting_for) for runner in runners]
        chosen = luck.choice(able)
        if isinstance(chosen, StageRunner):
            for transfer in chosen.run():
                channels[(transfer.kind, transfer.stage)].append(transfer)
        else:
            runners[home[chosen[1]]].receive(channels[chosen].popleft())
    assert not any(channels.values())
    return {name: gradient for runner in runners for name, gradient in runner.gradients().items()}


def has_room(runner: StageRunner, key: tuple[str, int], window: int) -> bool:
    return runner.unused(*key) < window

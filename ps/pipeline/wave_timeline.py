"""When the waves of a pipeline do what, several of which are under way, by the rule of ``WaveRunner``."""

from __future__ import annotations

from collections.abc import Sequence

from ps.dataclass import dataclass
from ps.errors import StateError
from ps.pipeline.action import FORWARD, WEIGHTS, Action
from ps.pipeline.timeline import USUAL, Costs, ScheduleTimeline, TimedAction


@dataclass(frozen=True, slots=True)
class WaveTimeline:
    """``times`` has the micro-batches of each wave numbered on from those of the one before."""

    times: ScheduleTimeline
    ends: list[int]
    """When each wave is done everywhere, and with that in the weights."""

    @property
    def bubble(self) -> float:
        """Which share of the time workers are idle once all is going, in the second half of the waves."""
        spans = [span for spans in self.times.workers for span in spans]
        busy = sum(span.stop - span.start for span in spans) / len(self.ends)
        half = len(self.ends) // 2
        return 1 - busy * half / ((self.ends[-1] - self.ends[-1 - half]) * len(self.times.workers))


def wave_timeline(
    work: Sequence[Sequence[Action]], stages: int, waves: int, count: int, costs: Costs = USUAL
) -> WaveTimeline:
    """Return when each worker's actions of ``count`` waves are done, ``work`` being what one of them takes.

    A wave begins once the one ``waves`` before it is in the weights: at once when all workers have done it. Raises
    StateError where workers wait for each other.
    """
    microbatches = 1 + max(action.microbatch for actions in work for action in actions)
    done: dict[tuple[int, Action], int] = {}
    at = [[0] * count for _ in work]
    spans: list[list[TimedAction]] = [[] for _ in work]
    now = 0

    def able(worker: int) -> tuple[int, Action] | None:
        """Return what a worker can do now, and of which wave."""
        later = None
        for wave in range(count):
            before = [(wave - waves, actions[-1]) for actions in work if wave >= waves]
            if any(done.get(last, now + 1) > now for last in before):
                break
            left = work[worker][at[worker][wave] :]
            needed = left[0].after(stages) if left else None
            if left and (needed is None or done.get((wave, needed), now + 1) <= now):
                if any(action.kind != WEIGHTS for action in left):
                    return wave, left[0]
                later = later or (wave, left[0])
            if any(action.kind == FORWARD for action in left):
                break
        return later

    while any(at[worker][-1] < len(work[worker]) for worker in range(len(work))):
        for worker in range(len(work)):
            if spans[worker] and spans[worker][-1].stop > now:
                continue
            if (found := able(worker)) is not None:
                wave, action = found
                at[worker][wave] += 1
                stop = done[found] = now + costs[action.kind]
                numbered = Action(action.kind, action.stage, wave * microbatches + action.microbatch)
                spans[worker].append(TimedAction(numbered, now, stop))
        later = [each[-1].stop for each in spans if each and each[-1].stop > now]
        if not later:
            raise StateError("the workers of this schedule wait for each other")
        now = min(later)
    ends = [max(done[wave, actions[-1]] for actions in work) for wave in range(count)]
    return WaveTimeline(ScheduleTimeline(spans), ends)

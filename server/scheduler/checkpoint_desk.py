"""CheckpointDesk: what a scheduler process does for the checkpoints of its job: whoever asks for one, and the disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ps.config.checkpoint import HURRY, cadence
from ps.protocol.messages import CheckpointMade, CheckpointRequest
from ps.server.scheduler.checkpoint_keeper import CheckpointKeeper, begun_with, taken
from ps.server.scheduler.checkpoints import Checkpoints
from ps.server.scheduler.leasing import saved_data
from ps.server.scheduler.state import SchedulerState
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")

Sends = list[tuple[bytes, Send]]
MOST_ASKERS = 1000
SPARE = 0.15
"""The part of the grace that is left for the end itself."""
GOODBYES = 3.0
"""Seconds for which workers are then waited for, which were asked to end as well: they leave when they hear of it."""
ALL_ASKED = "all was asked to end"


class CheckpointDesk:
    """Answers once what was asked for is whole, or was given up; with no folder, at once."""

    def __init__(self, state: SchedulerState, say: Callable[[str], None], grace: float, now: float) -> None:
        """Take the folder that is in the settings, if one is; they are completed with what is gone on from.

        Raises JobEnded where nothing is left to do, ConfigError and CheckpointError.
        """
        found = taken(state.explicit, state.life, say)
        self._keeper: CheckpointKeeper | None = found[0] if found else None
        self._grace = grace
        self._asked: float | None = None
        """When this process was asked to end."""
        self._made: float | None = None
        """When the checkpoint was made, or given up, for which it was asked then."""
        self._last = False
        """Whether the last checkpoint was made for somebody who is about to end all."""
        self._hurried = False
        self._all_go = False
        """Whether all workers were asked to end."""
        self._due = 0
        self._extra: Sends = []
        if found is not None:
            keeper, newest = found
            if (manifest := begun_with(state.explicit.get("resume"))) is not None:
                state.leasing.data = saved_data(manifest)
            state.life, state.changed = keeper.life.number, True
            state.checkpoints = Checkpoints(
                lambda: cadence(state.setting("checkpoint_every")), keeper.life.number, newest, now, state.cut_names
            )
        self._askers: list[tuple[bytes, int, int]] = []
        """Origin, request, and how many cuts will have finished then."""

    def ask(self, origin: bytes, message: CheckpointRequest, state: SchedulerState, now: float) -> Sends:
        """Somebody wants a checkpoint."""
        saving = state.saving
        if saving is None or len(self._askers) >= MOST_ASKERS:
            return [(origin, Send(origin, CheckpointMade(message.request, -1, "", self._why_not(state))))]
        if (origin, message.request) in [(who, request) for who, request, _ in self._askers]:
            return []
        if message.last:
            self._hurried = True
            saving.hasten(now + HURRY * self._grace)
        due, sends = saving.request()
        self._askers.append((origin, message.request, due))
        return [(b"", send) for send in sends]

    def _why_not(self, state: SchedulerState) -> str:
        if state.federated:
            return "a federated job keeps each round, with --state: it needs no other checkpoint"
        if self._keeper is None:
            return "this job has no folder for checkpoints: start it with --checkpoint-dir"
        return "there is no model yet, or not any more" if state.saving is None else "too many ask for one"

    def turn(self, state: SchedulerState, now: float) -> Sends:
        """Write what is to be written, and answer those who wait."""
        saving, sends, self._extra = state.checkpoints, self._extra, []
        if saving is None or self._keeper is None:
            return []
        if state.job is not None and state.seeding.layout is not None:
            about = state.job, state.seeding.layout, state.leasing.leases, lambda: _data_of(state)
            written = self._keeper.turn(saving, *about)
            if written is not None:
                sends += [(b"", send) for send in saving.sealed(*written, now)]
                if self._keeper.is_fenced and saving.verdict is None:
                    saving.verdict = written[1]
        if saving.names != state.cut_names:
            state.cut_names, state.changed = saving.names, True
        sends += self._before_all_go(state)
        over = state.phase != "running"
        for asker in [each for each in self._askers if saving.finished >= each[2] or over]:
            self._askers.remove(asker)
            origin, request, _ = asker
            why = saving.trouble if saving.finished >= asker[2] else "the job is over"
            sends.append((origin, Send(origin, CheckpointMade(request, *saving.newest, why))))
            self._last |= self._hurried and not why
        return sends

    def _before_all_go(self, state: SchedulerState) -> Sends:
        """Have a checkpoint made once all workers were asked to end: where all is stopped in order, servers are next.

        Workers wait for it, so that it has what they keep. One made when they are gone would not, and what is gone on
        from it would have other bits.
        """
        known, workers = self._all_go, [w for w in state.roster.live("worker") if w.has_model]
        self._all_go = bool(workers) and all(worker.report.get("terminated") for worker in workers)
        saving = state.saving
        if known or not self._all_go or saving is None or saving.is_last or self._hurried or self._asked is not None:
            return []
        return [(b"", send) for send in saving.request()[1]]

    def may_end(self, state: SchedulerState, now: float) -> bool:
        """Whether this process, which was asked to end, may do so: once there is a last checkpoint, or no time."""
        saving = state.saving
        if saving is None or self._keeper is None:
            return True
        if self._asked is None:
            self._asked = now
            if not saving.is_last and not self._last:
                saving.hasten(now + HURRY * self._grace)
                self._due, sends = saving.request()
                self._extra += [(b"", send) for send in sends]
        if now - self._asked > (1 - SPARE) * self._grace:
            log.error("there was no time for a last checkpoint: %s", saving.describe())
            return True
        if self._last:
            return saving.last_told
        if saving.is_last or saving.finished < self._due or not saving.last_told:
            return False
        self._made = now if self._made is None else self._made
        if state.count("worker") and now - self._made < GOODBYES:
            return False
        log.warning("%s", saving.describe())
        if saving.newest[1] and not state.count("worker"):
            _lay_down(state)
        return True


def _lay_down(state: SchedulerState) -> None:
    """Let the next scheduler begin anew, from the checkpoint: this one ends with its workers, and so do the servers."""
    state.phase, state.reason = "failed", ALL_ASKED
    state.epoch += 1
    state.changed = True


def _data_of(state: SchedulerState) -> Mapping[int, Mapping[str, Any]]:
    """Return by what the data are known that each worker has read, by rank."""
    reports = ((record.rank, record.report) for record in state.members.values() if record.role == "worker")
    return {rank: report["data"] for rank, report in reports if "data" in report}

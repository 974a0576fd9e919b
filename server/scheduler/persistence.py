"""Persistence: saves what has changed of a scheduler's state, and takes a job up again from what was saved."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from ps.errors import ConfigError, PSError
from ps.server.scheduler.database import ROUND, Database
from ps.server.scheduler.member_record import DEAD, LIVE
from ps.server.scheduler.state import SchedulerState

log = logging.getLogger("ps.scheduler")

AGAIN = 1.0
"""Seconds after which a save is tried again that failed."""
SIGN = 1.0
"""Seconds between signs of life in the file."""
MAY_CHANGE = ("start_timeout", "idle_timeout")
"""Settings that concern nobody but the scheduler, and may be others after a restart."""


class Persistence:
    """Keeps a scheduler's state in a file, if there is one."""

    def __init__(self, path: str | None, wall: Callable[[], float] = time.time) -> None:
        """``wall`` returns the time of day: how long there was no scheduler is known by nothing else."""
        self._path = path
        self._database = Database(path)
        self._wall = wall
        self._saved_rounds = -1
        """How many rounds are saved in the history."""
        self._again = 0.0
        self._signed = 0.0

    def restore(self, explicit: Mapping[str, Any], now: float, *, is_first: bool = False) -> SchedulerState:
        """Return the state to begin with: the saved one, or a new one. Raises ConfigError for a file of another kind.

        ``is_first``: no process of the job lives, as nobody starts one before its scheduler. Then only rounds can be
        gone on with, which servers and clients keep on disk.

        A job that has ended stays ended. One that has failed is gone on with when its members keep their part of it
        (federated), otherwise a new one begins.
        """
        saved = self._database.load()
        if saved is None:
            return SchedulerState(explicit, now)
        try:
            outage = self._wall() - float(saved["alive"]) if "alive" in saved else 0.0
            state = SchedulerState.load(saved, now, outage)
            if state.rounds is not None and "rounds" in saved:
                state.rounds.load(saved["rounds"], saved.get("history", []), now)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError, PSError) as error:
            raise ConfigError(f"{self._path} does not hold a scheduler's state: {error!r}; move it away") from None
        if state.phase == "ended":
            log.warning("the job in %s has ended in good order; for another one give another --state", self._path)
            return state
        if is_first and state.phase != "failed" and state.rounds is None:
            what = "their parts of the model" if state.phase == "running" else "nothing yet"
            log.warning(
                "the job in %s was cut off, and its servers had %s in memory. A new one begins", self._path, what
            )
            return SchedulerState(explicit, now)
        if is_first:
            _bury(state, now)
        if state.phase == "failed":
            if state.rounds is None:
                log.warning("the job in %s has failed: %s. A new one begins", self._path, state.reason)
                return SchedulerState(explicit, now)
            log.warning("the job in %s had failed: %s. It is tried again", self._path, state.reason)
            _reopen(state)
        log.warning("going on with the job in %s: epoch %d, %s", self._path, state.epoch, state.phase)
        self._amend(state, explicit)
        return state

    def _amend(self, state: SchedulerState, explicit: Mapping[str, Any]) -> None:
        """Take what is given anew, as far as a job under way can, and name the rest."""
        differ = {name: value for name, value in explicit.items() if value != state.setting(name)}
        if new := {name: value for name, value in differ.items() if name in MAY_CHANGE}:
            _amend(state, new)
        for name, value in differ.items():
            flag = f"--{name.replace('_', '-')}"
            if name in new:
                log.warning("%s is %s from now on", flag, value)
            else:
                kept = state.setting(name)
                log.warning("%s %s is ignored: the job in %s goes on with %s", flag, value, self._path, kept)

    def keep(self, state: SchedulerState, now: float) -> None:
        """Save what has changed, once for all that came in one turn: it may be as much as there are members.

        What a full disk does not take stays marked as changed, and is tried again.
        """
        if now < self._again:
            return
        rounds = state.rounds
        parts: dict[str, Any] = {}
        if self._database.keeps and rounds is not None and rounds.changed:
            parts["rounds"] = rounds.dump()
            for entry in (entry for entry in rounds.history if entry["round"] >= self._saved_rounds):
                parts[f"{ROUND}{entry['round']}"] = entry
        if self._database.keeps and (state.changed or parts or now - self._signed >= SIGN):
            parts["alive"] = self._wall()
            if state.setting("dp") is not None:  # what was paid for must never be forgotten
                self._database.wait_for_disk()
            if not self._database.save(state.dump() if state.changed else None, parts):
                self._again = now + AGAIN
                return
            self._signed = now
        state.changed = False
        if rounds is not None:
            rounds.changed, self._saved_rounds = False, rounds.version

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()


def _amend(state: SchedulerState, settings: Mapping[str, Any]) -> None:
    """Give settings that concern nobody but the scheduler another value."""
    state.explicit |= settings
    state.job = dataclasses.replace(state.job, **settings) if state.job else None
    state.epoch += 1
    state.changed = True


def _bury(state: SchedulerState, now: float) -> None:
    """Take all members for dead: whatever started them has ended, and starts others now."""
    for record in [record for record in state.members.values() if record.state == LIVE]:
        state.lose(record, DEAD, "the run that it belonged to was cut off", now)


def _reopen(state: SchedulerState) -> None:
    """Go on with a job that failed, whose members have kept what they had."""
    state.phase, state.code, state.reason = "running", "", ""
    state.epoch += 1
    state.changed = True

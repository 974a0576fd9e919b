"""CutPlan: which checkpoint is to be made, as one worker has heard of it, and what it has done for it.

Two threads share it under a lock. The one that talks to the scheduler takes orders and says how far this worker is; the
script's says which clocks are done, and copies what the worker keeps just when the clock of the checkpoint is. While
the script waits in a barrier nothing of that changes, and the others may pass it over: once all servers have come to
the clock of the checkpoint, it is that. Before, the barrier may open, and steps that lead there are still to be done.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ps.checkpoint.manifest import FOLDER
from ps.protocol.messages import CheckpointOrder, CheckpointPart, Message
from ps.protocol.messages.words import CUT_OVER, PartState
from ps.worker.data_identity import DataIdentity

Write = Callable[[str], Mapping[str, Any]]
"""Writes what was copied into a folder; returns what the manifest has of it. Raises PSError."""


class CutPlan:
    """One cut at a time."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.over_at = -math.inf
        """When one that was being made was last heard to be whole, or given up."""
        self.is_last = False
        """Whether no other one comes."""
        self.capture: Callable[[], Write | None] = lambda: None
        """Copies what this worker keeps and returns what writes it; None where there is nothing."""
        self.is_empty: Callable[[], bool] = lambda: True
        """Whether there is nothing that ``capture`` would copy."""
        self.discard: Callable[[str], None] = lambda folder: None
        """Removes what was written into a folder."""
        self.steps: Callable[[], list[list[int]]] = list
        """Returns with which clocks batches were used, as the scheduler needs it for the manifest."""
        self.data = DataIdentity()
        """By what the data that this worker reads are known."""
        self.is_exact = True
        """Whether there is one clock for all; else what is kept is copied after the next step, whatever its clock."""
        self._lock = threading.Lock()
        self._number = 0
        self._clock: int | None = None
        self._folder = ""
        self._state: PartState = "here"
        self._why = ""
        self._about: Mapping[str, Any] = {}
        self._done = 0
        self._pausing = self._reached = False
        self._told = True

    # The script's thread

    def stepped(self, clock: int) -> None:
        """So many steps are done, and the next one has not begun."""
        self._done = clock  # before the look at what is wanted, which another thread may just be told
        if self._clock is not None:
            with self._lock:
                self._look()

    @property
    def is_under_way(self) -> bool:
        """Whether this worker knows of a checkpoint that is being made."""
        return self._state != "here"

    def waits_for(self, clock: int) -> bool:
        """Whether what this worker keeps is wanted as it is after so many steps."""
        return self._clock == clock

    def pause(self) -> None:
        """The script waits, and nothing of what this worker keeps changes until ``go_on``."""
        with self._lock:
            self._pausing = True
            self._look()

    def go_on(self, clock: int) -> None:
        """It goes on, perhaps with a later clock."""
        with self._lock:
            wanted = self._clock
            if self._pausing and wanted is not None and self._done <= wanted <= clock:  # it was passed over
                self._done = wanted
                self._look()
            self._pausing, self._done = False, clock
            self._look()

    def _look(self) -> None:
        """Do what is due, under the lock."""
        clock = self._clock
        if self._state != "marked" or clock is None:
            return
        stands = self._pausing and self._done <= clock and (self._reached or not self.is_exact or self.is_empty())
        if self._done < clock and not stands:
            return
        self._clock = None
        if self.is_empty():
            self._end("written", {})
        elif self._done > clock and self.is_exact:
            self._end("late", {})
        elif (write := self.capture()) is None:
            self._end("written", {})
        else:
            about = write, self._folder, self._number
            threading.Thread(target=self._run, args=about, name="ps-checkpoint", daemon=True).start()

    def _run(self, write: Write, folder: str, number: int) -> None:
        state: PartState = "written"
        about: Mapping[str, Any] = {}
        why = ""
        try:
            about = write(folder)
        except Exception as error:  # whatever a script's own function raises
            state, why = "failed", str(error) or repr(error)
        with self._lock:
            is_wanted = number == self._number and self._state == "marked"
            if is_wanted:
                self._why = why
                self._end(state, about)
        if not is_wanted:
            self.discard(folder)

    def _end(self, state: PartState, about: Mapping[str, Any]) -> None:
        self._state, self._about, self._told = state, about, False

    # Whoever talks to the scheduler

    def hear(self, order: CheckpointOrder) -> None:
        """Take an order."""
        with self._lock:
            if order.number == self._number and order.phase == "drop" and self._about:
                threading.Thread(target=self.discard, args=(self._folder,), name="ps-checkpoint", daemon=True).start()
            self.is_last = order.phase == "last"
            if order.phase in ("drop", "done"):
                self.over_at = self._now()
            if order.number != self._number or order.phase in CUT_OVER:
                self._number, self._state, self._clock, self._why, self._about = order.number, "here", None, "", {}
                self._reached = False
            self._told = False
            if order.phase == "reached":
                self._reached = True
                self._look()
            if order.phase != "mark" or self._state != "here" or FOLDER.fullmatch(order.folder) is None:
                return
            clock = order.clock if self.is_exact else self._done + (not self.is_empty())
            self._clock, self._folder, self._state = clock, order.folder, "marked"
            if self._done > clock or self._pausing or (self._done == clock and self.is_empty()):
                self._look()
            elif self._done == clock:  # between two steps, where the script may be about to change what it keeps
                self._clock = None
                self._end("late", {})

    def say(self, member: int) -> list[Message]:
        """Return what the scheduler is to hear, until it has been said once for each order and each change."""
        if self._told or not self._number:
            return []
        self._told = True
        steps = self.steps() if self._state in ("written", "late") else []
        about = {**self._about, **({"steps": steps} if steps else {})}
        return [CheckpointPart(member, self._number, self._state, self._done, self._done, self._why, about)]

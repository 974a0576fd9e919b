"""RoundLog: the rounds of a federated run, as its statuses have shown them and as the scheduler has told of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ps.errors import PSError
from ps.launch.summary import write_summary
from ps.record_files import ROUNDS, SUMMARY
from ps.whole import write_whole

Entry = dict[str, Any]


class RoundLog:
    """Collects rounds while a run goes on. The scheduler forgets old ones in its status; here they stay.

    An entry says when its round was published in seconds since the rounds began (``at``). When that was in Unix time
    follows from the statuses that were the first to show a round: they came after it.
    """

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}
        """The latest status of the rounds, without their history; empty in a job that is not federated."""
        self._entries: dict[int, Entry] = {}
        self._seen: dict[int, tuple[float, float]] = {}
        """Round -> Unix times of the last status without it and of the first with it."""
        self._origin = math.inf
        self._looked = -math.inf

    def add(self, status: Mapping[str, Any], now: float) -> None:
        """Take the status of a job, at Unix time ``now``."""
        found = status.get("federated")
        if isinstance(found, Mapping):
            self.status = {key: value for key, value in found.items() if key != "history"}
            self._note(found.get("history") or (), now)

    def complete(self, told: Iterable[tuple[float, Mapping[str, Any]]]) -> None:
        """Take what the scheduler has told of its rounds as they were published, in order: (Unix time, entry)."""
        for now, entry in told:
            self.add(entry, max(now, self._looked))

    def recall(self, history: Sequence[Entry], now: float) -> None:
        """Take the rounds that a scheduler has saved, at Unix time ``now``."""
        if history:
            before = self.status
            self.add({"federated": {"history": history}}, max(now, self._looked))
            self.status = {**before, "round": max(before.get("round") or 0, history[-1]["round"] + 1)}

    def _note(self, history: Any, now: float) -> None:
        for entry in history:
            if entry["round"] not in self._entries:
                self._entries[entry["round"]] = dict(entry)
                self._seen[entry["round"]] = self._looked, now
                self._origin = min(self._origin, now - entry["at"])
        self._looked = now

    def outcome(self) -> dict[str, Any]:
        """Return the status in the end, and how many contributions all rounds have accepted."""
        return {**self.status, "total_accepted": sum(entry.get("accepted", 0) for entry in self._entries.values())}

    def rounds(self) -> list[Entry]:
        """Return an entry for each published round, in order, with its Unix time as ``t``."""
        found = []
        for number in sorted(self._entries):
            entry, (before, after) = self._entries[number], self._seen[number]
            t = min(max(self._origin + entry["at"], before), after)
            found.append({**entry, "t": round(t, 3)})
        return found

    def write(self, path: Path) -> None:
        """Write the rounds, one JSON object in each line. Raises PSError."""
        write_whole(path, "".join(json.dumps(entry, default=str) + "\n" for entry in self.rounds()))


def write_record(directory: Path, summary: Mapping[str, Any], rounds: RoundLog, say: Callable[[str], None]) -> int:
    """Write what a run came to into the folder of its record; return the exit code for what could not be written."""
    try:
        if rounds.status:
            rounds.write(directory / ROUNDS)
        write_summary(summary, directory / SUMMARY)
        say(f"the record is in {directory}")
        return 0
    except PSError as error:
        say(f"error: the record is not complete, and the table shows what there is of it: {error}")
        return PSError.exit_code

"""SchedulerRecord: what a scheduler that was started by itself leaves of its job: its rounds, and a summary."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ps.launch.progress import last_measured
from ps.launch.round_log import RoundLog
from ps.launch.summary import Ends, kernels_of, summarize, write_summary
from ps.record_files import ROUNDS, SUMMARY

OFTEN = 10.0
"""Seconds between two writings of the rounds, at least."""


class SchedulerRecord:
    """Takes what a scheduler tells, and writes it into a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._rounds = RoundLog()
        self._begun = self._written = time.monotonic()

    def tell(self, entry: Mapping[str, Any]) -> None:
        """Take rounds that are done, or the status at the end. Raises PSError when nothing can be written."""
        now = time.monotonic()
        self._rounds.add(entry, time.time())
        is_last = "workers" in entry
        if self._rounds.status and (is_last or now - self._written > OFTEN):
            self._written = now
            self._rounds.write(self._directory / ROUNDS)
        if is_last:
            outcome = self._rounds.outcome() if self._rounds.status else None
            rows, deaths = entry["workers"], entry.get("deaths") or ()
            ends = Ends(0 if entry.get("phase") == "ended" else 4, now - self._begun)
            summary = summarize(
                [], ends, entry.get("job") or {}, deaths, outcome, rows, last_measured(rows), entry.get("stop")
            )
            told = {"reason": entry.get("reason", ""), "kernels": kernels_of(entry)}
            write_summary({**summary, **told}, self._directory / SUMMARY)

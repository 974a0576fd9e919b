"""DataIdentity: whether a worker that goes on from a checkpoint reads the data that it read before."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ps.data.fingerprint import fingerprint, other_data
from ps.errors import UsageError

log = logging.getLogger("ps.worker")

MOST_CALLS = 8
"""Calls of ``kv.batches`` whose data are remembered, the first ones; a script that has more mostly repeats them."""


class DataIdentity:
    """What the data of a worker's calls of ``kv.batches`` are known by: those of this run, and of a checkpoint."""

    def __init__(self) -> None:
        self.wanted = False
        """Whether anybody keeps it: whether there are checkpoints."""
        self._own: dict[str, dict[str, Any]] = {}
        self._known: dict[str, Mapping[str, Any]] = {}
        self._where = ""
        self._refuses = False

    def go_on(self, known: Any, where: str, *, refuses: bool) -> None:
        """Take what the checkpoint ``where`` has of this worker's data; ``refuses``: no others are gone on with.

        Raises UsageError where those of this run are others already.
        """
        if isinstance(known, Mapping):
            self._known = {str(call): about for call, about in known.items() if isinstance(about, Mapping)}
        self._where, self._refuses = where, refuses
        for call in self._own:
            self._compare(call)

    def look(self, call: int, source: Any) -> None:
        """Data are about to be gone through, in the call of this number. Raises UsageError where they are others."""
        if self.wanted and call < MOST_CALLS:
            self._own[str(call)] = fingerprint(source)
            self._compare(str(call))

    def _compare(self, call: str) -> None:
        for text in other_data(self._own[call], self._known.get(call, {})):
            which = "" if call == "0" else f" in its call {int(call) + 1}"
            found = f"kv.batches is given other data{which} than before {self._where}: {text}"
            if self._refuses:
                raise UsageError(f"{found}. Give an empty folder, or go on all the same with --resume")
            log.warning("%s: that counts from now on", found)

    def report(self) -> dict[str, Any]:
        """Return what heartbeats say of it, for the manifests of checkpoints."""
        found = {**self._known, **self._own}
        return {"data": found} if found else {}

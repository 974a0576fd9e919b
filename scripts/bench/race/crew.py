"""Crew: all processes of one case, from their start to their end."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from race.case import Case, Peer, Setup
from race.child import SPEC
from race.process import Process, hear, uninterrupted

HERE = Path(__file__).resolve().parents[1]

START, STOP = 120.0, 5.0
"""Seconds a process has to start, and to end before it is made to."""


class Crew:
    """The processes that do a setup's work as a case says. Between turns they block."""

    def __init__(self, case: Case, setup: Setup) -> None:
        self.case = case
        self.setup = setup
        self.directory = Path(tempfile.mkdtemp(prefix="ps-bench-"))
        self.servers: list[Process] = []
        self.ranks: list[Process] = []

    def start(self) -> None:
        """Start everything and have every rank do the first step. Raises Failed."""
        peer: Peer = importlib.import_module(self.case.module)
        meeting = peer.start(self.setup, self.case.options, self)
        for rank in range(self.case.ranks or self.setup.workers):
            self._child(self.ranks, "rank", rank, meeting)
        hear(self.ranks, START)

    def turn(self, steps: int, warm: int, timeout: float) -> float:
        """Return the seconds a step takes: from the first rank's begin to the last one's end, over ``steps``."""
        for rank in self.ranks:
            rank.tell(f"{steps} {warm}")
        times = [tuple(map(float, answer.split())) for answer in hear(self.ranks, timeout)]
        return (max(end for _, end in times) - min(begin for begin, _ in times)) / steps

    def close(self) -> None:
        """End all processes, politely at first, and remove what they left."""
        for rank in self.ranks:
            rank.dismiss()
        deadline = time.monotonic() + STOP
        for rank in self.ranks:
            rank.end(max(0.0, deadline - time.monotonic()), STOP)
        for server in reversed(self.servers):
            server.end(0.0, STOP)
        self.ranks, self.servers = [], []
        deadline = time.monotonic() + STOP  # one that was ended with a signal may have written there meanwhile
        while self.directory.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.directory, ignore_errors=True)
            time.sleep(0.01)

    # What a peer starts its servers with

    def server(self, index: int) -> str:
        """Start server ``index`` of the peer; return what it announces."""
        self._child(self.servers, "server", index)
        return hear(self.servers[-1:], START)[0]

    def command(self, name: str, command: list[str], env: Mapping[str, str]) -> str:
        """Start a command that announces itself as psctl's roles do; return what it announces."""
        self._start(self.servers, name, command, env)
        return hear(self.servers[-1:], START)[0]

    def _child(self, among: list[Process], role: str, index: int, meeting: str = "") -> None:
        spec = {
            "role": role,
            "index": index,
            "module": self.case.module,
            "options": dict(self.case.options),
            "setup": dataclasses.asdict(self.setup),
            "meeting": meeting,
        }
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
        env = {SPEC: json.dumps(spec), "PYTHONPATH": path}
        self._start(among, f"{role} {index}", [sys.executable, "-m", "race.child"], env)

    def _start(self, among: list[Process], name: str, command: list[str], env: Mapping[str, str]) -> None:
        with uninterrupted():  # a process that nobody knew would make its folder again after ``close``
            among.append(Process(name, command, env, self.directory / f"{name.replace(' ', '-')}.log"))

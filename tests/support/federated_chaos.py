"""A federated job under attack, for ``scripts/chaos``: anybody is killed or stands still, and all rounds are played.

Every client adds one to every weight in each round, so the weights say in the end how many rounds have counted.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from support.cluster import SCRIPTS, Cluster, Process

PATIENCE = 60.0
"""Seconds without a client's step that count as a hang: several deaths in a row cost a time-out each."""


@dataclass(slots=True, eq=False)
class Place:
    """A place in the job, ``server 1``, and the process that has it now.

    ``back`` is when one that was killed is started again, or one that stands still goes on; ``harmed``: it may end
    because the others have given it up.
    """

    role: str
    rank: int
    process: Process
    back: float | None = None
    still: bool = False
    harmed: bool = False

    @property
    def name(self) -> str:
        return self.role if self.role == "scheduler" else f"{self.role} {self.rank}"


class FederatedChaos:
    """Harms and mends the processes of one job until its rounds are done."""

    def __init__(self, seed: int, servers: int, clients: int, rounds: int, timeout: float, transport: str) -> None:
        self.random = random.Random(seed)
        self._timeout = timeout
        self._rounds = rounds
        self._began = self._moved = time.monotonic()
        self._fits = 0
        self.longest = 0.0
        self.done: Counter[str] = Counter()
        job = {"mode": "federated", "rounds": rounds, "min_clients": 1, "round_deadline": timeout, "chunk_size": 1024}
        job |= {"heartbeat_timeout": timeout, "start_timeout": PATIENCE, "transport": transport}
        self.cluster = Cluster(servers=servers, workers=clients, state=True, durable=True, **job)
        self._places = [Place("scheduler", 0, self.cluster.scheduler)]
        self._places += [Place("server", rank, process) for rank, process in enumerate(self.cluster.servers)]
        self._places += [Place("client", rank, self._client(rank)) for rank in range(clients)]

    def _client(self, rank: int) -> Process:
        state = {"PS_STATE": str(self.cluster.path(f"client-{rank}.state"))}
        return self.cluster.worker(str(SCRIPTS / "client.py"), "--nap", 0.1, rank=rank, **state)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:7.2f} s  {text}", flush=True)

    def wait_until_ready(self) -> None:
        """Wait until the clients are at work: before that a death has other consequences."""
        for place in self._places:
            if place.role == "client":
                place.process.wait_for("^fit ")

    def act(self) -> None:
        """Kill a process, or have it stand still for less or more than the time-out."""
        well = [place for place in self._places if place.back is None and place.process.code is None]
        if len([place for place in well if place.role == "client"]) < 2:
            well = [place for place in well if place.role != "client"]
        role = self.random.choice(["scheduler", "server", "client"])
        candidates = [place for place in well if place.role == role]
        if not candidates:
            return
        place, now = self.random.choice(candidates), time.monotonic()
        what = self.random.choice(["kill", "kill", "stop for long", "stop briefly"])
        if what == "kill":
            place.process.kill()
            place.back = now + self.random.choice([0.0, 0.3, self._timeout + 0.5])
        else:
            place.process.stop()
            place.still = True
            place.harmed |= what == "stop for long"
            place.back = now + (2 * self._timeout + 0.5 if what == "stop for long" else 0.3)
        self.done[f"{what}: a {role}"] += 1
        self.say(f"{what}: {place.name}")

    def tend(self, everything: bool = False) -> bool:
        """Bring back what was to be away for a while, and look whether all are well; return whether all is done."""
        now = time.monotonic()
        for place in self._places:
            if place.back is not None and (now >= place.back or everything):
                place.back = None
                if place.still:
                    place.still = False
                    place.process.resume()
                else:
                    self._replace(place)
            elif place.back is None and place.process.code not in (None, 0):
                if not (place.harmed and place.process.code == 4):
                    raise AssertionError(_ending(place.process))
                self.done[f"a {place.role} was given up while it stood still"] += 1
                self._replace(place)
        self._watch(now)
        return all(place.process.code == 0 for place in self._places if place.role == "client")

    def _replace(self, place: Place) -> None:
        place.harmed = False
        if place.role == "scheduler":
            place.process = self.cluster.start_scheduler()
        elif place.role == "server":
            place.process = self.cluster.restart_server(place.rank)
        else:
            place.process = self._client(place.rank)

    def _watch(self, now: float) -> None:
        fits = sum(process.count("fit") for process in self.cluster.workers)
        if fits > self._fits:
            self._fits, self._moved = fits, now
        self.longest = max(self.longest, now - self._moved)
        if now - self._moved > PATIENCE:
            raise AssertionError(f"no step for {PATIENCE:g} s")

    def finish(self) -> str:
        """Leave everybody alone until all rounds are played; return what all agree about."""
        self.tend(everything=True)
        while not self.tend():
            time.sleep(0.05)
        finals = {place.process.wait_for("^final (.*)$")[1] for place in self._places if place.role == "client"}
        if finals != {f"{self._rounds} of 1"}:
            raise AssertionError(f"after {self._rounds} rounds the weights are {finals}")
        for place in self._places:
            if place.process.wait(PATIENCE) != 0:
                raise AssertionError(_ending(place.process))
        return f"{self._rounds} rounds, each of which has counted once"


def _ending(process: Process) -> str:
    return f"{process.name} ended by itself with {process.code}:\n{process.text[-3000:]}"

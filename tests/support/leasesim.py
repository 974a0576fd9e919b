"""LeaseSim: workers that go through a course of batches with the real leases of a scheduler, as a seed decides.

Workers come late, leave, break off and die; the scheduler is replaced by what it saved; messages are delayed, said
again, and lost with the one that they were for; checkpoints are cut, and all may be killed and go on from one with
another number of workers. What servers count is known, so at the end it is seen how often each batch counted.
"""

from __future__ import annotations

import json
import random
from collections import Counter, deque
from typing import Any

from ps.protocol.messages import Lease, LeaseRequest
from ps.server.scheduler.leases import Among, Leases, points_of
from ps.server.scheduler.leasing import DataCut, begun
from ps.server.scheduler.member_record import MemberRecord

EVENTS = 30_000
"""More is a hang."""


class Job:
    """What leases must know of the job's settings."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.lockstep = mode == "sync"
        self.min_workers: int | None = None


class SimWorker:
    """A script in its loop over ``kv.batches``."""

    def __init__(self, rank: int, member: int, clock: int) -> None:
        self.rank, self.member, self.clock = rank, member, clock
        self.record = MemberRecord(member, member, "worker", rank, "h", 1, ())
        self.cells = deque[int]()
        self.pushed: int | None = None
        self.used = self.number = 0
        self.asked: LeaseRequest | None = None
        self.fresh = False
        self.none = False
        """Whether there is nothing for it without waiting."""
        self.aside = self.ended = False
        self.jumps: list[list[int]] = []
        self.out = deque[Any]()
        self.inbox = deque[Lease]()


class LeaseSim:
    """One course, from its begin or a checkpoint to its end."""

    def __init__(self, seed: int, mode: str, *, deaths: bool, cells: int | None = None) -> None:
        self.random = random.Random(seed)
        self.mode, self.deaths = mode, deaths
        self.job = Job(mode)
        self.size = self.random.randrange(1, 5)
        self.steps = self.random.randrange(1, 30)
        self.epochs = self.random.randrange(1, 4)
        self.cells = cells or self.steps * self.size * self.epochs
        self.counted = Counter[int]()
        self.died = 0
        self.begin({})

    def begin(self, data: dict[str, Any]) -> None:
        """Begin, or go on with what a checkpoint says."""
        self.job.min_workers = self.random.choice((None, 1))
        self.leases = begun(self.job, data)  # type: ignore[arg-type]
        self.saved = json.dumps(self.leases.dump())
        self.workers: list[SimWorker] = []
        self.clocks: dict[int, int] = {}
        """Rank -> clocks of it that are counted, of whoever has or had it last."""
        self.clock = 0
        self.members = 0
        self.cut: dict[str, Any] | None = None
        self.cuts = 0
        for _ in range(self.size):
            self.join()

    # Members

    def join(self) -> None:
        taken = {worker.rank for worker in self.workers}
        rank = next(rank for rank in range(100) if rank not in taken)
        self.members += 1
        slowest = min((worker.clock for worker in self.workers), default=0)
        clock = self.clock if self.job.lockstep else max(slowest, self.clocks.get(rank, 0))
        self.workers.append(SimWorker(rank, self.members, clock))
        self.clocks[rank] = clock

    @property
    def among(self) -> Among:
        live = sorted((worker.rank, worker.member) for worker in self.workers)
        return Among(tuple(live))

    def lose(self, worker: SimWorker) -> None:
        self.workers.remove(worker)
        self.perform(self.leases.lose(worker.member, lambda: self.among))
        self.close_clock()

    # What a script does

    def say(self, worker: SimWorker, wait: Any) -> None:
        worker.number += 1
        want = self.random.choice((0, 1, 3, 10, 100))
        about = 0, 1000, 10, self.epochs, self.size, self.cells
        request = LeaseRequest(worker.number, worker.member, *about, worker.used, worker.clock, want, wait)
        worker.out.append(request)
        worker.asked = None if wait == "back" else request

    def turn(self, worker: SimWorker) -> None:
        """Have the script go on, if it can."""
        if worker.pushed is not None or worker.ended:
            return
        if worker.cells:
            worker.pushed = worker.cells.popleft()
            if worker.fresh and worker.asked is None:
                self.say(worker, "no")
            worker.fresh = False
            if not self.job.lockstep:
                self.count(worker)
            self.close_clock()
        elif worker.asked is None:
            self.say(worker, "here" if worker.none else "no")

    def count(self, worker: SimWorker) -> None:
        assert worker.pushed is not None
        self.counted[worker.pushed] += 1
        self.clocks[worker.rank] = worker.clock + 1

    def acknowledged(self, worker: SimWorker) -> None:
        worker.pushed = None
        worker.used += 1
        worker.clock += 1

    def close_clock(self) -> None:
        """In lockstep: all who take part have given theirs."""
        if not self.job.lockstep:
            return
        taking = [worker for worker in self.workers if not worker.aside and not worker.ended]
        if taking and all(worker.pushed is not None for worker in taking):
            for worker in taking:
                self.count(worker)
                self.acknowledged(worker)
            self.clock += 1
            if self.cut is not None and self.cut["clock"] == self.clock:
                self.look_at_servers()

    def answered(self, worker: SimWorker, lease: Lease) -> None:
        if worker.asked is None or lease.request != worker.asked.request:
            return
        waited, worker.asked = worker.asked.wait, None
        if lease.state == "aside":
            worker.aside = True
            self.say(worker, "aside")
            self.close_clock()
            return
        if worker.aside:
            worker.aside = False
            before, worker.clock = worker.clock, self.clock if self.job.lockstep else worker.clock
            if worker.clock != before:
                worker.jumps.append([0, worker.used, worker.clock])
            self.clocks[worker.rank] = worker.clock
        if lease.state == "end":
            worker.ended = True
            self.close_clock()
        elif lease.state == "none":
            worker.none = True
        else:
            worker.none = False
            worker.cells.extend(cell for a, b, n in lease.runs for cell in range(a, a + b * n, b))
            worker.fresh = bool(lease.left)
            worker.none = not lease.left and waited == "no" and False

    # The scheduler

    def rows(self, worker: SimWorker) -> list[list[int]]:
        return [[0, worker.used, worker.clock, int(worker.ended)]]

    def hear(self, worker: SimWorker, message: Any) -> None:
        if isinstance(message, dict):
            if self.cut is not None:
                self.cut["parts"].setdefault(worker.rank, message)
        elif isinstance(message, LeaseRequest):
            self.perform(self.leases.ask(worker.record, message, lambda: self.among))
        elif worker.number:
            self.perform(self.leases.hear(worker.record, message, lambda: self.among))

    def drain(self, worker: SimWorker) -> None:
        while worker.out:
            self.hear(worker, worker.out.popleft())

    def perform(self, sends: list[Any]) -> None:
        if self.leases.changed:
            self.saved, self.leases.changed = json.dumps(self.leases.dump()), False
        for send in sends:
            worker = next((each for each in self.workers if each.member == send.to), None)
            if worker is not None:
                worker.inbox.append(send.message)

    def restart(self) -> None:
        """Another scheduler goes on with what was saved; what was on its way to this one and from it is lost."""
        self.leases = Leases.load(json.loads(self.saved))
        self.cut = None
        gone = {m for course in self.leases.courses.values() for m in course.holdings}
        for worker in self.workers:
            worker.out.clear()
            worker.inbox.clear()
        for member in gone - {worker.member for worker in self.workers}:
            self.perform(self.leases.lose(member, lambda: self.among))

    # Checkpoints

    def mark(self) -> None:
        self.cuts += 1
        self.leases.follow(self.cuts)
        self.cut = {"clock": self.clock + self.random.randrange(1, 3), "parts": {}}
        if not self.job.lockstep and self.random.random() < 0.5:
            self.look_at_servers()

    def look_at_servers(self) -> None:
        assert self.cut is not None
        self.cut |= {"clocks": dict(self.clocks), "counted": Counter(self.counted), "died": self.died}
        for worker in self.workers:  # what it has said before is heard before its part, and that before the rest
            worker.out.append(self.part_of(worker))

    def part_of(self, worker: SimWorker) -> dict[str, Any]:
        return {"steps": [*worker.jumps, [0, worker.used, worker.clock]], "member": worker.member}

    def seal(self) -> None:
        """All have written: see that the manifest has what is not used, and perhaps go on from it alone."""
        cut = self.cut
        assert cut is not None
        if "clocks" not in cut:
            if self.job.lockstep:
                return
            self.look_at_servers()
        for worker in self.workers:
            self.drain(worker)
            cut["parts"].setdefault(worker.rank, self.part_of(worker))  # of one that has come since
        clocks = cut["clocks"]
        data = json.loads(json.dumps(DataCut(self.leases, cut["parts"]).data(lambda rank: clocks.get(rank, 0))))
        self.cut = None
        self.leases.follow(0)
        left = Counter[int]()
        for course in data["courses"]:
            left.update(cell for a, b, n in course["left"] for cell in range(a, a + b * n, b))
            left.update(course["at"].values())
        if not data["courses"] and not data["over"]:
            left.update(range(self.cells))
        missing = set(range(self.cells)) - set(cut["counted"]) - set(left)
        assert not missing, f"lost by a checkpoint: {sorted(missing)[:9]}"
        if not self.died:
            twice = set(cut["counted"]) & set(left)
            assert not twice, f"in a checkpoint and open in it: {sorted(twice)[:9]}"
        if self.random.random() < 0.2:
            self.counted = cut["counted"]
            self.died = cut["died"] if not self.died else self.died
            self.size = self.random.randrange(1, 6)
            self.begin(data)

    # All

    def run(self) -> None:
        """Go on until all workers have ended."""
        for _ in range(EVENTS):
            if not self.workers:
                self.join()
            if all(worker.ended for worker in self.workers) and not self.cut:
                begun = self.leases.courses or self.leases.over
                if begun and (not self.died or not any(course.open for course in self.leases.courses.values())):
                    return
                self.join()  # whoever was in the midst of it has died, and the others had broken off
            self.event()
        states = [(w.rank, w.ended, w.aside, w.pushed, w.used, w.asked) for w in self.workers]
        raise AssertionError(f"a hang: {states}, {self.leases.courses}")

    def event(self) -> None:
        chance, worker = self.random.random(), self.random.choice(self.workers)
        others = any(not other.ended for other in self.workers if other is not worker)
        rests = others and worker.pushed is None and not worker.aside
        if chance < 0.004 and self.deaths:
            self.died += 1
            self.lose(worker)
        elif chance < 0.008 and rests:
            worker.out.append(self.rows(worker))  # its goodbye says how far it is
            self.drain(worker)
            self.lose(worker)
        elif chance < 0.010 and rests and not worker.ended:
            self.say(worker, "back")
            worker.ended = True
            worker.cells.clear()
            self.close_clock()
        elif chance < 0.016 and len(self.workers) < 6:
            self.join()
        elif chance < 0.020:
            self.restart()
        elif chance < 0.03 and self.cut is None:
            self.mark()
        elif chance < 0.06 and self.cut is not None:
            self.seal()
        elif chance < 0.12:
            worker.out.append(self.rows(worker))
        elif chance < 0.2 and worker.asked is not None:
            worker.out.append(worker.asked)
        elif chance < 0.4 and worker.out:
            self.hear(worker, worker.out.popleft())
        elif chance < 0.6 and worker.inbox:
            self.answered(worker, worker.inbox.popleft())
        elif chance < 0.8:
            self.turn(worker)
        elif worker.pushed is not None and not self.job.lockstep:
            self.acknowledged(worker)

    def check(self) -> None:
        """Each batch was used: at least once, and exactly once where nobody has died."""
        missing = [cell for cell in range(self.cells) if not self.counted[cell]]
        assert not missing, f"never used: {missing[:9]}"
        if not self.died:
            again = [cell for cell, times in self.counted.items() if times > 1]
            assert not again, f"used again: {again[:9]}"
        assert points_of([[0, 1, 2], [0, -1, 2], 5]) == {0: [(1, 2)]}

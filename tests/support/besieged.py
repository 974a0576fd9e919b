"""Besieged: a running job of real processes, attacked by strangers and by a member who lies, over real sockets.

What is said is made from the declarations, see ``schema``. Every process must live, the honest workers' steps go on,
memory stay bounded, and the job end as asked. By hand: ``scripts/attack --mode ssp --seconds 120``.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import zmq

from ps.protocol import messages as m
from ps.protocol.layout import Layout
from support import strangers
from support.cluster import SCRIPTS, Cluster, live_workers
from support.schema import extreme, fields_of
from support.strangers import Ended, Target

STEADY = str(SCRIPTS / "steady.py")
MODEL = {"w": np.zeros((300, 7), np.float32), "b": np.zeros(320, np.float32), "d": np.zeros(40)}
"""As in steady.py."""
CHUNK = 1024
SERVERS, HONEST = 2, 2
MOST_RSS = (512 << 20) + (300 << 20)
"""What a message without an end may take, and what the process itself does."""
STALLED = 25.0
"""Seconds in which every honest worker must have taken a step."""
LAYOUT = Layout.of(MODEL)
TO_SERVER = [
    m.Attach,
    m.Start,
    m.Suspend,
    m.Init,
    m.InitChunk,
    m.Push,
    m.PartialPush,
    m.Skip,
    m.Veto,
    m.Pull,
    m.PullInPlace,
    m.Scale,
    m.Inquire,
]
TO_SERVER += [m.Upload, m.Resume, m.Identify, m.Ping, m.Share]
TO_SCHEDULER = [m.Heartbeat, m.InitRequest, m.InitDone, m.BarrierEnter, m.StatusRequest, m.Ping, m.Poll, m.Submit]
TO_SCHEDULER += [m.Decline, m.Identify, m.RoundStatus, m.Leave]
SAFE = (0.0, 1e-3, -1e-3)


class Liar:
    """A member who joins properly and then says anything."""

    def __init__(self, siege: Siege, seed: int) -> None:
        self.siege, self.chance, self.context = siege, random.Random(seed), zmq.Context()
        self.said: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()
        self.clock = 0
        self.seat: m.Welcome | None = None
        self.lives = 0
        self.chunks = LAYOUT.chunks(SERVERS, CHUNK)
        self.task: m.Assign | None = None
        self.servers: list[Target] = []
        self.numbers = 1000
        self.codes: set[str] = set()
        """Errors that the scheduler has said of late."""

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def join(self) -> None:
        """Say Hello until there is a seat and the job runs, and Identify to the servers."""
        for target in self.servers:
            target.socket.close(0)
        self.scheduler = Target(self.context, self.siege.cluster.address)
        hello = m.Hello(0, self.chance.getrandbits(62), "worker", -1, "liar", 1, "", (), {})
        view: m.View | None = None
        self.seat = None
        while self.seat is None or view is None:
            self.siege.check()
            self.scheduler.say(hello if self.seat is None else m.Heartbeat(self.seat.member, 0, {}))
            for message in self.scheduler.hear(0.5):
                if isinstance(message, m.Welcome):
                    self.seat = message
                if isinstance(message, m.View) and message.phase == "running":
                    view = message
        rows = sorted((row for row in view.members if row[1] == "server"), key=lambda row: row[2])
        self.members = [row[0] for row in view.members]
        addresses = [self.chance.choice([a for a in row[5] if a.startswith(("tcp", "ipc"))]) for row in rows]
        self.servers = [Target(self.context, address) for address in addresses]
        for target in self.servers:
            target.say(self.identify())
        self.lives += 1
        self.epoch = view.epoch

    def identify(self) -> m.Identify:
        assert self.seat is not None
        return m.Identify(0, self.seat.job_id, self.seat.member, self.seat.rank, self.seat.number, self.seat.proof)

    def turn(self) -> None:
        """A burst of lies, and then out of the others' way."""
        chance = self.chance
        storm = chance.choice([None, None, None, *TO_SERVER, *TO_SCHEDULER])
        if storm is m.Leave:
            storm = None
        until = time.monotonic() + chance.choice((0.1, 0.5, 1.5))
        steady = chance.random() < 0.3
        while time.monotonic() < until:
            self.siege.check()
            to_server = (
                chance.random() < 0.7
                if storm is None
                else storm in TO_SERVER and (storm not in TO_SCHEDULER or chance.random() < 0.5)
            )
            cls = storm or chance.choice(TO_SERVER if to_server else TO_SCHEDULER)
            if cls is m.Leave and chance.random() < 0.98:
                continue
            target = chance.choice(self.servers) if to_server else self.scheduler
            message, payload = self.lie(cls)
            if target.say(message, payload):
                self.said[cls.__name__] += 1
            if steady:
                time.sleep(0.001)
            if chance.random() < 0.05:
                self.listen()
        for target in self.servers:
            assert self.seat is not None
            target.say(self.identify())
            while not target.say(m.Suspend(self.number(), self.seat.member)):
                self.siege.check()
        self.listen()
        self.scheduler.say(self.identify())
        self.scheduler.say(m.Heartbeat(self.seat.member, self.epoch, {}))
        pause = time.monotonic() + chance.choice((0.05, 0.3, 1.0))
        while time.monotonic() < pause:
            self.listen(0.02)
        if "evicted" in self.codes:
            self.join()
        if self.siege.mode == "federated" and chance.random() < 0.5:
            self.scheduler.say(m.Poll(self.number(), self.seat.member, -1, {}))

    def listen(self, seconds: float = 0.0) -> None:
        """Learn the clock, and a task."""
        self.codes = set()
        for target in (self.scheduler, *self.servers):
            for message in target.hear(seconds):
                self.heard[type(message).__name__] += 1
                if isinstance(message, m.Error):
                    self.heard[message.code] += 1
                    if target is self.scheduler:
                        self.codes.add(message.code)
                if isinstance(message, m.Attached | m.BarrierLeave) and message.clock < 1 << 40:
                    self.clock = message.clock
                if isinstance(message, m.Weights | m.Pushed) and self.siege.mode == "sync":
                    self.clock = message.version
                if isinstance(message, m.View):
                    self.epoch = message.epoch
                if isinstance(message, m.Assign):
                    self.task = message

    def lie(self, cls: type[m.Message]) -> tuple[m.Message, bytes | None]:
        """Return something of this kind that may be nearly right."""
        chance = self.chance
        assert self.seat is not None
        near: dict[str, Any] = {"member": self.seat.member}
        if chance.random() < 0.1:
            near["member"] = chance.choice(self.members)
        if chance.random() < 0.9:
            near |= {"chunk": chance.randrange(len(self.chunks)), "request": self.number(), "epoch": self.epoch}
        if chance.random() < 0.8:
            near |= {
                "clock": max(0, self.clock + chance.randrange(-1, 3)),
                "version": self.clock,
                "rank": self.seat.rank,
            }
        if chance.random() < 0.7:
            near |= {"layout": LAYOUT.pack(), "servers": SERVERS, "chunk_size": CHUNK, "role": "worker"}
        if chance.random() < 0.7:
            near |= {"scale": 1.0, "examples": 8.0, "absent": ()}
        if not self.siege.poison or chance.random() < 0.8:
            near["rates"] = ()
        if self.task is not None and chance.random() < 0.8:
            near |= {
                "task": self.task.task,
                "round": self.task.round,
                "token": self.task.token,
                "version": self.task.round,
            }
        if cls is m.Identify and chance.random() < 0.5:
            near |= {"job_id": self.seat.job_id, "number": self.seat.number, "proof": self.seat.proof}
        if cls is m.Heartbeat and chance.random() < 0.5:
            near["report"] = {"t": "x" * 16_000}
        message = extreme(cls, chance, **{name: value for name, value in near.items() if name in fields_of(cls)})
        if not cls.payload:
            return message, None
        index = getattr(message, "chunk", 0)
        chunk = self.chunks[index if index < len(self.chunks) else 0]
        values: tuple[float, ...] = SAFE
        if self.siege.poison:
            values = (*SAFE, float("nan"), float("inf"), 3e38)
        if chance.random() < 0.1:
            return message, chance.randbytes(chance.choice((0, 1, chunk.nbytes - 1, chunk.nbytes + 1, 100_000)))
        return message, np.full(chunk.size, chance.choice(values), chunk.dtype).tobytes()

    def run(self) -> None:
        """Until the time is over; it leaves in good order then."""
        try:
            self.join()
            self.siege.ready.wait(60)
            assert self.seat is not None
            self.scheduler.say(m.InitRequest(self.number(), self.seat.member, LAYOUT.pack()))
            while True:
                self.turn()
        except Ended:
            pass
        finally:
            end = time.monotonic() + 20
            while self.seat is not None and time.monotonic() < end:
                for target in self.servers:
                    target.say(self.identify())
                    target.say(m.Suspend(self.number(), self.seat.member))
                self.scheduler.say(self.identify())
                self.scheduler.say(m.Leave(7, self.seat.member, {}))
                if (
                    any(isinstance(x, m.Ok) and x.request == 7 for x in self.scheduler.hear(0.3))
                    or "evicted" in self.codes
                ):
                    break
                self.listen()
            self.context.destroy(linger=0)


class Siege:
    """One job and its attackers."""

    def __init__(
        self, mode: str, transport: str, seconds: float, seed: int, who: set[str], poison: bool, **job: Any
    ) -> None:
        self.mode, self.seconds, self.seed, self.who, self.poison = mode, seconds, seed, who, poison
        self.transport, self.job = transport, job
        self.over, self.ready = threading.Event(), threading.Event()
        self.failures: list[str] = []
        self.did: Counter[str] = Counter()

    def check(self) -> None:
        """Raise Ended when the time is over."""
        if self.over.is_set():
            raise Ended

    def run(self) -> None:
        liars = "member" in self.who
        federated = self.mode == "federated"
        job = {"mode": self.mode, "chunk_size": CHUNK, "heartbeat_timeout": 5, "transport": self.transport, **self.job}
        if federated:
            job |= {"rounds": 400, "round_deadline": 4}
            job.pop("optimizer", None)
        with Cluster(servers=SERVERS, workers=HONEST + liars, **job) as cluster:
            self.cluster = cluster
            over = cluster.path("over")
            nap = "0.3" if federated else "0.02"
            flags = ["--federated"] if federated else ["--set-lr", "30"] if not self.poison else ["--wild"]
            if not liars:
                flags += ["--barriers", "50"] if not federated else []
            workers = [cluster.worker(STEADY, over, "--nap", nap, *flags) for _ in range(HONEST)]
            threads = []
            liar = Liar(self, self.seed)
            if liars:
                threads.append(threading.Thread(target=self._guard, args=(liar.run,)))
                threads[0].start()
            for worker in workers:
                worker.wait_for(
                    "clock [1-9]" if not liars or self.mode != "sync" else "ready" if not federated else "clock", 60
                )
            self.ready.set()
            rows = cluster.status()["servers"]
            self.addresses = [cluster.address, *(a for row in rows for a in row["addresses"])]
            if "stranger" in self.who:
                for number, attack in enumerate(strangers.ALL):
                    threads.append(
                        threading.Thread(
                            target=self._guard, args=(attack, self, random.Random(f"{self.seed}/{number}"))
                        )
                    )
                    threads[-1].start()
            self._watch(workers)
            self.over.set()
            over.touch()
            for thread in threads:
                thread.join(60)
                if thread.is_alive():
                    self.failures.append(f"an attacker's thread hangs: {thread}")
            for process in [*workers, cluster.scheduler, *cluster.servers]:
                try:
                    if (code := process.wait(60)) != 0:
                        self.failures.append(f"{process.name} ended with {code}:\n{process.text[-1500:]}")
                except AssertionError as error:
                    self.failures.append(str(error)[-1500:])
            for process in [*workers, cluster.scheduler, *cluster.servers]:
                if "Traceback" in process.text:
                    self.failures.append(f"{process.name} has a traceback:\n{process.text[-3000:]}")
        print(f"liar: {liar.lives} lives, said {liar.said.total()} {dict(liar.said)}, heard {dict(liar.heard)}")
        print(f"strangers: {dict(self.did)}")

    def _guard(self, work: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(Ended):
            try:
                work(*args)
            except Ended:
                raise
            except Exception as error:
                import traceback

                self.failures.append(f"an attacker ended: {error!r}\n{traceback.format_exc()}")

    def _watch(self, workers: list[Any]) -> None:
        processes = [*workers, self.cluster.scheduler, *self.cluster.servers]
        most = dict.fromkeys((p.name for p in processes), 0)
        began = time.monotonic()
        steps = {w.name: (0, began) for w in workers}
        first = {p.name: p.rss() for p in processes}
        longest = 0.0
        while time.monotonic() < began + self.seconds and not self.failures:
            time.sleep(0.5)
            now = time.monotonic()
            for process in processes:
                if process.code is not None:
                    self.failures.append(f"{process.name} ended with {process.code}:\n{process.text[-2500:]}")
                    continue
                most[process.name] = max(most[process.name], process.rss())
                if most[process.name] > MOST_RSS:
                    self.failures.append(f"{process.name} has grown to {most[process.name] >> 20} MiB")
            for worker in workers:
                count, since = steps[worker.name]
                new = worker.count("clock")
                if new > count:
                    longest = max(longest, now - since)
                    steps[worker.name] = new, now
                elif now - since > STALLED:
                    lines = [p.text[-1500:] for p in processes]
                    self.failures.append(
                        f"{worker.name} took no step for {STALLED} s, after {count}\n" + "\n--\n".join(lines)
                    )
        with contextlib.suppress(Exception):
            status = self.cluster.status()
            print("rejected:", status["scheduler"]["rejected"], [s["rejected"] for s in status["servers"]])
            print("clocks:", [w["clock"] for w in live_workers(status)], [s.get("clock") for s in status["servers"]])
        print(f"steps {[c for c, _ in steps.values()]}, longest without one {longest:.1f} s")
        print("MiB:", {n: (first[n] >> 20, v >> 20) for n, v in most.items()})


def main() -> int:
    """Attack one job, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", default="sync")
    parser.add_argument("--transport", default="tcp")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--who", default="stranger,member")
    parser.add_argument("--poison", action="store_true", help="gradients that are not finite, rates that are absurd")
    parser.add_argument("--job", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    job = dict(pair.split("=", 1) for pair in asked.job)
    siege = Siege(
        asked.mode, asked.transport, asked.seconds, asked.seed, set(asked.who.split(",")), asked.poison, **job
    )
    siege.run()
    for failure in siege.failures:
        print("FAILED:", failure)
    return 1 if siege.failures else 0


if __name__ == "__main__":
    sys.exit(main())

"""RayJob: a job's processes on Ray from their start to their end: what they print is shown, what is lost begins again.

A process is one of ours, that an actor watches. A worker that is lost (its node, its actor, or itself was killed) is
started again wherever Ray has room; so is a server that has a standby. If the job has lost what it cannot go on
without, and keeps something, all of it begins again from that: another life of the job.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ps.config.mode import FEDERATED, PIPELINE
from ps.engines.workload import Workload
from ps.launch.child import TAIL_LINES
from ps.launch.policy import FOR_WANT, Action, Exit, FailurePolicy, Restart, Say, Stop, describe, name_of
from ps.launch.run_result import RunResult
from ps.launch.scope import runtime_directory, signals_into
from ps.launch.screen import Screen
from ps.ray.cluster import Event, RayCluster, RayProcess
from ps.ray.commands import RayCommands
from ps.ray.options import RayOptions
from ps.ray.start import ProcessLost, ProcessNews, StartedAt
from ps.text import counted

TICK = 0.1
AGAIN = 1.0
"""Seconds before an actor is tried anew whose node was gone before it began."""
AFTER_WORKERS = 2.0
"""Seconds that servers and scheduler have to end by themselves, after the workers."""
KILLED = -int(signal.SIGKILL)


class RayRoom(Protocol):
    """What a job needs of a cluster; tests have one without Ray."""

    def prepare(self, number: int, bundle: Any) -> Any: ...
    def begin(self, actor: Any, start: Any) -> RayProcess: ...
    def events(self, limit: float) -> Any: ...
    def ask(self, process: RayProcess, grace: float) -> None: ...
    def forget(self, process: RayProcess) -> None: ...
    def release(self, actor: Any) -> None: ...


def run_job(work: Workload, options: RayOptions, screen: Screen) -> RunResult:
    """Run a job on Ray to its end. Whatever happens, nothing of it is left running there. Raises PSError."""
    received: list[int] = []
    cluster = RayCluster(options)
    try:
        with signals_into(received), runtime_directory(None) as directory:
            commands = RayCommands(work, options, directory, is_placed=cluster.places_processes)
            bundles = [commands.bundle(role) for role, _ in commands.roles]
            if not cluster.reserve(bundles, screen.say, lambda: bool(received)):
                return RunResult(128 + received[0], signal=received[0])
            return RayJob(work, commands, cluster, screen, received, options).run()
    finally:
        cluster.close()
        screen.close()


class RayJob:
    """One job, in one life after another."""

    def __init__(
        self,
        work: Workload,
        commands: RayCommands,
        room: RayRoom,
        screen: Screen,
        received: list[int],
        options: RayOptions,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._commands, self._room, self._screen = work, commands, room, screen
        self._received, self._options, self._clock = received, options, clock
        self._numbers = {each: number for number, each in enumerate(commands.roles)}
        self._restarts = int(work.process.get("restarts", 3))

    def run(self) -> RunResult:
        """Return how the job ended."""
        life = 1
        while True:
            one = _Life(self, life)
            result = one.run()
            if result.signal or not one.was_lost or not self._work.keeps or life > self._options.retries:
                return result
            self._screen.say(
                f"the job begins again from what it has kept, {life} of at most {self._options.retries} times"
            )
            life += 1


class _Life:
    """A job from the start of its processes to the end of all."""

    def __init__(self, job: RayJob, number: int) -> None:
        self._job, self._number = job, number
        self._room, self._screen, self._commands = job._room, job._screen, job._commands
        work = job._work
        self._policy = FailurePolicy(work.seats, restarts=job._restarts, spares=work.seats - work.workers)
        federated, pipeline = work.mode in FEDERATED, work.mode in PIPELINE
        self._policy.federated, self._policy.pipeline = federated, pipeline
        self._policy.elastic = not federated and not pipeline
        self._policy.replicated = work.standbys > 0
        self._processes: dict[str, RayProcess] = {}
        self._tails: dict[str, deque[str]] = {}
        self._again: dict[str, tuple[str, int, float, float]] = {}
        """Processes that wait to be started again, with when next, and until when."""
        self._told: set[str] = set()
        """Of whom it was said that they are tried again, and why."""
        self._address: str | None = None
        self._now = False
        self.was_lost = False
        """Whether it ended since the job had lost something that it needs, and not by a failure of its own."""

    def run(self) -> RunResult:
        """Start all, follow them to the end, and end what is left."""
        try:
            is_over = not self._start()
            while not is_over:
                is_over = self._tick(TICK)
        finally:
            self._end_all()
        policy = self._policy
        first = policy.first
        if first is not None:
            self.was_lost |= first.code < 0 or first.code in FOR_WANT[:1]
            self._screen.say(f"failed first: {first.name} ({describe(first.code)})")
        tail = tuple(self._tails.get(first.name, ())) if first else ()
        return RunResult(policy.status, first, tail, policy.signal)

    def _start(self) -> bool:
        """Have actors be made for all, the scheduler be started, and, once it listens, everybody else.

        Return False if the life is to end already.
        """
        room, commands = self._room, self._commands
        actors = {each: room.prepare(self._job._numbers[each], commands.bundle(each[0])) for each in commands.roles}
        try:
            self._begin("scheduler", 0, actors.pop(("scheduler", 0)))
            while self._address is None:
                if self._tick(TICK):
                    return False
            self._policy.started = True
            for role, rank in commands.roles[1:]:
                self._begin(role, rank, actors.pop((role, rank)))
        finally:
            for actor in actors.values():
                room.release(actor)
        members = f"{counted(commands.servers, 'server')}, {counted(self._job._work.seats, 'worker')}"
        self._screen.say(f"{members}, scheduler at {self._address}")
        keys = f" --keys {commands.operator}" if commands.operator else ""
        self._screen.say(f"ask it, from a node that reaches it: psctl status --scheduler {self._address}{keys}")
        return True

    def _begin(self, role: str, rank: int, actor: Any = None) -> None:
        name = name_of(role, rank)
        self._again.pop(name, None)
        if actor is None:
            actor = self._room.prepare(self._job._numbers[(role, rank)], self._commands.bundle(role))
        self._tails.setdefault(name, deque(maxlen=TAIL_LINES))
        self._processes[name] = self._room.begin(actor, self._commands.start(role, rank, self._address, self._number))

    def _tick(self, limit: float) -> bool:
        """Take what happened; return whether the life is to end."""
        policy = self._policy
        actions: list[Action] = []
        while self._job._received:
            actions += policy.on_signal(self._job._received.pop(0))
        exits: list[Exit] = []
        for event in self._room.events(limit):
            exits += self._take(event)
        actions += policy.on_exits(exits)
        actions += self._retry()
        is_headless = any(each.role == "scheduler" and each.code < 0 for each in exits)
        if is_headless and self._job._work.keeps and policy.started and not policy.stopping:
            self.was_lost = policy.stopping = True  # nobody would know where another one is
            actions += [Say("the job needs its scheduler to keep anything"), Stop()]
        for action in actions:
            match action:
                case Say():
                    self._screen.say(action.text)
                case Stop():
                    self._now |= action.now
                case Restart():
                    self._await_place(action.role, action.rank)
        return any(isinstance(action, Stop) for action in actions)

    def _take(self, event: Event) -> list[Exit]:
        """Take one thing that happened to a process; return how it ended, if it has."""
        process, what = event
        start = process.start
        match what:
            case StartedAt():
                self._again.pop(start.name, None)
                self._told.discard(start.name)
                threads = counted(self._commands.threads(start.role), "thread")
                self._screen.say(f"{start.name} is on {what.host} ({what.ip}), process {what.pid}, {threads}")
            case ProcessNews():
                for is_error, text in what.lines:
                    self._screen.line(start.name, is_error, text)
                    self._tails[start.name].append(text)
                if start.role == "scheduler" and what.address:
                    self._address = what.address
                if what.code is not None:
                    self._forget(process)
                    return [Exit(start.role, start.rank, what.code)]
            case ProcessLost():
                self._forget(process)
                if not what.begun and self._policy.started and not self._policy.stopping:
                    if start.name not in self._told:
                        self._told.add(start.name)
                        self._screen.say(f"{start.name} is tried again elsewhere: {what.why}")
                    self._await_place(start.role, start.rank)  # its room was on a node that is gone
                    return []
                self._screen.say(f"{start.name} is lost: {what.why}")
                return [Exit(start.role, start.rank, KILLED)]
        return []

    def _forget(self, process: RayProcess) -> None:
        self._room.forget(process)
        self._processes.pop(process.start.name, None)

    def _await_place(self, role: str, rank: int) -> None:
        """Have a process be started again in a moment; its first try, and how long it may take, are kept."""
        name, now = name_of(role, rank), self._job._clock()
        until = self._again[name][3] if name in self._again else now + self._job._options.wait
        self._again[name] = (role, rank, now + AGAIN, until)

    def _retry(self) -> list[Action]:
        """Start again what is to be; give up what Ray had no room for in all that time."""
        actions: list[Action] = []
        now = self._job._clock()
        for name, (role, rank, at, until) in list(self._again.items()):
            process = self._processes.get(name)
            if now > until and (process is None or process.place is None):
                if process is not None:
                    self._forget(process)
                del self._again[name]
                wait = self._job._options.wait
                actions += [Say(f"Ray had no room for {name} in {wait:g} s"), *self._policy.give_up(role, rank)]
            elif process is None and now >= at:
                kept = self._again[name]
                self._begin(role, rank)
                self._again[name] = kept
        return actions

    def _end_all(self) -> None:
        """End what still runs: workers first, then those that they say goodbye to."""
        self._policy.stopping = True
        grace = self._job._work.grace
        deadline = self._job._clock() + grace
        self._again.clear()
        is_done = not self._policy.signal and self._policy.first is None and not self.was_lost
        self._end(("worker",), deadline)
        if is_done:  # the scheduler has everybody's goodbye, and ends by itself with those that it tells
            self._wait(("server", "scheduler"), self._job._clock() + AFTER_WORKERS)
        self._end(("server", "scheduler"), deadline)
        for process in list(self._processes.values()):
            self._forget(process)

    def _of(self, roles: tuple[str, ...]) -> list[RayProcess]:
        return [process for process in self._processes.values() if process.start.role in roles]

    def _end(self, roles: tuple[str, ...], deadline: float) -> None:
        for process in self._of(roles):
            if process.place is None:  # not begun: there is nothing to wait for
                self._forget(process)
            else:
                self._room.ask(process, max(0.0, deadline - self._job._clock()))
        self._wait(roles, deadline + AFTER_WORKERS)

    def _wait(self, roles: tuple[str, ...], deadline: float) -> None:
        while self._of(roles) and self._job._clock() < deadline and not self._now:
            self._tick(TICK)
        if self._now:
            for process in self._of(roles):
                self._forget(process)

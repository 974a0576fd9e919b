"""Cluster: starts, watches and ends the processes of a plan on this machine, and leaves their record."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import types
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ps import native
from ps.config.mode import PIPELINE
from ps.cores import cores
from ps.errors import ConnectTimeout, PSError
from ps.launch import account, rundir
from ps.launch.begun_record import begin_record
from ps.launch.checkpointed import Checkpointed, checkpointed, save_last, with_state
from ps.launch.child import Child
from ps.launch.lifeline import LIVING, TAKEN, VARIABLE
from ps.launch.members import Members, joined, lacking, read_last, read_members, without
from ps.launch.output import SHOWN, Output
from ps.launch.pace import with_left
from ps.launch.page_process import PageProcess, page_of
from ps.launch.plan import Plan
from ps.launch.policy import OVER, SPENT, Action, Exit, FailurePolicy, Restart, Say, Stop, describe, name_of
from ps.launch.progress import Fetch, JobProgress, Poller, Status
from ps.launch.readiness import READY, await_address
from ps.launch.round_log import RoundLog, write_record
from ps.launch.rounds import ending
from ps.launch.run_keys import RunKeys
from ps.launch.run_result import RunResult
from ps.launch.saved_run import SavedRun, saved_run
from ps.launch.scope import runtime_directory, signals_into
from ps.launch.screen import Screen
from ps.launch.summary import Ends, kernels_of, lives_of, read_record, summarize
from ps.launch.table import summary_table
from ps.launch.timeline import Timeline
from ps.server.scheduler.saved_job import SavedJob
from ps.track.process import tracking

RESERVE = 0.1
"""The part of the grace that is kept from the workers, for servers and scheduler, which end after them."""
FRESH = 10.0
"""Seconds for which what a scheduler has said counts, when it cannot be asked any more."""
ASKED = 1.5
"""Seconds after which a scheduler's answer is one to a question that was put after what has happened."""
PATIENCE = 2.0
"""Seconds after which it is said who has not ended yet."""

_TICK = 0.03
_NONE: Mapping[str, int] = types.MappingProxyType({})


def run(plan: Plan, environ: Mapping[str, str], screen: Screen, fetch: Fetch) -> int:
    """Run the plan to its end and return its exit status. Leaves no process and no temporary file behind."""
    return run_to_end(plan, environ, screen, fetch).status


def run_to_end(plan: Plan, environ: Mapping[str, str], screen: Screen, fetch: Fetch) -> RunResult:
    """Run the plan as ``run`` does, and return how it ended."""
    received, plan = list[int](), with_state(plan)
    process = plan.process
    with contextlib.ExitStack() as held:
        held.enter_context(signals_into(received))
        saved = saved_run(process.state, process.grace, screen.say, received) if process.state else None
        before = held.enter_context(saved) if saved is not None else None
        if before:
            before.check(plan.servers)
            screen.say(before.describe())
            if before.has_ended:
                screen.close()
                return RunResult(0, began=False)
        taken = held.enter_context(checkpointed(plan, screen.say, received))
        if taken is not None and taken.claim.ended is not None:
            screen.close()
            return RunResult(0, began=False)
        plan = plan if taken is None else taken.plan(plan)
        goes_on = (before is not None and before.goes_on) or (taken is not None and taken.claim.manifest is not None)
        run_dir = held.enter_context(rundir.wanted(process.run_dir, goes_on=goes_on, run=taken.run if taken else ""))
        timeline = Timeline(process.trace) if process.trace else None
        directory = held.enter_context(runtime_directory(process.runtime_dir))
        keys = RunKeys(process, directory)
        page = held.enter_context(page_of(process))
        return _Cluster(
            plan, environ, screen, fetch, directory, run_dir, timeline, received, before, taken, keys, page
        ).run()


class _Cluster:
    def __init__(
        self,
        plan: Plan,
        environ: Mapping[str, str],
        screen: Screen,
        fetch: Fetch,
        directory: Path,
        run_dir: Path | None,
        timeline: Timeline | None,
        received: list[int],
        saved_run: SavedRun | None,
        taken: Checkpointed | None,
        keys: RunKeys,
        page: PageProcess | None,
    ) -> None:
        self._taken, self._keys, self._page = taken, keys, page
        self._plan, self._environ, self._screen = plan, environ, screen
        self._fetch = keys.asking(fetch)
        self._directory = directory
        self._run_dir, self._timeline, self._received = run_dir, timeline, received
        self._metrics_dir, life = begin_record(taken, run_dir, directory / "run", plan.process, screen.say)
        self._tracker = tracking(plan.process, plan.script.name, self._metrics_dir, screen.say, life)
        self._saved_run = saved_run
        self._state = str(saved_run.file if saved_run else directory / "scheduler.db")
        self._policy = FailurePolicy(plan.workers + plan.spares, restarts=plan.process.restarts, spares=plan.spares)
        self._policy.elastic, self._policy.replicated = plan.elastic, plan.standbys > 0
        self._children, self._restarted = list[Child](), list[Exit]()
        self._former: set[int] = set()
        """The processes in whose place others were started."""
        self._stopped: set[str] = set()
        self._kill_now, self._unwritten = False, 0
        self._poller: Poller | None = None
        self._round_log = RoundLog()
        if saved_run and saved_run.goes_on:
            self._round_log.recall(saved_run.job.history, time.time())
        self._account = account.Account(directory)
        self._address: str | None = None
        self._begun, self._host = time.monotonic(), socket.gethostname()
        self._last: account.Entry = {}
        """The status with which the scheduler has ended."""
        self._ended_at = 0.0
        self._told_what_is_kept = saved_run is None

    def run(self) -> RunResult:
        interval = SHOWN[0 if self._screen.has_progress else 1]
        self._output = Output(self._screen.line, self._screen.unfinished, interval)
        self._lifeline, keep = os.pipe()
        try:
            try:
                self._start_and_watch()
            finally:
                self._end_all()
                os.close(self._lifeline)
                os.close(keep)
                self._output.close(0.5)
                status = self._poller.stop(0.3) if self._poller else {}
                self._screen.close()
        except ConnectTimeout:
            self._say_tail(self._children[0])
            raise
        finally:
            self._merge_timeline()
        with contextlib.closing(self._account):
            self._record(status)
        policy, first = self._policy, self._policy.first
        tail = tuple(self._child(first.role, first.rank).tail) if first else ()
        return RunResult(policy.status or self._unwritten, first, tail, policy.signal)

    def _start_and_watch(self) -> None:
        address = self._address = self._start_scheduler()
        if address is None:
            return
        self._keys.announce(address)
        if self._run_dir:
            rundir.announce(self._run_dir, address)
        if self._page is not None:
            self._page.start(address, self._keys.operator, self._screen.say)
        plan = self._plan
        self._policy.restart = plan.restart_command(address, self._state)
        self._policy.started = True
        for role, count in (("server", plan.all_servers), ("worker", plan.workers + plan.spares)):
            for rank in range(count):
                if self._tick():  # with hundreds of them this takes a while
                    return
                self._spawn(role, rank, address)
        for line in plan.begun(address):
            self._screen.say(line)
        self._poller = Poller(self._fetch, address, self._show_progress, note=self._note)
        while not self._tick():
            time.sleep(_TICK)
        self._wait_for_the_culprit()
        if not self._policy.signal:
            self._poller.ask()

    def _show_progress(self, progress: JobProgress, left: float | None) -> None:
        self._screen.progress(with_left(progress.where, left), progress.what, progress.fraction)

    def _note(self, status: Status) -> None:
        self._tracker.note(status)
        self._round_log.add(status, time.time())

    def _wait_for_the_culprit(self) -> None:
        """When workers ended for want of a peer, give that peer a moment to end too, and be named."""
        deadline = time.monotonic() + 1.0
        while self._policy.blames_another and not self._policy.signal and time.monotonic() < deadline:
            self._tick()
            time.sleep(_TICK)

    def _start_scheduler(self) -> str | None:
        """Return the scheduler's address, or None when it failed or a signal came first."""
        ready, write = os.pipe()
        try:
            with os.fdopen(write):
                self._spawn("scheduler", 0, None, {READY: write})
            return await_address(ready, self._plan.process.connect_timeout, self._tick)
        finally:
            os.close(ready)

    def _spawn(self, role: str, rank: int, address: str | None, hands: Mapping[str, int] = _NONE) -> None:
        """Start a process that inherits descriptors; ``hands`` has those it finds by a variable of their own."""
        env = self._plan.environment(
            self._environ,
            role,
            rank,
            scheduler=address,
            runtime_dir=str(self._directory),
            run_dir=str(self._metrics_dir),
            trace=self._timeline.part(role, rank) if self._timeline and role != "scheduler" else None,
            state=self._state_file(role, rank),
            cores=cores(),
            keys=self._keys.folder(role, rank),
        )
        fds = {
            **hands,
            **({account.VARIABLE: self._account.fd} if role == "scheduler" else {}),
            **self._plan.hands(role, rank),
            VARIABLE: self._lifeline,
            **({LIVING: self._saved_run.fd} if self._saved_run else {}),
            **({TAKEN: self._taken.fd} if self._taken and self._taken.fd is not None else {}),
        }
        env |= {name: str(fd) for name, fd in fds.items()}
        try:
            child = Child(role, rank, self._plan.command(role), env, tuple(fds.values()), tied=True)
        except OSError as error:
            raise PSError(f"cannot start {name_of(role, rank)}: {error.strerror}") from None
        self._children.append(child)
        self._output.add(child)

    def _state_file(self, role: str, rank: int) -> str | None:
        """Return where a process keeps what it needs to go on after a restart."""
        if role == "scheduler":
            return self._state
        if self._mode not in (None, "federated"):
            return None
        return self._saved_run.path(role, rank) if self._saved_run else str(self._directory / f"{role}-{rank}.state")

    @property
    def _mode(self) -> str | None:
        """The job's mode as far as it is known: the script may be the one to choose it."""
        job = (self._poller.latest.get("job") if self._poller else None) or self._plan.job
        return job.get("mode")

    def _tick(self) -> bool:
        """Take what happened since the last call; return whether the run is to end."""
        actions: list[Action] = []
        while self._received:
            actions += self._policy.on_signal(self._received.pop(0))
        running = [child for child in self._children if child.exit is None]
        ended = [child for child in running if child.poll()]
        if ended:
            self._ended_at = time.monotonic()
            # A server that these died of has died before them: look again, so that it is found with them.
            ended += [child for child in running if child not in ended and child.poll()]
            self._policy.federated, self._policy.pipeline = self._mode == "federated", self._mode in PIPELINE
            actions += self._policy.on_exits([c.exit for c in ended if c.exit and c.name not in self._stopped])
        actions += self._policy.on_members(self._look_at_members())
        self._tell_what_is_kept()
        is_over = any(isinstance(action, Stop) for action in actions)
        for action in actions:
            match action:
                case Say():
                    self._screen.say(action.text)
                case Stop():
                    self._kill_now |= action.now
                case Restart() if not is_over:
                    self._restart(self._child(action.role, action.rank))
        return is_over

    def _tell_what_is_kept(self) -> None:
        """Say of a job whose servers keep nothing, as soon as that is known, for how much its state file is good."""
        if not self._told_what_is_kept and (mode := self._mode):
            self._told_what_is_kept = True
            if mode != "federated":
                self._screen.say(
                    f"servers of a {mode} job keep nothing on disk: --state is good for a scheduler that is brought "
                    f"back while this run lasts; a run that is cut off begins anew"
                )

    def _look_at_members(self) -> Members:
        """Return what the scheduler says now, or had written down when it ended; nothing when it cannot be asked."""
        if self._poller is None:
            return Members()
        scheduler = self._child("scheduler", 0)
        if scheduler.exit is not None and scheduler.exit.code in OVER:
            self._last = self._last or self._account.end()
            return read_last(self._last, self._ours, self._former, self._host)
        if time.monotonic() - self._poller.told > FRESH:
            return Members()
        rows = without(self._poller.latest.get("workers", ()), self._former, self._host)
        found = read_members(rows, self._ours, self._host)
        knows = self._poller.told - self._ended_at > ASKED and self._mode != "federated"
        running = [child.pid for child in self._children if child.role == "worker" and child.exit is None]
        return replace(found, lacking=lacking(self._poller.latest, running, self._host) if knows else 0)

    @property
    def _ours(self) -> dict[int, int]:
        return {child.pid: child.rank for child in self._children if child.role == "worker"}

    def _restart(self, child: Child) -> None:
        self._children.remove(child)
        self._former.add(child.pid)
        if child.exit is not None:
            self._restarted.append(child.exit)
        self._spawn(child.role, child.rank, self._address)

    def _child(self, role: str, rank: int) -> Child:
        return next(child for child in self._children if (child.role, child.rank) == (role, rank))

    def _end_all(self) -> None:
        """End what still runs: workers first, so that there is somebody left to whom they can say goodbye."""
        self._policy.stopping = True
        deadline = time.monotonic() + (grace := self._plan.process.grace)
        if self._taken is not None and self._address is not None:
            about = self._child("scheduler", 0), self._children, grace, self._tick, lambda: self._kill_now
            failed = save_last(self._address, *about, self._policy.signal, self._screen.say, self._keys.operator)
            self._policy.first = self._policy.first or failed
        if self._poller:
            self._poller.cancel()
        self._end([child for child in self._children if child.role == "worker"], deadline - RESERVE * grace)
        self._end([child for child in self._children if child.role != "worker"], deadline)
        self._policy.on_exits([Exit("scheduler", 0, SPENT)] if self._account.is_cut_short else [])

    def _end(self, children: list[Child], deadline: float) -> None:
        """End these processes: in order, with a bound, then by force."""
        running = [child for child in children if child.poll() is None]
        self._stopped |= {child.name for child in running}
        for child in running:
            child.ask()
        told = time.monotonic() + PATIENCE
        while running and (now := time.monotonic()) < deadline and not self._kill_now:
            self._tick()
            running = [child for child in running if child.poll() is None]
            if running and now >= told:
                told = deadline
                names = ", ".join(child.name for child in running)
                self._screen.say(f"waiting for {names} to end; killed after {deadline - now:.0f} s more (--grace)")
            time.sleep(_TICK)
        for child in running:
            child.kill()
        for child in running:
            child.wait(1.0)

    def _record(self, status: Status) -> None:
        policy = self._policy
        ends = Ends(
            policy.status,
            time.monotonic() - self._begun,
            policy.first,
            [child.exit for child in self._children if child.exit],
            frozenset(self._stopped),
            tuple(self._restarted),
        )
        job = status.get("job") or dict(self._plan.job)
        job = {**job, "servers": self._plan.servers, "workers": self._plan.workers}
        records, measured = read_record(self._metrics_dir)
        self._round_log.complete(self._account.read())
        scheduler = self._child("scheduler", 0)
        if scheduler.exit is not None and scheduler.exit.code not in (0, SPENT) and policy.started:
            with contextlib.suppress(PSError):  # whoever brought it back tells us of no round
                self._round_log.recall(SavedJob.read(Path(self._state)).history, time.time())
        self._tracker.close(self._round_log.rounds())
        rounds = self._round_log.outcome() if self._round_log.status else None
        rows = without(status.get("workers") or (), self._former, self._host)
        guests = joined(rows, self._ours, self._host)
        stop = self._account.end().get("stop") or status.get("stop")
        summary = summarize(records, ends, job, status.get("deaths") or (), rounds, guests, measured, stop)
        summary |= lives_of(self._metrics_dir)
        summary["kernels"] = kernels_of(status, native.expected(self._plan.process.kernels))
        if records or policy.started:
            self._screen.show(summary_table(summary))
            if rounds is not None:
                self._screen.show(ending(rounds))
        if self._run_dir:
            self._unwritten = write_record(self._run_dir, summary, self._round_log, self._screen.say)
        if policy.first:
            self._screen.say(f"failed first: {policy.first.name} ({describe(policy.first.code)})")
            if self._plan.call is None:  # whoever called has them with the error
                self._say_tail(self._child(policy.first.role, policy.first.rank))

    def _merge_timeline(self) -> None:
        if self._timeline is not None:
            asked = len(self._received)
            self._timeline.finish(self._screen.say, stop=lambda: len(self._received) > asked)

    def _say_tail(self, child: Child) -> None:
        if child.tail:
            self._screen.say(f"last lines of {child.name}:")
            self._screen.say("\n".join(f"    {line}" for line in child.tail))

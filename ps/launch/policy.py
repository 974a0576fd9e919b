"""FailurePolicy: what a launcher does when a process ends or a signal comes. No processes, no clock, no output."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import field
from typing import TypeAlias

from ps import errors
from ps.dataclass import dataclass
from ps.launch.members import Members

HOPELESS = (errors.UsageError.exit_code, errors.Refused.exit_code)
"""Exit codes of a worker that every other worker would end with too."""

FOR_WANT = (errors.PeerLost.exit_code, errors.ConnectTimeout.exit_code)
"""Exit codes of a worker that somebody else has failed."""

SPENT = errors.BudgetSpent.exit_code
"""Exit code of a scheduler that has ended a job in good order, with rounds left that nobody could pay for."""

OVER = (0, SPENT, errors.PeerLost.exit_code, errors.CheckpointError.exit_code)
"""Exit codes of a scheduler whose job is over, well or not: nobody can join any more."""

CRASHED = errors.PSError.exit_code
"""Exit code of a worker whose script raised an exception, and of any process that one has ended."""

RESTARTS = 3
"""Times that the scheduler, or one server or client of a federated job, is started again, unless told otherwise."""

_ORDER = {"server": 0, "scheduler": 1, "worker": 2}


@dataclass(frozen=True, slots=True)
class Exit:
    """A process ended; ``code`` is negative for a signal, as subprocess has it."""

    role: str
    rank: int
    code: int

    @property
    def name(self) -> str:
        """The process, as messages call it."""
        return name_of(self.role, self.rank)


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End every process that still runs; ``now`` without waiting for it to tidy up."""

    now: bool = False


@dataclass(frozen=True, slots=True)
class Restart:
    """Start a process again, with the state that it has kept."""

    role: str
    rank: int


Action: TypeAlias = Say | Stop | Restart


def _was_killed(exit: Exit) -> bool:
    """Whether a process was ended from outside, as by who takes its machine away."""
    return exit.code < 0 or exit.code == 128 + signal.SIGTERM


def name_of(role: str, rank: int) -> str:
    """Return ``worker 2``, or ``scheduler``, of which there is one."""
    return role if role == "scheduler" else f"{role} {rank}"


def exit_status(code: int) -> int:
    """Return the status a shell would report: 128 + n for signal n."""
    return 128 - code if code < 0 else code


CRASH = ": a crash in native code, where the lines above say; a script that writes to the read-only weights ends so"


def describe(code: int) -> str:
    """Return what an exit code says, in words."""
    if code < 0:
        try:
            crash = CRASH if -code in (signal.SIGSEGV, signal.SIGBUS) else ""
            return f"killed by {signal.Signals(-code).name}{crash}"
        except ValueError:
            return f"killed by signal {-code}"
    meanings = {kind.exit_code: kind.__doc__ for kind in errors.PSError.__subclasses__() if kind.exit_code > 1}
    meaning = (meanings.get(code) or "").rstrip(".")
    return f"exit code {code}{': ' + meaning[0].lower() + meaning[1:] if meaning else ''}"


@dataclass(slots=True)
class FailurePolicy:
    """Decide from exits and signals. ``restart`` is the command that brings the scheduler back; empty where none does.

    A worker's failure leaves the others running, unless its exit code says that they would fail too, or the job has not
    begun and cannot begin without it. A
    server's failure ends everything: its shard is gone. A scheduler that was killed, or crashed, is started again with
    what it has written down, ``restarts`` times at most. After that training goes on without it, and when it goes on to
    its end, that is how the run ended, whoever brought the scheduler back. The first failure decides the exit status.

    Members are waited for, not processes: one that was declared dead is not, and one that has joined from elsewhere is.

    In a ``federated`` job a server keeps its shard on disk, and a client what only it knows: a server that fails is
    started again, ``restarts`` times at most, and so is a client that was killed, or whose script raised an exception
    after it had joined, as long as there may be rounds. A death that was made good is no failure of the run. Otherwise
    clients fail each for itself, whatever their exit codes.

    A worker of a pipeline that was killed is no failure of the run either, as long as there are spares. Nor is one of
    an ``elastic`` job, which has a range of workers: it is started again, ``restarts`` times at most, and joins anew;
    after that the others go on without it.
    """

    workers: int
    restart: str = ""
    restarts: int = RESTARTS
    spares: int = 0
    """How many of the workers only wait for the place of another; each that is killed costs one."""
    replicated: bool = False
    """Whether each server has a standby, which goes on for it; another server is started, to be one."""
    elastic: bool = False
    federated: bool = False
    pipeline: bool = False
    """Whether workers have parts of the model, and need each other."""
    started: bool = False
    stopping: bool = False
    first: Exit | None = None
    signal: int = 0
    _lost: Exit | None = None
    """How the scheduler ended, if it failed: whatever fails for want of it fails by it."""
    _ended: set[int] = field(default_factory=set)
    _members: Members = field(default_factory=Members)
    _joined: set[int] = field(default_factory=set)
    """The workers of ours that the scheduler has seen: a script that fails before would fail again."""
    _told: bool = False
    _late: set[int] = field(default_factory=set)
    """The clients that were started again and that the scheduler has not seen since."""
    _done: bool = False
    """Whether a worker has come to its end in good order: then the rounds are over."""
    _over: bool = False
    """Whether the scheduler has ended with its job: then nobody can join any more."""
    _restarts: Counter[str] = field(default_factory=Counter)
    """How often each process was started again, by its name."""

    @property
    def status(self) -> int:
        """The exit status of the whole run."""
        if self.signal:
            return 128 + self.signal
        return exit_status(self.first.code) if self.first else 0

    def give_up(self, role: str, rank: int) -> list[Action]:
        """Take that a process cannot be started again, for want of room: it counts as killed for good."""
        self._restarts[name_of(role, rank)] = self.restarts
        return self.on_exits([Exit(role, rank, -signal.SIGKILL)])

    @property
    def blames_another(self) -> bool:
        """Whether the first failure so far is that of a worker which lost a peer: who was that?"""
        return self.first is not None and self.first.role == "worker" and self.first.code == errors.PeerLost.exit_code

    def on_exits(self, exits: Sequence[Exit]) -> list[Action]:
        """Take the processes that ended by themselves since the last call, in any order.

        Those found together are taken servers first: workers that end because of a server are not to blame.
        """
        actions: list[Action] = []
        for exit in sorted(exits, key=lambda exit: _ORDER[exit.role]):
            if exit.code and exit.role != "worker" and self.blames_another and not self._may_restart(exit):
                self.first = exit  # it closes its sockets before it ends: workers may end earlier
            if exit.role == "scheduler" and exit.code == SPENT:  # it may be the last to end
                self.first = self.first or exit
            if self.stopping:
                continue
            if self._may_restart(exit):
                self._restarts[exit.name] += 1
                self._late |= {exit.rank} if exit.role == "worker" else set()
                actions += self._again(exit)
                continue
            if exit.role == "worker":
                self._ended.add(exit.rank)
                self._done |= not exit.code
            if exit.code and self._is_replaced(exit):
                self.spares -= 1
                left = f"{self.spares} more" if self.spares else "no other"
                what = "a spare takes its place, if it had one"
                actions.append(Say(f"{exit.name} failed ({describe(exit.code)}); {what}; {left} is left"))
            elif exit.code and self._is_missed(exit):
                left = f"{self.workers - len(self._ended)} of {self.workers} workers go on"
                actions.append(Say(f"{exit.name} failed ({describe(exit.code)}); {left}"))
            elif exit.code and exit.role == "server" and self.replicated:  # whether that ends the job others say
                actions.append(Say(f"{exit.name} failed ({describe(exit.code)}), and no other is started in its place"))
            elif exit.code:
                self._blame(exit)
                actions += self._on_failure(exit)
            elif exit.role == "scheduler" and not self.started:
                self.first = Exit(exit.role, exit.rank, 1)
                actions += [Say("the scheduler ended before it was ready"), Stop()]
            if not any(isinstance(action, Stop) for action in actions):
                actions += self._at_the_end()
            self.stopping = any(isinstance(action, Stop) for action in actions)
        self._over |= any(exit.role == "scheduler" and exit.code in OVER for exit in exits)
        return actions

    def on_members(self, members: Members) -> list[Action]:
        """Take what the scheduler says about workers."""
        if self.stopping or (members == self._members and not self._over):
            return []
        before, self._members = self._members, members
        self._joined |= members.joined
        self._late -= members.joined
        actions: list[Action] = []
        for rank in sorted(members.dead - before.dead - self._ended):
            name = name_of("worker", rank)
            actions.append(Say(f"{name} was declared dead, though its process runs: nobody waits for it any more"))
        if members.lacking and self.first is not None:
            many = f"{members.lacking} more worker{'s' * (members.lacking > 1)}"
            what = f"{self.first.name} failed before the job had begun, which wants {many}: ending the others"
            self.stopping = True
            return [*actions, Say(what), Stop()]
        if self._are_ours_done and members.others and members.others != before.others:
            actions.append(self._wait_for_others())
        actions += self._at_the_end()
        self.stopping = any(isinstance(action, Stop) for action in actions)
        return actions

    def on_signal(self, signum: int) -> list[Action]:
        """Take a signal to the launcher: the first ends everything in order, the second at once."""
        if self.signal:
            return [Stop(now=True)]
        self.signal = signum
        self.stopping = True
        return [Say(f"{signal.Signals(signum).name}: ending all processes; once more to kill them"), Stop()]

    @property
    def _are_ours_done(self) -> bool:
        gone = self._ended | self._members.dead | self._too_late
        # A dead client may come back as long as there are rounds: none are left when others, or the job, have ended.
        return len(gone) == self.workers and bool(self._ended or self._over or not self.federated)

    @property
    def _too_late(self) -> set[int]:
        """Workers that had not come when the job was over: they ask for a scheduler that there is not any more."""
        if not self._over:
            return set()
        unseen = set(range(self.workers)) - self._joined if self._members.last else set[int]()
        return (self._late | unseen) - self._ended

    def _at_the_end(self) -> list[Action]:
        if not self._are_ours_done:
            return []
        if self._members.others:
            return [] if self._told else [self._wait_for_others()]
        lost = self._too_late if self._lost is not None else set[int]()
        for rank in sorted((self._members.dead - self._ended) | lost):
            self._blame(Exit("worker", rank, errors.PeerLost.exit_code))
        return [Stop()]

    def _wait_for_others(self) -> Say:
        self._told = True
        return Say(f"waiting for {', '.join(self._members.others)}, joined from elsewhere; Ctrl-C ends the run")

    def _blame(self, exit: Exit) -> None:
        """Note a failure: the first decides, unless training goes on without the process."""
        if exit.role == "scheduler" and self.started and exit.code != SPENT:
            self._lost = exit
            return
        for_want = self._lost is not None and exit.code in FOR_WANT
        self.first = self.first or (self._lost if for_want else exit)

    def _may_restart(self, exit: Exit) -> bool:
        if not self.started or self.stopping or self._restarts[exit.name] >= self.restarts:
            return False
        if exit.role == "server":
            return (self.federated or self.replicated) and exit.code not in (0, *HOPELESS)
        if exit.role == "scheduler":  # the others look for it where it was: elsewhere it would be another job's
            return bool(self.restart) and (exit.code < 0 or exit.code == CRASHED)
        if self.federated:
            may_go_on = exit.code < 0 or (exit.code == CRASHED and exit.rank in self._joined)
        else:
            may_go_on = self.elastic and _was_killed(exit)
        return may_go_on and not self._done

    def _is_replaced(self, exit: Exit) -> bool:
        """Whether a spare goes on for a worker, so that its end is no failure of the run."""
        return exit.role == "worker" and self.pipeline and self.spares > 0 and _was_killed(exit) and not self.stopping

    def _is_missed(self, exit: Exit) -> bool:
        """Whether others go on without a worker that was killed, as there may be fewer of them."""
        left = self.workers - len(self._ended)
        return exit.role == "worker" and self.elastic and left > 0 and _was_killed(exit) and not self.stopping

    def _again(self, exit: Exit) -> list[Action]:
        count = f"{self._restarts[exit.name]} of at most {self.restarts} times"
        what = f"{exit.name} failed ({describe(exit.code)})"
        how = " with the state that it has kept" if self.federated or exit.role == "scheduler" else ""
        return [
            Say(f"{what}: starting it again{how}, {count}"),
            Restart(exit.role, exit.rank),
        ]

    def _on_failure(self, exit: Exit) -> list[Action]:
        what = f"{exit.name} failed ({describe(exit.code)})"
        if exit.role == "server":
            if self._restarts[exit.name]:
                return [Say(f"{what} once more: ending the others"), Stop()]
            return [Say(f"{what}, and its share of the model with it: ending the others"), Stop()]
        if exit.role == "scheduler":
            if not self.started:
                return [Say(f"{what} before it was ready"), Stop()]
            if exit.code == SPENT:
                return [Say(f"the scheduler has ended the job with {describe(exit.code)}")]
            without = "the rounds wait for it" if self.federated else "training goes on without it"
            how = f". To bring it back: {self.restart}" if self.restart else ""
            return [Say(f"{what}; {without}{how}")]
        if exit.code in HOPELESS and not self.federated:
            return [Say(f"{what}: the other workers would too, ending them"), Stop()]
        left = self.workers - len(self._ended)
        if left and self.pipeline:
            return [Say(f"{what}, and its pipeline cannot go on without it")]
        if left:
            return [Say(f"{what}; {left} of {self.workers} workers go on")]
        has_model = bool(self._joined) and not self.federated and not self._members.others
        lost = "; no worker is left to go on, and what the servers hold of the model ends with this run"
        return [Say(what + lost if has_model else what)]

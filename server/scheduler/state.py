"""The scheduler as a state machine: messages and the time in, messages out. No sockets, no clock, no disk.

A job goes from ``waiting`` (members join) to ``running`` (all servers and workers are there; later workers may
join, any worker may go, and for a while there may be none) to ``ended`` (the last worker left) or ``failed`` (a server
is gone, nobody is left, or the members did not come in time). Every change of the members makes a new view with the
next epoch, until the job is over: then members only go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ps.config import JobConfig
from ps.errors import BadMessage
from ps.protocol.messages import (
    BarrierEnter,
    CheckpointPart,
    CutRequest,
    Error,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelpRequest,
    Identify,
    InitDone,
    InitRequest,
    LeaseRequest,
    Leave,
    Message,
    MoveReport,
    Ok,
    Rendezvous,
    ReplicaReady,
    StopReady,
    StopRequest,
    View,
)
from ps.protocol.messages.words import FailureCode, JobPhase
from ps.server.job_key import JobKey, random_id
from ps.server.scheduler import dumping, federated, joining, leasing, moving, standbys
from ps.server.scheduler.absence import Absence, lacking
from ps.server.scheduler.barrier import Barrier, passed
from ps.server.scheduler.checkpoint_cut import CutNames
from ps.server.scheduler.checkpoints import Checkpoints
from ps.server.scheduler.cutting import cut_for_members
from ps.server.scheduler.elastic import Elastic, answered
from ps.server.scheduler.ending import Ending, demand_near
from ps.server.scheduler.failure_detector import FailureDetector, Gone, Lives, Reach, is_unknown, nobody, unknown
from ps.server.scheduler.member_record import DEAD, LEFT, LIVE, Liveness, MemberRecord
from ps.server.scheduler.moves import ChunkMoves
from ps.server.scheduler.pipelines import Pipelines
from ps.server.scheduler.registrar import Registrar
from ps.server.scheduler.report import kept
from ps.server.scheduler.roster import Roster
from ps.server.scheduler.rounds import dispatch
from ps.server.scheduler.rounds.rounds import Rounds
from ps.server.scheduler.seeding import Seeding, granted, heard, noted
from ps.server.scheduler.vacancies import Vacancies, seated
from ps.server.scheduler.views import Views
from ps.server.send import ASKER, Send

_OF_WORKERS = InitRequest | InitDone | BarrierEnter | StopRequest | StopReady | Rendezvous | CutRequest | LeaseRequest


class SchedulerState:
    """Members, phase, seeding and barrier of one job."""

    def __init__(self, explicit: Mapping[str, Any], now: float, registrar: Registrar | None = None) -> None:
        self.explicit = dict(explicit)
        self._registrar = registrar or Registrar()
        self.key = self._registrar.key
        self.job: JobConfig | None = None
        self.phase: JobPhase = "waiting"
        self.code: FailureCode = ""
        self.reason = ""
        self.epoch, self.changed = 0, True
        self.deaths: list[dict[str, Any]] = []
        self._roster = Roster(self.setting("servers"), self.setting("replicas"))
        self.failure_detector = FailureDetector(now)
        self.absence = Absence()
        self.elastic = Elastic()
        self.seeding = Seeding()
        self._barrier = Barrier()
        self._pipelines = Pipelines(self.key.line)
        self.ending = Ending()
        self.life, self.cut_names = 0, CutNames()
        """Which one it is of those that have had its folder of checkpoints, and what its cuts were called."""
        self.checkpoints: Checkpoints | None = None
        """Those of a job that has a folder for them."""
        self.leasing = leasing.Leasing()
        self.rounds: Rounds | None = None
        """Those of a federated job, from its first model on."""
        self.moves, self._views, self._vacancies = ChunkMoves(), Views(), Vacancies()
        self._script_settings = joining.ScriptSettings(self.explicit)

    @property
    def members(self) -> dict[int, MemberRecord]:
        """The records by id, of the live and of those that are gone since not too long."""
        return self._roster.members

    def live(self, role: str) -> list[MemberRecord]:
        """Return the live members of a role by rank."""
        return self._roster.live(role)

    def count(self, role: str) -> int:
        """Return how many members of a role are live."""
        return self._roster.count(role)

    @property
    def over(self) -> bool:
        """Whether the job has come to its end, good or bad."""
        return self.phase in ("ended", "failed")

    @property
    def barrier(self) -> tuple[int, ...]:
        """Ranks of the workers that wait in the barrier."""
        return tuple(sorted(m.rank for m in self.live("worker") if m.member in self._barrier.entered))

    @property
    def _awaited(self) -> list[int]:
        """Whom a barrier waits for: live workers, and 0, who never comes, while a place is kept for another one."""
        return [*(member.member for member in self.live("worker")), *([0] if self._roster.kept else [])]

    @property
    def saving(self) -> Checkpoints | None:
        """The job's checkpoints, while it has a model of which there may be one."""
        return self.checkpoints if self.phase == "running" and self.seeding.done and not self.federated else None

    @property
    def roster(self) -> Roster:
        """The members, as whoever looks for one by its nonce needs them."""
        return self._roster

    def setting(self, name: str) -> Any:
        """Return a setting of the job, or what it will be unless a script's default says otherwise."""
        return getattr(self.job, name) if self.job else self.explicit.get(name, getattr(JobConfig(), name))

    def view(self) -> View:
        """Return the current view."""
        about = self.job, self._roster, self.federated, self.ending.word
        return self._views.view(self.epoch, (self.phase, self.code, self.reason), *about)

    @property
    def federated(self) -> bool:
        """Whether its workers are clients, of which some take part in a round."""
        return bool(self.setting("mode") == "federated")

    # Events

    def receive(self, message: Message, now: float, payload: Any = None, here: bool = False) -> list[Send]:
        """Take a message and return what to send, see ``hear``; all are told at once of a view that is new by it."""
        return [*self.hear(message, now, payload, here), *self.news()]

    def news(self) -> list[Send]:
        """Return the current view for all members, if they have not been told: once for all that came in one turn."""
        return self._views.news(self.view(), self._roster, *moving.words(self)) if self._views.new else []

    def hear(self, message: Message, now: float, payload: Any = None, here: bool = False) -> list[Send]:
        """Take a message and return what to send but ``news``; ``payload`` is the frame of one that has any.

        ``here``: it comes from an address of our own host. Raises BadMessage when it is none for a scheduler.
        """
        if isinstance(message, Hello):
            return list(self._hello(message, now, here))
        if isinstance(message, Identify):
            return self._identify(message, now)
        request, record = getattr(message, "request", 0), joining.speaker(message, self.members)
        if isinstance(record, Error):
            return [Send(ASKER, record)]
        record.seen = now
        if isinstance(message, _OF_WORKERS) and record.role != "worker":
            raise BadMessage(f"{type(message).__name__} comes from workers, not from {record}")
        if isinstance(message, dispatch.ABOUT_ROUNDS) and self.federated:  # most of what comes, where there are rounds
            return [] if self.over else self._say(dispatch.receive(self.rounds, record, message, payload, now))
        match message:
            case Heartbeat():
                record.report = kept(message.report)
                news = self._shown(record) if message.epoch < self.epoch else []
                return [Send(ASKER, HeartbeatAck(self.epoch)), *news, *leasing.reported(self, record)]
            case Leave():
                record.report = kept(message.report) or record.report
                said = leasing.reported(self, record)
                return [Send(ASKER, Ok(request)), *said, *self.lose(record, LEFT, "left", now)]
            case LeaseRequest():
                return leasing.asked(self, record, message)
            case InitRequest() | InitDone():
                self.changed = True
                sends = noted(heard(self.seeding, f"worker {record.rank}", message), self.members)
                federated.begin(self, now)
                return sends
            case BarrierEnter():
                demand_near(message.clock, self.live("server"), "a barrier")
                self.changed = True
                about = request, message.clock, record.has_model
                return [*passed(self._barrier.enter(record.member, *about, self._awaited)), *leasing.looked(self)]
            case CheckpointPart():
                lockstep, saving = self.job is not None and self.job.lockstep, self.checkpoints
                return saving.hear(record, message, self._roster, now, lockstep) if saving else []
            case MoveReport() if record.role == "server":
                return moving.hear(self, record, message, now, self._renew_view, self._finish)
            case StopRequest() | StopReady():
                return self._stop(record, message, now)
            case ReplicaReady():
                return standbys.hear(self, record, message)
            case Rendezvous() | CutRequest() if self.job is not None and self.job.pipeline:
                self.changed = True
                return self._pipelines.hear(record, message, self.job.places, self.live("worker"))
        raise BadMessage(f"a scheduler has no use for {type(message).__name__}")

    def _stop(self, record: MemberRecord, message: StopRequest | StopReady, now: float) -> list[Send]:
        """A worker wants training to end, or says how far it is since one does."""
        demand_near(message.clock, self.live("server"), "an end of training")
        if self.phase != "running":
            return []
        together, rounds = bool(self.job and self.job.ends_together), self.rounds.under_way if self.rounds else 1
        clock = rounds if self.federated else 0  # in a federated job with the round under way
        if self.ending.hear(record, message, self.live("worker"), together=together, clock=clock):
            self._renew_view()
        ends = list(self.rounds.end(self.ending.clock, now)) if self.rounds and self.ending.phase else []
        return [*self._say(ends), *leasing.looked(self)]

    def _say(self, sends: list[Send]) -> list[Send]:
        return federated.said(self, sends, self._finish)

    def help(self, message: HelpRequest, now: float) -> list[Send]:
        """A helper, no member, asks; the first is for it."""
        return self._say(dispatch.helped(self.rounds, message, now, self.key))

    def tick(self, now: float, reach: Reach = nobody, gone: Gone = is_unknown, lives: Lives = unknown) -> list[Send]:
        """Declare dead who is silent and cannot be reached, and give up a job that lacks members for too long.

        ``gone`` says of nobody that it is gone while there are messages that have not been received.
        """
        timeout, hang = self.setting("heartbeat_timeout"), joining.patience(self.job, self._roster)
        dead = self.failure_detector.found(self._roster, timeout, now, reach, gone, lives, hang)
        sends = [send for record, why in dead for send in self.lose(record, DEAD, why, now)]
        self._start_if_complete(now)
        if self.phase == "running" and self.rounds is not None:
            sends += self._say(list(self.rounds.tick(now)))
        sends += moving.turn(self, now, self._finish)
        if self.phase == "running" and self.job and self._vacancies.give_up(self.job, self._roster, now):
            sends += passed(self._barrier.check(self._awaited))
            self._renew_view()
        if not self.over and (verdict := lacking(self, now)):
            sends += self._finish("failed", *verdict)
        return [*sends, *self.news()]

    # Joining

    def _hello(self, hello: Hello, now: float, here: bool) -> Iterator[Send]:
        known = self._roster.known(hello.nonce)
        if known is not None:
            yield from self._found(known, hello.request, now)
            return
        wished = self._script_settings.job
        former = self.failure_detector.hurry(hello, self._roster, now)
        refusal = joining.turned_away(hello, self.key.job_id, self.phase, self.reason)
        refusal = refusal or joining.refusal(hello, self._roster, moving.server_seats(self), self.job, wished, former)
        if refusal is not None:
            yield Send(ASKER, refusal)
            return
        seats = moving.server_seats(self) if hello.role == "server" else wished(hello).workers
        record = self._registrar.enrol(hello, seats, self._roster, now, here=here)
        self.absence.come(now)
        if record.role == "worker":
            self.job = self.job or wished(hello)
            self._roster.deal(self.job)
            self.elastic.come(now)
            self._vacancies.taken(record, self._roster, self._barrier.count)
        phase = self.phase
        self._start_if_complete(now)
        yield self._welcome(record, hello.request)
        if self.federated and record.role == "worker" and self.phase == phase:  # nobody else talks of a client
            self.changed = True
            yield Send(record.member, self.view())
            return
        yield from seated(record, self.key)
        yield from self._vacancies.fill(self._roster, self._barrier.count, self.key)
        self._renew_view()

    def _identify(self, message: Identify, now: float) -> list[Send]:
        found = self._registrar.identified(message, self.members)
        return [Send(ASKER, found)] if isinstance(found, Error) else self._found(found, message.request, now)

    def _found(self, record: MemberRecord, request: int, now: float) -> list[Send]:
        """Tell a member again who it is, and how the job is."""
        record.seen = now
        return [self._welcome(record, request), *seated(record, self.key), *self._shown(record)]

    def _shown(self, record: MemberRecord) -> list[Send]:
        return answered(self.view(), record.role, *moving.words(self))

    def _welcome(self, record: MemberRecord, request: int) -> Send:
        about = self.setting("heartbeat_timeout"), self._views.settings(self.job)
        return Send(ASKER, self._registrar.welcome(record, request, *about))

    def _start_if_complete(self, now: float) -> None:
        if self.phase != "waiting" or self.job is None or not self._roster.has_servers(self.job):
            return
        workers = self.count("worker")
        if workers >= self.job.goal if self.federated else self.elastic.may_begin(self.job, workers, now):
            self.phase = "running"
            self.job = cut_for_members(self.job, self._roster)
            for worker in self.live("worker"):
                worker.initial = True
            self._renew_view()

    # Going

    def lose(self, record: MemberRecord, state: Liveness, why: str, now: float) -> list[Send]:
        """A member is gone; return what follows from it."""
        if record.state != LIVE:
            return []
        record.state, record.why = state, why
        self._roster.remove(record)
        self.changed = True
        if self.over:  # nobody waits for anybody any more
            return []
        if state == DEAD:
            record.note_death(self.deaths)
        sends = noted(granted(self.seeding.forget(record.member)), self.members)
        if self.phase == "running" and self.federated:
            return sends + federated.lost(self, record, now, self._finish, self._renew_view)
        sends += self.saving.lost(record) if self.saving is not None else []
        sends += leasing.lost(self, record)
        if self.phase == "running" and (lost := standbys.replace(record, self._roster, self.checkpoints, self.moves)):
            return self._finish("failed", "server-lost", lost)
        if self.job is not None and record.role == "worker":
            if self.job.pipeline:
                self._vacancies.lose(record, self.job, self._roster, now)
                sends += self._vacancies.fill(self._roster, self._barrier.count, self.key)
            sends += self.elastic.lose(record, self.job, self._roster, self.key, self.phase)
            self._start_if_complete(now)
        if self.phase == "waiting" and not self.count("worker"):
            self.job = None  # the next worker's script may ask for something else
            self._roster.deal(self.job)
        if self.phase == "running" and not self.count("worker") and record.has_finished:
            failed, saving = bool(record.report.get("failure")), self.saving
            return sends + (saving.end(failed=failed) if saving else self._finish("ended"))
        sends += passed(self._barrier.check(self._awaited))
        self.ending.decide(self.live("worker"))
        self._renew_view()
        return sends

    def _finish(self, phase: JobPhase, code: FailureCode = "", reason: str = "") -> list[Send]:
        self.phase, self.code, self.reason = phase, code, reason
        self._renew_view()
        return []

    def _renew_view(self) -> None:
        self.epoch += 1
        self.changed = self._views.new = True

    # Across restarts

    def dump(self) -> dict[str, Any]:
        """Return everything a restarted scheduler needs, as plain values."""
        return dumping.dump(self, self._roster, self._barrier, self._pipelines)

    @staticmethod
    def load(
        values: dict[str, Any], now: float, outage: float = 0.0, draw: Callable[[], int] = random_id
    ) -> SchedulerState:
        """Return the state that ``dump`` wrote; its live members have their time-out to be heard, and ``patience``.

        ``outage``: the seconds for which there was no scheduler.
        """
        key = JobKey.load(values["key"]) if "key" in values else None  # older files have none
        state = SchedulerState(values["explicit"], now, Registrar(key, draw))
        dumping.fill(state, values, now)
        state._roster = dumping.roster_of(values, state.job, now, outage)
        state._barrier = Barrier.load(values["barrier"])
        state._pipelines.starts = tuple(values.get("starts", ()))
        federated.begin(state, now)
        return state

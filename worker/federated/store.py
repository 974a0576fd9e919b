"""FederatedStore: a client's copy of the model. It trains here, and only what a whole round changed goes up."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ps import xp
from ps.config.federated import local_optimizer
from ps.errors import GradientError, StateError
from ps.protocol.layout import Layout
from ps.protocol.messages import Assign, Finished
from ps.protocol.parties import parties
from ps.protocol.security import Security
from ps.secure.helped import Masks
from ps.secure.weights import digest_of
from ps.state_file import StateFile
from ps.worker.background import IDLE, Background, Done, Pending
from ps.worker.crew import StepShare
from ps.worker.cut_plan import CutPlan
from ps.worker.evaluation import Evaluation
from ps.worker.federated.client_checkpoint import ClientCheckpoint, kept_sums
from ps.worker.federated.connection import FederatedConnection
from ps.worker.federated.delta_encoder import DeltaEncoder
from ps.worker.federated.delta_masker import DeltaMasker
from ps.worker.federated.fit import not_finite
from ps.worker.federated.participation import ACCEPTED, LATE, RESUME, PendingUpload
from ps.worker.federated.round_loader import RoundLoader, RoundTask
from ps.worker.federated.training import Training
from ps.worker.gradients import Gradients
from ps.worker.part import ModelPart
from ps.worker.session import Session
from ps.worker.step_log import StepLog
from ps.worker.stop_point import StopPoint
from ps.worker.store import Buffers, Masters, WholeModel, nothing
from ps.worker.traffic import Traffic
from ps.worker.weights import twice
from ps.xp import Array, Device, HostArray

if TYPE_CHECKING:
    from ps.pipeline import Pipeline

log = logging.getLogger("ps.worker")

DECLINED = "declined"
SPARE = "spare"
"""The verdict when the round was full without it, as is planned for."""
MOST_SPOILED = 3
"""Rounds in a row that NaN, Inf or too large a number may spoil before the client gives up."""


class FederatedStore:
    """The model of a federated job, as one of its clients deals with it."""

    background: Background = IDLE

    def __init__(self, session: Session, state_file: StateFile | None = None) -> None:
        """``state_file``: where this client keeps what it needs to go on after a restart; closed with this."""
        self.clock = 0
        self.whole: Callable[[Mapping[str, Any]], WholeModel] | None = None
        self.cut_plan: CutPlan | None = None
        self.traffic = Traffic()
        self.report: Callable[[], dict[str, Any]] = dict
        self.task: RoundTask | None = None
        """What is being trained for; None between rounds."""
        self.finished = False
        """Whether all rounds are done."""
        self._session = session
        session.report = lambda: {**self.report(), "clock": self.clock}
        self.job = self._session.job
        self.rank = self._session.rank
        self.training = Training(self.job)
        self._encoder = DeltaEncoder(self.job, self.rank)
        self._state_file = state_file or StateFile(None)
        self._pending_upload: PendingUpload | None = None
        self._declined = ""
        """Why the last task was given back, which is said once."""
        self._spoiled = 0
        """How many rounds in a row were given back for what could not be sent."""
        self._connection: FederatedConnection | None = None
        self._masker: DeltaMasker | None = None
        self._masks: Masks | None = None
        """Those of the task under way, where deltas are masked."""
        self._flat: Mapping[str, Array] = {}
        self._refresh: Callable[[], None] = lambda: None

    @property
    def scheduler(self) -> str:
        return self._session.scheduler

    @property
    def num_workers(self) -> int:
        return self.job.workers

    def execution(self, pipeline: Pipeline, kv: Any, seed: int) -> None:
        """Each process has all stages."""

    def owed(self) -> None:
        """What a delta left out is kept with the client's own state."""

    def loader(self, device: Device, log: StepLog, evaluation: Evaluation) -> RoundLoader:
        return RoundLoader(self, device, log, evaluation)

    # The model

    @property
    def job_id(self) -> str:
        return self._session.job_id

    @property
    def saves(self) -> bool:
        return self.finished

    def init(
        self,
        layout: Layout,
        values: HostArray,
        *,
        in_place: bool,
        count: Callable[[], Masters] = nothing,
        part: ModelPart | None = None,
    ) -> Buffers:
        self._layout = layout
        whole = layout.with_controls() if self.training.algorithm.control else layout
        self.training.take(layout)
        self._buffer, shown = twice(whole.nbytes)
        self._whole = whole
        connection = self._connection = FederatedConnection(self._session, whole, self.traffic)
        if connection.claim():
            count()
            self._buffer[: values.size] = values
            connection.seed(self._buffer)
        else:
            self.clock = connection.pull(0, self._buffer)
        self._checkpoint = ClientCheckpoint(self._state_file, self._owner(whole))
        self._pending_upload = self._checkpoint.restore(self.training, self._encoder)
        if self.job.specs.secure.build().masks:
            known = parties(Security.of(self._session.process, "worker").folder, self.scheduler)
            about = self.job, connection.chunks, self.job_id
            told = kept_sums(self._state_file, self.job_id)
            self._masker = DeltaMasker(*about, known.signer, known.clients, known.helpers, told)
        return Buffers(self._buffer[: layout.nbytes], shown[: layout.nbytes])

    def _owner(self, layout: Layout) -> dict[str, Any]:
        """Return what decides whether something kept by a client is of use to this one."""
        job = self.job
        optimizer = local_optimizer(job, self.training.algorithm)
        cut = {"servers": job.servers, "chunk size": job.chunk_bytes, "compress": job.compress, "seed": job.seed}
        return {"rank": self.rank, "model": layout.digest(), "algorithm": job.algorithm, "optimizer": optimizer, **cut}

    def place(self, flat: Mapping[str, Array], refresh: Callable[[], None]) -> None:
        """Learn where the script reads the weights, by section; ``refresh`` copies the buffer there."""
        self._flat, self._refresh = flat, refresh

    @property
    def connection(self) -> FederatedConnection:
        if self._connection is None:
            raise StateError("no parameters yet: call kv.init(params) first")
        return self._connection

    # Rounds

    def begin(self) -> RoundTask | None:
        """Wait for a task and get its weights; None when all rounds are done, or when nothing is to do yet.

        In the latter case ``finished`` is false, and this is to be called again.
        """
        connection = self.connection
        self._checkpoint.keep_again(self.training, self._encoder, self._pending_upload)
        answer = connection.poll(self.clock, {})
        upload, self._pending_upload = self._pending_upload, None
        if upload is not None and isinstance(answer, Assign) and answer.task == upload.task:
            if answer.token == upload.token and answer.round == upload.round:
                log.warning("going on with the upload for task %d", upload.task)
                self._deliver(upload)
                return None
            self._deliver(upload, LATE)  # the numbers have begun anew, with another job
        elif upload is not None:
            self._deliver(upload, connection.submit(upload))  # it was decided on meanwhile, or is about to be
        if isinstance(answer, Finished):
            self._bring(answer.version)
            self.finished = True
            self.stop_point.tell(self.clock)
            return None
        if not isinstance(answer, Assign):
            self._session.pause(answer.seconds)
            self.seen = answer.version
            return None
        version = self._bring(answer.round)
        if self._masker is not None:  # before it trains, so that others need not wait for that
            parts = (self._buffer[first:last] for first, last in (chunk.region for chunk in connection.chunks))
            self._masks = self._masker.begin(answer.task, answer.round, self.rank, digest_of(version, parts))
            verdict = connection.agree(self._masks, answer.task, answer.token)
            if verdict:
                log.warning("nothing is trained in round %d for now: %s", answer.round, verdict)
                return None
        self.training.begin(self._vectors(), version)
        self.task = RoundTask(answer.task, answer.round, version, answer.evaluate, answer.token)
        return self.task

    seen = 0
    """The version that the scheduler has named last."""

    def _bring(self, version: int) -> int:
        """Get the published weights; they must not change while a round is trained."""
        self.clock = self.seen = self.connection.pull(version, self._buffer)
        self._refresh()
        return self.clock

    def look(self, version: int) -> int:
        """Get the weights of a version between rounds, to look at them: not counted as the training's traffic."""
        before = self.traffic.bytes_down
        found = self._bring(version)
        self.traffic.bytes_down = before
        return found

    def _vectors(self) -> dict[str, Array]:
        """Return all sections, those of the script's side first; control variates are beside them."""
        hosted = self._whole.flat(self._buffer)
        controls = {key: vector for key, vector in hosted.items() if key not in self._flat}
        if self._flat and controls:
            backend = xp.backend_of(next(iter(self._flat.values())))
            if backend is not xp.NUMPY:
                controls = {key: backend.to_device(vector) for key, vector in controls.items()}
        return {**self._flat, **controls}

    def end(self, examples: float, report: Mapping[str, float]) -> str:
        """Ship what this round has changed; return the verdict on it."""
        task, training = self.task, self.training
        assert task is not None
        self.task = None
        if not training.steps:
            return self._decline(task, "no step was taken")
        delta = training.delta()
        if self._masker is not None and (
            bad := not_finite({key: xp.to_host(part) for key, part in delta.items()}, "the delta of")
        ):
            self.task = task
            return self.spoil(bad)
        self._declined, self._spoiled = "", 0
        frames = self._encoder.pack(delta, self.connection.chunks, task.round)
        if self._masker is not None:
            return self._deliver_masked(self._masker, task, frames, examples)
        numbers = {name: value for name, value in report.items() if math.isfinite(value)}  # JSON knows no others
        about = task.number, task.round, task.version, examples, training.steps, numbers
        upload = PendingUpload(*about, frames, task.token)
        self._checkpoint.keep(training, self._encoder, upload)
        return self._deliver(upload)

    def _deliver_masked(
        self, masker: DeltaMasker, task: RoundTask, frames: Mapping[int, HostArray], examples: float
    ) -> str:
        """Deliver what is masked: of this client's examples, steps and metrics nobody is told."""
        assert self._masks is not None
        masked = masker.frames(frames, examples, task.round, self._masks)
        self._checkpoint.keep(self.training, self._encoder, None)  # whoever comes after this process has no keys
        upload = PendingUpload(task.number, task.round, task.version, 1.0, 1, {}, masked, task.token, self._masks)
        return self._deliver(upload, plain=frames)

    def _deliver(
        self, upload: PendingUpload, verdict: str = RESUME, plain: Mapping[int, HostArray] | None = None
    ) -> str:
        """Upload what servers lack until there is a verdict, and learn from that. ``plain``: the frames unmasked."""
        connection = self.connection
        verdict = connection.contribute(upload, verdict)
        accepted = verdict == ACCEPTED
        if not accepted:
            level = logging.INFO if verdict in (LATE, SPARE) else logging.WARNING
            log.log(level, "this client's contribution to round %d does not count: %s", upload.round, verdict)
            self._encoder.give_back(plain or upload.frames, connection.chunks, upload.round)
        self.training.settle(accepted)
        self._checkpoint.keep(self.training, self._encoder, None)
        return verdict

    def replace(self, params: Mapping[str, HostArray], steps: int) -> None:
        """Have what something else has trained, in so many steps, in the place of this client's own steps."""
        for name, view in self._layout.views(self._flat).items():
            xp.copy(params[name], view)
        self.training.stepped(steps)

    def abandon(self, why: str) -> None:
        """Give the task back that is being trained for, if there is one, and forget what was trained."""
        task, self.task = self.task, None
        if task is not None:
            self._give_back(task, why)

    def decline(self, why: str) -> str:
        """Give the task back for which there is nothing to send, and stay for those to come; return the verdict."""
        self._spoiled = 0
        return self._decline_task(why)

    def spoil(self, why: str) -> str:
        """Give the task back because of NaN or the like in what was trained, and stay; return the verdict.

        Raises GradientError when this was so in several rounds in a row.
        """
        self._spoiled += 1
        if self._spoiled >= MOST_SPOILED:
            raise GradientError(f"{why}, {self._spoiled} times in a row; nothing was sent")
        return self._decline_task(why)

    def _decline_task(self, why: str) -> str:
        task, self.task = self.task, None
        assert task is not None
        return self._decline(task, why)

    def _decline(self, task: RoundTask, why: str) -> str:
        level = logging.DEBUG if why == self._declined else logging.WARNING
        log.log(level, "this client gives its task in round %d back: %s", task.round, why)
        self._declined = why
        self._give_back(task, why)
        return DECLINED

    def _give_back(self, task: RoundTask, why: str) -> None:
        self.training.undo()
        self.connection.decline(task.number, why)

    # What a script's steps do

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        if self.task is None:
            raise StateError(
                "in a federated job a client steps when it takes part in a round: take the batches from kv.batches"
            )
        if gradients is not None:
            if self.training.algorithm.correct is not None:
                gradients.keep()  # what changes them must not change the script's arrays
            vectors, absent = {}, {}
            for chunk in self._layout.of_kind("trainable").whole():
                vectors[chunk.section] = gradients.regions[chunk.index]
                absent[chunk.section] = frozenset(gradients.absent(chunk.index))
            self.training.step(vectors, absent)
        return Done()

    def push_pull(self, gradients: Gradients | None, examples: float, *, veto: bool = False) -> Pending:
        return self.push(gradients, examples)

    def pull(self, into: HostArray) -> Pending:
        if into is self._buffer or into.base is self._buffer:
            if self.task is None:
                self._bring(self.seen)
        else:
            whole = np.empty_like(self._buffer)
            self.connection.pull(self.clock, whole)
            np.copyto(into, whole[: into.size])
        return Done()

    def offer(self, gradients: Gradients, examples: float) -> None:
        raise StateError("only a worker with a part of the model offers gradients")

    def masters(self) -> tuple[int, Mapping[str, HostArray]]:
        raise StateError("nothing is trained in half precision in a federated job")

    def share(self) -> StepShare:
        """Each client has the whole of its own steps."""
        return StepShare(self.clock, 0, 1)

    def drain(self) -> None:
        pass

    def barrier(self) -> None:
        """Return at once, with the latest weights: clients come and go, and nobody waits for them."""
        if self._connection is not None and self.task is None:
            self._bring(self.seen)

    def set_rates(self, groups: Iterable[str], *, lr: float | None = None, weight_decay: float | None = None) -> None:
        self.training.set_rates(self.clock, groups, lr, weight_decay)

    @property
    def stop_point(self) -> StopPoint:
        return self._session.stop_point

    def begin_step(self) -> bool:
        """A client's steps belong to a round, which is always taken to its end."""
        return not (self.finished and self.stop_point.asked)

    def stop(self, reason: str) -> None:
        self._session.stop(self.clock, reason)

    def close(self, failure: str = "") -> None:
        try:
            self._session.leave(failure)
        finally:
            self._state_file.close()

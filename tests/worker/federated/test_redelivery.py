"""FederatedStore after a restart: what becomes of a delta that the process before it trained and had no verdict on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.config import job_from
from ps.config.job import JobConfig
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import Assign, Finished, Late, Resume, Stored, Submitted, UploadState, Wait
from ps.state_file import StateFile
from ps.worker.conversation import Connect, Pause, Question
from ps.worker.federated.participation import RESUME, FederatedParticipation, PendingUpload
from ps.worker.federated.store import FederatedStore
from ps.worker.stop_point import StopPoint

SIZE = 800
LAYOUT = Layout.of({"w": np.zeros(SIZE, np.float32)})


class Killed(BaseException):
    """The process is gone."""


class Desk:
    """A connection whose answers are the test's; ``late`` is what the servers say to uploads."""

    def __init__(self, job: JobConfig) -> None:
        self.job = job
        self.chunks: tuple[Chunk, ...] = LAYOUT.chunks(job.servers, job.chunk_bytes)
        self.polls: list[Any] = []
        self.verdicts: list[str | type[BaseException]] = []
        self.late = False
        self.said: list[tuple[Any, ...]] = []

    def seed(self, values: Any) -> None:
        pass

    def pull(self, version: int, into: Any) -> int:
        return version

    def poll(self, version: int, report: Mapping[str, Any]) -> Any:
        return self.polls.pop(0)

    def claim(self) -> bool:
        return True

    def contribute(self, upload: PendingUpload, verdict: str = RESUME) -> str:
        """Have the real conversation; servers have nothing of the delta yet."""
        part = FederatedParticipation(self.job, LAYOUT, self.chunks, 0, lambda: 7)
        conversation, answers = part.contribute(upload, verdict), None
        while True:
            try:
                asked = conversation.send(answers)
            except StopIteration as end:
                return str(end.value)
            answers = self._answer(upload, asked)

    def _answer(self, upload: PendingUpload, asked: Any) -> Any:
        if isinstance(asked, Connect | Pause):
            return None
        if isinstance(asked, Question):
            return Submitted(1, upload.task, self.submit(upload))
        first = asked.calls[0].make(1)
        if isinstance(first, Resume):
            return [UploadState(1, first.task, ())]
        made = [call.make(1) for call in asked.calls]
        frames = {m.chunk: call.payload.tobytes() for m, call in zip(made, asked.calls, strict=True)}
        self.said.append(("upload", first.task, first.round, frames))
        return [Late(1, m.chunk, 9) if self.late else Stored(1, m.task, m.chunk) for m in made]

    def submit(self, upload: PendingUpload) -> str:
        self.said.append(("submit", upload.task, upload.version, upload.examples, upload.steps, dict(upload.report)))
        verdict = self.verdicts.pop(0)
        if not isinstance(verdict, str):
            raise verdict
        return verdict

    def decline(self, task: int, why: str) -> None:
        self.said.append(("decline", task))

    def kinds(self) -> list[Any]:
        return [entry[:2] for entry in self.said]


class Session:
    rank = 0

    def __init__(self, **job: Any) -> None:
        self.job = job_from({"mode": "federated", "workers": 2, "chunk_size": 1024, **job})
        self.report: Any = None
        self.paused: list[float] = []
        self.stop_point = StopPoint()

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)


Life = Callable[..., tuple[FederatedStore, Desk]]


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    """Begin a process of the client: ``life(algorithm="scaffold")``; all of them have one state file."""

    def begin(**job: Any) -> tuple[FederatedStore, Desk]:
        session: Any = Session(**{"optimizer": "sgd:lr=0.5", "compress": "topk:0.1", **job})
        desks: list[Desk] = []

        def connection(session: Any, layout: Layout, traffic: Any) -> Desk:
            desks.append(Desk(session.job))
            return desks[-1]

        monkeypatch.setattr("ps.worker.federated.store.FederatedConnection", connection)
        store = FederatedStore(session, StateFile(str(tmp_path / "state")))
        buffer = store.init(LAYOUT, np.zeros(LAYOUT.nbytes, np.uint8), in_place=True).weights
        store.place(LAYOUT.flat(buffer), lambda: None)
        return store, desks[0]

    return begin


def train(store: FederatedStore, desk: Desk, task: int = 5, round: int = 3) -> None:
    """Do a round's work up to where the servers are asked."""
    desk.polls.append(Assign(1, task, round, 60.0, False))
    assert store.begin() is not None
    store.training.step({"float32": np.random.default_rng(task).standard_normal(SIZE).astype(np.float32)})


def killed(life: Life, **job: Any) -> tuple[FederatedStore, Desk]:
    """Begin a process, have it killed while it waits for the verdict on task 5 of round 3, and return it."""
    store, desk = life(**job)
    train(store, desk)
    desk.verdicts.append(Killed)
    with pytest.raises(Killed):
        store.end(40.0, {"loss": 0.5, "nan": float("nan")})
    return store, desk


def residual(store: FederatedStore) -> np.ndarray:
    state = store._encoder.state
    return np.concatenate([state[chunk.index]["residual"] for chunk in store.connection.chunks if chunk.index in state])


def test_what_is_assigned_again_goes_on_with_the_same_frames_and_words(life: Life) -> None:
    _, before = killed(life)
    store, desk = life()
    desk.polls, desk.verdicts = [Assign(1, 5, 3, 30.0, False)], ["accepted"]
    assert store.begin() is None
    assert not store.finished
    assert desk.said == before.said
    assert desk.said[1] == ("submit", 5, 3, 40.0, 1, {"loss": 0.5})


def test_once_there_is_a_verdict_the_next_process_knows_nothing_of_it(life: Life) -> None:
    killed(life)
    for verdict in ("accepted", None):
        store, desk = life()
        desk.polls, desk.verdicts = [Assign(1, 5, 3, 30.0, False)], [verdict] if verdict else []
        assert (store.begin() is None) == (verdict is not None)
        assert bool(desk.said) == (verdict is not None)


@pytest.mark.parametrize("answer", [Assign(1, 6, 4, 30.0, False), Wait(1, 3, 0.5), Finished(1, 9)])
def test_what_was_decided_meanwhile_is_asked_for_before_anything_else_is_begun(life: Life, answer: Any) -> None:
    before, _ = killed(life, algorithm="scaffold", compress="none")
    store, desk = life(algorithm="scaffold", compress="none")
    desk.polls, desk.verdicts = [answer], ["accepted"]
    task = store.begin()
    assert desk.kinds() == [("submit", 5)]
    assert (task is not None and task.number == 6) == isinstance(answer, Assign)
    assert store.finished == isinstance(answer, Finished)
    np.testing.assert_array_equal(store.training.own["float32"], before.training.renewed["float32"])
    assert store.training.own["float32"].any()


@pytest.mark.parametrize("verdict", ["late", "vanished", "norm"])
def test_nothing_is_lost_of_what_did_not_count(life: Life, verdict: str) -> None:
    before, _ = killed(life)
    store, desk = life()
    desk.polls, desk.verdicts = [Wait(1, 4, 0.5)], [verdict]
    store.begin()
    trained = before.training.delta()["float32"]
    np.testing.assert_allclose(residual(store), trained, rtol=1e-6)
    assert np.count_nonzero(residual(before)) < SIZE
    again, _ = life()  # and that is on disk
    np.testing.assert_array_equal(residual(again), residual(store))


def test_what_did_not_count_renews_no_control_variates(life: Life) -> None:
    killed(life, algorithm="scaffold", compress="none")
    store, desk = life(algorithm="scaffold", compress="none")
    desk.polls, desk.verdicts = [Assign(1, 6, 4, 30.0, False)], ["late"]
    store.begin()
    assert not store.training.own["float32"].any()


def test_what_a_server_has_lost_meanwhile_is_uploaded_again(life: Life) -> None:
    killed(life)
    store, desk = life()
    desk.polls, desk.verdicts = [Wait(1, 3, 0.5)], ["resume", "resume", "accepted"]
    store.begin()
    assert desk.kinds() == [("submit", 5), ("upload", 5), ("submit", 5), ("upload", 5), ("submit", 5)]


def test_a_task_of_that_number_in_another_job_is_not_taken_for_it(life: Life) -> None:
    killed(life)
    store, desk = life()
    desk.polls = [Assign(1, 5, 0, 30.0, False)]
    task = store.begin()
    assert task is not None
    assert (task.number, task.round) == (5, 0)
    assert not desk.said


@pytest.mark.parametrize("verdict", ["accepted", "spare", "resume"])
def test_what_servers_take_no_more_of_may_have_been_decided_on_already(life: Life, verdict: str) -> None:
    store, desk = life()
    train(store, desk)
    desk.late, desk.verdicts = True, [verdict]
    assert store.end(40.0, {}) == ("late" if verdict == "resume" else verdict)
    assert desk.kinds() == [("upload", 5), ("submit", 5)]
    kept = np.count_nonzero(residual(store))
    assert kept == SIZE if verdict != "accepted" else kept < SIZE, "only what does not count is remembered as a whole"


@pytest.mark.parametrize(("verdict", "level"), [("spare", "INFO"), ("late", "INFO"), ("norm", "WARNING")])
def test_what_is_planned_for_is_no_warning(
    life: Life, verdict: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, desk = life()
    train(store, desk)
    desk.verdicts = [verdict]
    with caplog.at_level("INFO"):
        store.end(40.0, {})
    assert [record.levelname for record in caplog.records if "does not count" in record.message] == [level]


def test_a_lost_server_has_its_part_again_and_the_verdict_comes_after_that(life: Life) -> None:
    store, desk = life()
    train(store, desk)
    desk.verdicts = ["resume", "accepted"]
    assert store.end(40.0, {}) == "accepted"
    assert desk.kinds() == [("upload", 5), ("submit", 5)] * 2
    assert desk.said[0] == desk.said[2]


def test_no_step_no_delta(life: Life) -> None:
    store, desk = life()
    desk.polls = [Assign(1, 5, 3, 60.0, False)]
    store.begin()
    assert store.end(40.0, {}) == "declined"
    assert desk.kinds() == [("decline", 5)]


def test_who_has_nothing_to_do_waits_as_long_as_the_scheduler_says(life: Life) -> None:
    store, desk = life()
    desk.polls = [Wait(1, 7, 0.75)]
    assert store.begin() is None
    session: Any = store._session
    assert (session.paused, store.seen, store.finished) == ([0.75], 7, False)

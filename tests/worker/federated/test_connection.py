"""FederatedConnection: what it asks of servers and what it makes of their answers, without a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from ps.config import job_from
from ps.errors import BadMessage, PeerLost, ServerLost, ServersMoved
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Assign,
    Busy,
    InitChunk,
    InitDone,
    Late,
    Message,
    Ok,
    Pull,
    Resume,
    Stored,
    Submit,
    Submitted,
    Upload,
    UploadState,
    Weights,
)
from ps.worker.exchange import Exchange
from ps.worker.federated.connection import FederatedConnection
from ps.worker.federated.participation import PULLS, PendingUpload
from ps.worker.server_channels import ToShare
from ps.worker.traffic import Traffic
from support.fakeserver import Setup

LAYOUT = Layout.of({"w": np.zeros(1024, np.float32)})
FRAMES = {index: np.full(1024, index, np.uint8) for index in range(4)}


class Session:
    """A client's place in a job of two servers and four chunks: one exchange after another, as servers are replaced."""

    member, rank, moved = 7, 3, False

    def __init__(self, make: Callable[..., Setup]) -> None:
        self.job = job_from({"mode": "federated", "servers": 2, "workers": 4, "chunk_size": 1024})
        self._make = make
        self.setups: list[Setup] = []
        self.connected = False
        self.paused: list[float] = []
        self.asked: list[Message] = []
        self.answers: list[Message] = []
        self.torn = 0
        self.script: Callable[[Any], list[Any]] = lambda message: []

    @property
    def exchange(self) -> Exchange:
        return self.setups[-1].exchange

    def connect(self, traffic: Traffic, shared: ToShare) -> None:
        assert shared == ToShare(4096)
        self.setups.append(self._make(servers=2, window=1 << 20))
        for server in self.setups[-1].servers:
            server.script = lambda message: self.script(message)
        self.connected = True

    def disconnect(self) -> None:
        self.connected = False

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    def ask(self, make: Callable[[int, int], Message], kind: type[Any], waiting: str) -> Any:
        self.asked.append(make(1, self.member))
        if isinstance(self.asked[-1], InitDone) and self.torn:
            self.torn -= 1
            raise ServerLost("a server was lost while the first values were sent")
        return self.answers.pop(0)

    def heard(self, kind: type[Any]) -> list[Any]:
        return [m for setup in self.setups for server in setup.servers for m in server.of(kind)]


@pytest.fixture
def session(setup: Callable[..., Setup]) -> Iterator[Session]:
    made = Session(setup)
    yield made
    for each in made.setups:
        each.close()


def connection(session: Session) -> FederatedConnection:
    return FederatedConnection(session, LAYOUT, Traffic())  # type: ignore[arg-type]


class Shelf:
    """What the servers have of one task; ``room`` is how many chunks they take before they say Busy."""

    def __init__(self, *held: int, room: int = 100, late: bool = False) -> None:
        self.held, self.room, self.late = set(held), room, late

    def __call__(self, message: Any) -> list[Any]:
        match message:
            case Resume():
                return [UploadState(message.request, message.task, tuple(sorted(self.held)))]
            case Upload() if self.late:
                return [Late(message.request, message.chunk, 9)]
            case Upload() if len(self.held) >= self.room:
                self.room += 1  # some other upload is done
                return [Busy(message.request, message.chunk, 0.25)]
            case Upload():
                self.held.add(message.chunk)
                return [Stored(message.request, message.task, message.chunk)]
        return []


def test_an_upload_goes_to_the_owners_and_says_whose_and_for_what_it_is(session: Session) -> None:
    shelf = session.script = Shelf()
    assert connection(session).upload(12, 5, FRAMES, 0)
    assert shelf.held == {0, 1, 2, 3}
    for rank, server in enumerate(session.setups[0].servers):
        uploads = server.of(Upload)
        assert sorted(upload.chunk for upload in uploads) == [rank, rank + 2]
        assert {(u.member, u.task, u.round, u.rank) for u in uploads} == {(7, 12, 5, 3)}


def test_only_what_the_servers_do_not_have_is_uploaded(session: Session) -> None:
    session.script = Shelf(0, 1, 3)
    assert connection(session).upload(12, 5, FRAMES, 0)
    assert [upload.chunk for upload in session.heard(Upload)] == [2]


def test_a_server_without_room_is_asked_again_as_late_as_it_says_for_what_it_did_not_take(session: Session) -> None:
    shelf = session.script = Shelf(room=2)
    assert connection(session).upload(12, 5, FRAMES, 0)
    assert shelf.held == {0, 1, 2, 3}
    assert set(session.paused) == {0.25}
    stored = [upload.chunk for upload in session.heard(Upload)]
    assert all(stored.count(chunk) <= 1 + len(session.paused) for chunk in range(4))
    assert len(stored) == 4 + 2


def test_late_ends_an_upload_and_nothing_more_is_sent(session: Session) -> None:
    session.script = Shelf(0, late=True)
    assert not connection(session).upload(12, 5, FRAMES, 0)
    assert len(session.heard(Upload)) == 3
    assert not session.paused


@pytest.mark.parametrize("error", [ServersMoved("server 1 was replaced"), ServerLost("server 1 keeps silent")])
def test_a_replaced_server_is_connected_to_anew_and_the_upload_goes_on(session: Session, error: Any) -> None:
    shelf = Shelf()

    def script(message: Any) -> list[Any]:
        if isinstance(message, Upload) and message.chunk == 3 and len(session.setups) == 1:
            shelf.held -= {1}  # what the lost server had is gone
            session.setups[0].failure = error
            return []
        return shelf(message)

    session.script = script
    assert connection(session).upload(12, 5, FRAMES, 0)
    assert shelf.held == {0, 1, 2, 3}
    assert (len(session.setups), session.paused) == (2, [1.0])
    assert sorted(u.chunk for server in session.setups[1].servers for u in server.of(Upload)) == [1, 3]


def test_an_exchange_with_a_server_that_was_replaced_between_rounds_is_not_used_again(session: Session) -> None:
    session.script = Shelf()
    made = connection(session)
    made.upload(12, 5, FRAMES, 0)
    session.moved = True
    made.connect()
    assert len(session.setups) == 2


def test_another_failure_is_not_taken_for_a_replaced_server(session: Session) -> None:
    def script(message: Any) -> list[Any]:
        session.setups[0].failure = PeerLost("the job has ended")
        return []

    session.script = script
    with pytest.raises(PeerLost, match="the job has ended"):
        connection(session).upload(12, 5, FRAMES, 0)
    assert len(session.setups) == 1


def published(versions: Callable[[Any], int]) -> Callable[[Any], list[Any]]:
    """Servers that have a version of each chunk; its bytes all say which."""

    def script(message: Any) -> list[Any]:
        if isinstance(message, Pull):
            found = versions(message)
            return [[Weights(message.request, message.chunk, found, 0), bytes([found]) * 1024]]
        return []

    return script


def test_weights_that_are_pulled_are_all_of_one_version(session: Session) -> None:
    asked: list[int] = []

    def versions(pull: Any) -> int:
        asked.append(pull.chunk)
        return 6 if len(asked) > 2 else 5  # version 6 comes out while version 5 is pulled

    session.script = published(versions)
    buffer = np.zeros(4096, np.uint8)
    assert connection(session).pull(5, buffer) == 6
    assert set(buffer.tolist()) == {6}
    assert len(asked) == 6
    assert [pull.clock for pull in session.heard(Pull)].count(6) == 2


def test_a_model_that_changes_faster_than_it_can_be_pulled_is_an_error_and_no_endless_loop(session: Session) -> None:
    asked: list[int] = []

    def versions(pull: Any) -> int:
        asked.append(pull.chunk)
        return len(asked)

    session.script = published(versions)
    with pytest.raises(PeerLost, match=f"changed {PULLS} times"):
        connection(session).pull(0, np.zeros(4096, np.uint8))


def test_the_first_values_go_to_their_owners_before_anything_else(session: Session) -> None:
    session.script, session.answers = lambda message: [Ok(message.request)], [Ok(1)]
    connection(session).seed(np.zeros(4096, np.uint8))
    for server in session.setups[0].servers:
        assert [type(message).__name__ for message in server.heard] == ["Init", "InitChunk", "InitChunk"]
    assert sorted(message.chunk for message in session.heard(InitChunk)) == [0, 1, 2, 3]


def test_the_first_values_are_sent_again_when_a_server_was_lost_that_had_some(session: Session) -> None:
    session.script, session.answers = lambda message: [Ok(message.request)], [Ok(1)]
    session.torn = 1
    connection(session).seed(np.zeros(4096, np.uint8))
    assert [len(server.of(InitChunk)) for made in session.setups for server in made.servers] == [2, 2, 2, 2]


def test_what_the_scheduler_says_is_handed_on_and_what_cannot_be_is_refused(session: Session) -> None:
    assign = Assign(1, 4, 2, 60.0, False)
    session.answers = [assign, Submitted(1, 4, "accepted"), Ok(1), Ok(1)]
    made = connection(session)
    assert made.poll(2, {}) is assign
    assert made.submit(PendingUpload(4, 2, 2, 30.0, 5, {"loss": 0.5}, {}, 0)) == "accepted"
    submit: Any = session.asked[1]
    assert submit == Submit(1, 7, 4, 2, 30.0, 5, {"loss": 0.5})
    made.decline(4, "x" * 1000)
    decline: Any = session.asked[2]
    assert len(decline.why) == 200
    with pytest.raises(BadMessage, match="to a Poll"):
        made.poll(2, {})


def test_a_server_that_claims_what_it_has_not_has_a_client_ask_again_no_faster_than_once_a_second(
    session: Session,
) -> None:
    session.script = Shelf(0, 1, 2, 3)
    verdicts = ["resume"] * 5 + ["late"]
    session.answers = [Submitted(1, 12, verdict) for verdict in verdicts]  # type: ignore[arg-type]
    upload = PendingUpload(12, 5, 5, 10.0, 1, {}, FRAMES, 0)
    assert connection(session).contribute(upload) == "late"
    assert session.paused == [1.0] * 4, "the first time a server may have lost it, and is given it at once"

"""Promises of what a scheduler keeps: nothing is left unsaved, and a restart says what it makes of the file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ps.protocol.messages import InitDone, InitRequest, Leave
from ps.server.scheduler.database import Database
from ps.server.scheduler.persistence import Persistence
from ps.server.scheduler.state import SchedulerState
from support.desk import MODEL, Desk


class Kept(Desk):
    """A desk whose scheduler has a file, and can be killed."""

    def __init__(self, path: Path, **explicit: Any) -> None:
        super().__init__(**explicit)
        self.path = path
        self.wall = 1_000_000.0
        self.persistence = Persistence(str(path), lambda: self.wall)

    def keep(self) -> None:
        self.persistence.keep(self.state, self.now)

    def restart_with(self, outage: float = 0.0, is_first: bool = False, **explicit: Any) -> SchedulerState:
        """Kill the scheduler and start it again after ``outage`` seconds, with these settings."""
        self.persistence.close()
        self.wall += outage
        self.persistence = Persistence(str(self.path), lambda: self.wall)
        self.state = self.persistence.restore({**self.state.explicit, **explicit}, self.now, is_first=is_first)
        return self.state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "job.db"


@pytest.fixture
def full_disk(path: Path) -> Iterator[Kept]:
    """A desk whose state does not fit on its disk."""
    desk = Kept(path, workers=2)
    database = desk.persistence._database._db
    assert database is not None
    desk.keep()
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count={pages}")
    yield desk
    desk.persistence.close()


def test_what_a_full_disk_did_not_take_is_saved_when_there_is_room(
    full_disk: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    desk = full_disk
    desk.fill()
    for _ in range(200):
        desk.join()
    for _ in range(5):
        desk.now += 1.0
        desk.keep()
    database = desk.persistence._database._db
    assert database is not None
    database.execute("PRAGMA max_page_count=100000")
    desk.now += 2.0
    desk.keep()  # nothing has happened since but that there is room
    assert desk.restart_with().count("worker") == 202
    texts = [record.getMessage() for record in caplog.records]
    assert sum("cannot save the state" in text for text in texts) == 1
    assert sum("nothing is lost" in text for text in texts) == 1


def test_settings_that_are_given_anew_are_taken_or_named(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    desk = Kept(path, heartbeat_timeout=10.0)
    desk.fill()
    desk.keep()
    with caplog.at_level(logging.WARNING):
        state = desk.restart_with(heartbeat_timeout=60.0, mode="async", idle_timeout=7.0, workers=2)
    assert state.job is not None
    assert (state.job.idle_timeout, state.job.heartbeat_timeout, state.job.mode) == (7.0, 10.0, "sync")
    text = caplog.text
    assert "--heartbeat-timeout 60.0 is ignored" in text and "goes on with 10.0" in text
    assert "--mode async is ignored" in text and "--idle-timeout is 7.0 from now on" in text
    assert "--workers" not in text


@pytest.mark.parametrize(("outage", "patience"), [(0.0, 9), (60.0, 129)])
def test_members_have_time_to_find_a_scheduler_that_was_away(path: Path, outage: float, patience: float) -> None:
    desk = Kept(path)
    workers = desk.fill()
    desk.keep()
    for _ in range(50):  # a long job in which nothing happens that is worth saving
        desk.wall += 10.0
        desk.now += 10.0
        desk.keep()
    desk.restart_with(outage)
    desk.wait(patience, *workers)
    assert not desk.state.deaths
    desk.wait(3, *workers)
    assert len(desk.state.deaths) == 2


def test_a_job_that_has_ended_stays_ended(path: Path) -> None:
    desk = Kept(path)
    for worker in desk.fill():
        desk.say(Leave(1, worker, {}))
    desk.keep()
    state = desk.restart_with()
    assert state.phase == "ended" and state.count("server") == 1
    assert desk.refused().code == "ended"


def test_a_job_that_has_failed_with_its_model_is_followed_by_a_new_one(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Kept(path)
    desk.fill()
    desk.wait(11, 1)
    desk.keep()
    assert desk.restart_with().phase == "waiting" and "A new one begins" in caplog.text


@pytest.mark.parametrize("mode", ["sync", "federated"])
def test_a_job_whose_members_are_all_gone_and_have_kept_nothing_is_followed_by_a_new_one(
    path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Kept(path, mode=mode)
    desk.fill()
    desk.keep()
    state = desk.restart_with(is_first=True, workers=3)
    assert (state.phase, state.setting("workers"), state.count("server")) == ("waiting", 3, 0)
    assert "was cut off" in caplog.text and "A new one begins" in caplog.text
    desk.join("server", 0)


def test_rounds_whose_members_are_all_gone_go_on_with_others_in_their_places_at_once(path: Path) -> None:
    desk, _ = _with_rounds(path)
    desk.keep()
    state = desk.restart_with(outage=60.0, is_first=True)
    assert (state.phase, state.count("server"), state.count("worker")) == ("running", 0, 0)
    assert state.rounds is not None
    assert (desk.join("server", 0).rank, desk.join(rank=0).rank) == (0, 0)
    assert desk.refused("server", 0).code == "rank-taken"


def _with_rounds(path: Path, **job: Any) -> tuple[Kept, list[int]]:
    """Return a desk with a federated job that has its first values, and its clients."""
    desk = Kept(path, mode="federated", **job)
    clients = desk.fill()
    desk.say(InitRequest(1, clients[0], MODEL))
    desk.say(InitDone(2, clients[0]))
    return desk, clients


def test_a_federated_job_that_has_failed_goes_on_with_its_rounds(path: Path) -> None:
    desk, clients = _with_rounds(path, idle_timeout=20.0)
    desk.wait(60, *clients)
    assert (desk.state.phase, desk.state.code) == ("failed", "no-worker")
    desk.keep()
    state = desk.restart_with()
    assert (state.phase, state.reason) == ("running", "") and state.rounds is not None
    desk.join()
    desk.wait(60)
    assert desk.state.phase == "running"


def test_with_a_privacy_budget_a_save_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Database] = []
    monkeypatch.setattr(Database, "wait_for_disk", lambda database: waited.append(database))
    for name, explicit in (("a", {}), ("b", {"mode": "federated", "dp": "eps=8,delta=1e-5,clip=1"})):
        persistence = Persistence(str(tmp_path / name))
        persistence.keep(SchedulerState(explicit, 0.0), 0.0)
        persistence.close()
        assert bool(waited) == bool(explicit)

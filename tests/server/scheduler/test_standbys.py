"""Promises of standbys: one that has all goes on for a server that is gone, also after a restart; no other one does."""

from __future__ import annotations

import json

import pytest

from ps.protocol.membership import peers
from ps.protocol.messages import Hello, ReplicaReady
from ps.server.scheduler.member_record import DEAD, MemberRecord
from ps.server.scheduler.state import SchedulerState


def job(workers: int = 1) -> SchedulerState:
    """A job of two servers, each with a standby, that runs."""
    state = SchedulerState({"servers": 2, "workers": workers, "replicas": 1}, 0.0)
    for nonce in range(4):
        state.receive(Hello(0, nonce, "server", -1, "h", 1, "", (f"tcp://h:{nonce}",), {}), 0.0)
    state.receive(Hello(0, 9, "worker", -1, "h", 1, "", (), {}), 0.0)
    return state


def server(state: SchedulerState, rank: int) -> MemberRecord:
    record = state.roster.at("server", rank)
    assert record is not None
    return record


def ready(state: SchedulerState, rank: int, primary: int) -> None:
    state.receive(ReplicaReady(server(state, rank).member, server(state, primary).member), 1.0)


def lose(state: SchedulerState, rank: int) -> None:
    state.lose(server(state, rank), DEAD, "killed", 2.0)


def test_the_job_begins_when_all_standbys_are_there_and_they_are_not_counted_as_servers() -> None:
    state = SchedulerState({"servers": 2, "replicas": 1}, 0.0)
    state.receive(Hello(0, 9, "worker", -1, "h", 1, "", (), {}), 0.0)
    for nonce in range(4):
        assert state.phase == "waiting"
        state.receive(Hello(0, nonce, "server", -1, "h", 1, "", (), {}), 0.0)
    assert state.phase == "running"
    assert state.count("server") == 2
    assert [record.rank for record in state.roster.standbys] == [2, 3]


def test_a_standby_that_has_all_gets_the_rank_and_the_address_that_workers_go_by() -> None:
    state = job()
    ready(state, 2, 0)
    epoch, member = state.epoch, server(state, 2).member
    lose(state, 0)
    assert (state.phase, state.epoch) == ("running", epoch + 1)
    shown = {peer.rank: peer for peer in peers(state.view()) if peer.role == "server"}
    assert shown[0].member == member
    assert shown[0].addresses == ("tcp://h:2",)
    assert not server(state, 0).in_sync


def test_what_a_standby_has_survives_a_restart_of_the_scheduler() -> None:
    state = job()
    ready(state, 3, 1)
    assert state.changed, "it is saved before it counts"
    state = SchedulerState.load(json.loads(json.dumps(state.dump())), 5.0)
    lose(state, 1)
    assert state.phase == "running"


@pytest.mark.parametrize("primary", [None, 1], ids=["it has not said so", "it has another server's part"])
def test_a_standby_that_has_not_all_goes_on_for_nobody(primary: int | None) -> None:
    state = job()
    if primary is not None:
        ready(state, 2, primary)
    lose(state, 0)
    assert (state.phase, state.code) == ("failed", "server-lost")
    assert "a standby that did not have all of it yet" in state.reason


def test_a_second_death_ends_the_job_unless_another_standby_is_filled() -> None:
    state = job()
    ready(state, 2, 0)
    lose(state, 0)
    again = SchedulerState.load(json.loads(json.dumps(state.dump())), 5.0)
    lose(again, 0)
    assert again.phase == "failed"
    assert "there was no standby" in again.reason
    state.receive(Hello(0, 20, "server", -1, "h", 1, "", (), {}), 3.0)
    assert server(state, 2).number > server(state, 0).number
    ready(state, 2, 0)
    lose(state, 0)
    assert state.phase == "running"


def test_the_death_of_a_standby_ends_nothing() -> None:
    state = job()
    lose(state, 2)
    assert state.phase == "running"
    assert all(peer.rank != 2 for peer in peers(state.view()) if peer.role == "server")

"""Promises of records between a server and its standby: none is lost unseen, and a copy that differs is never kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.config.cut import cut_for_links
from ps.config.job import JobConfig
from ps.errors import BadMessage, ReplicaDiverged
from ps.protocol.layout import Layout
from ps.protocol.messages import Message, ReplicaFilled, ReplicaModel, ReplicaRecord, ReplicaStep
from ps.server.shard.gradient_shard import GradientShard
from ps.server.shard.replication.backup import Backup
from ps.server.shard.replication.outbox import Outbox

LAYOUT = Layout.of({"w": np.zeros(8, np.float32)})
NOTHING: dict[str, Any] = {
    "chunk": 0,
    "reached": 0,
    "vetoed": -1,
    "rate": (0, 0, 0.0, 0.0),
    "done": (),
    "gone": (),
    "holds": (),
    "missed": (),
    "norms": (),
    "combined": -1,
    "scalers": (),
    "shadow": -1,
}


def backup() -> Backup:
    """A standby that has a model of zeros, in one chunk."""
    shard = GradientShard(0)
    shard.job = JobConfig(replicas=1, optimizer="sgd:lr=1")
    found = Backup(shard, 5)
    found.take(ReplicaModel(1, 3, 1, shard.job.chunk_bytes, LAYOUT.pack()), None)
    found.work()
    shard.chunks[0].filled = True
    return found


def step(number: int, version: int, checksum: int = -1, *, more: bool = False) -> ReplicaStep:
    about: dict[str, Any] = {**NOTHING, "version": version, "updates": version, "checksum": checksum, "more": more}
    return ReplicaStep(number=number, change="step", **about, clock=version - 1, nbytes=32)


ONES = np.ones(8, np.float32)


def test_a_record_that_is_missing_is_noticed_with_the_next_or_by_the_count() -> None:
    found = backup()
    with pytest.raises(ReplicaDiverged, match="record 3 of server 0 came after 1"):
        found.take(ReplicaFilled(3), None)
    found.demand(1)
    with pytest.raises(ReplicaDiverged, match="has sent 2 records, and 1 came"):
        found.demand(2)
    assert not found.filled


def test_steps_of_one_event_count_together_or_not_at_all() -> None:
    found = backup()
    found.take(step(2, 1, more=True), ONES.copy())
    shard = found.finish()
    assert (shard.chunks[0].version, shard.chunks[0].weights[0]) == (0, 0.0)
    found = backup()
    found.take(step(2, 2, more=True), ONES.copy())
    found.take(step(3, 2), ONES.copy())
    chunk = found.finish().chunks[0]
    assert (chunk.version, chunk.updates, chunk.weights[0]) == (2, 2, -2.0)


@pytest.mark.parametrize("wrong", [{"checksum": 7}, {"updates": 5}], ids=["other weights", "other updates"])
def test_a_copy_that_is_not_what_its_server_has_is_given_up_by_name(wrong: dict[str, Any]) -> None:
    found, record = backup(), step(2, 1)
    values = {name: getattr(record, name) for name in record.__match_args__}  # type: ignore[attr-defined]
    found.take(ReplicaStep(**{**values, **wrong}), ONES)
    with pytest.raises(ReplicaDiverged, match="chunk 0"):
        found.work()


def test_a_gradient_or_array_of_the_wrong_size_is_refused() -> None:
    found = backup()
    found.take(step(2, 1), np.ones(4, np.float32))
    with pytest.raises(BadMessage, match="payload of 16 bytes"):
        found.work()
    whole: dict[str, Any] = {**NOTHING, "version": 0, "updates": 0, "checksum": -1, "more": False}
    found.take(ReplicaRecord(number=3, change="whole", **whole), None)
    with pytest.raises(BadMessage, match="weights of a chunk has 0 bytes"):
        found.work()


def test_an_outbox_sends_no_more_than_there_is_room_for_and_in_order() -> None:
    ring = np.zeros(256, np.uint8)
    outbox = Outbox(b"x", 256, ring)
    made: list[tuple[int, int]] = []

    def make(number: int, place: int) -> Message:
        made.append((number, place))
        return ReplicaFilled(number)

    for value in range(5):
        outbox.put(make, np.full(100, value, np.uint8))
    outbox.put(make)
    assert [send.message.number for send in outbox.send()] == [1, 2]  # type: ignore[attr-defined]
    assert (made, outbox.idle) == ([(1, 0), (2, 128)], False)
    assert (ring[0], ring[128]) == (0, 1)
    assert outbox.reserve(1, np.uint8) is None, "what waits goes first"
    assert outbox.heard(2, 1)
    assert [send.message.number for send in outbox.send()] == [3]  # type: ignore[attr-defined]
    assert made[-1] == (3, 0)
    assert outbox.heard(3, 3)
    assert [send.message.number for send in outbox.send()] == [4, 5, 6]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("received", "applied"), [(3, 0), (1, 2), (0, 0)])
def test_an_acknowledgement_that_cannot_be_is_refused(received: int, applied: int) -> None:
    outbox = Outbox(b"x", 256, None)
    for _ in range(2):
        outbox.put(lambda number, place: ReplicaFilled(number))
    outbox.send()
    assert outbox.heard(1, 1)
    assert not outbox.heard(received, applied)


def test_a_standby_takes_the_model_as_it_is_cut_between_hosts_though_its_view_does_not_say_so_yet() -> None:
    layout = Layout.of({"w": np.zeros(800_000, np.float32)})
    shard = GradientShard(0)
    shard.job = JobConfig(replicas=1)
    found = Backup(shard, 5)
    found.take(ReplicaModel(1, 3, 1, 200_000, layout.pack()), None)
    found.work()
    assert len(shard.chunks) == 16 and shard.job == cut_for_links(JobConfig(replicas=1))
    found.take(ReplicaModel(2, 3, 1, 100_000, layout.pack()), None)
    with pytest.raises(BadMessage, match="or cut in another way"):
        found.work()

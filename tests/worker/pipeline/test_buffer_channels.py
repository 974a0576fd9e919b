"""Promises of memory between workers of one host: a job has the bits of one process in it, what a stage is given there
is its own to change, whoever is no worker of the pipeline hands nothing over, and nothing is left behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from ps.errors import BadMessage, Unshared
from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.protocol.codec import encode
from ps.protocol.messages import Introduce, Ping, ShareBuffer, SharedTransfer
from ps.protocol.segment import Segment
from ps.protocol.unix_channel import UnixChannel
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.pipeline.buffer_channels import BufferChannels
from ps.worker.pipeline.shared_buffers import AdoptedBuffers, OfferedBuffers
from support.held import descriptors, mappings

WIDE = 300
SMALL = 16 << 10
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((96, 6), np.float32), RANDOM.integers(0, 4, 96)
TOKEN = 77
ME = Introduce(0, 5, TOKEN)


class Doubling:
    """A layer that works in the memory of what it is given."""

    def __init__(self) -> None:
        self.in_shared_memory = 0

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {}

    def forward(self, params: Any, x: np.ndarray) -> tuple[np.ndarray, None]:
        self._note(x)
        x *= 2
        return x, None

    def backward(self, params: Any, saved: None, dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        self._note(dy)
        dy *= 2
        return dy, {}

    def _note(self, array: np.ndarray) -> None:
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if "/memfd:ps" in line]
        ranges = [[int(end, 16) for end in line[0].split("-")] for line in maps]
        self.in_shared_memory += any(low <= array.ctypes.data < high for low, high in ranges)


def train(kv: KV, middle: Doubling) -> tuple[dict[str, np.ndarray], list[float]]:
    first, *rest = mlp.stages([6, WIDE, WIDE, 4])
    pipe = Pipeline([first, middle, *rest], softmax_cross_entropy, cuts=[1, 2], inexact=True)
    pipe.init(kv, seed=3)
    losses = [pipe.step(x, y, microbatches=4) for x, y in kv.batches((X, Y), batch_size=96, epochs=4)]
    return {name: np.array(value) for name, value in kv.params.items()}, losses


def test_a_job_has_the_bits_of_one_process_and_a_stage_works_in_the_very_memory_it_shares(
    loopback: Callable[..., LocalCluster], local: Callable[..., KV]
) -> None:
    whole, losses = train(local(), Doubling())
    before = None
    for transport in ("ipc", "auto"):
        middles = [Doubling() for _ in range(3)]
        job = loopback(mode="pipeline", workers=3, transport=transport)
        found = job.run(*[lambda kv, own=own: train(kv, own) for own in middles])
        job.close()
        assert all(each[1] == losses for each in found)
        for params, _ in found:
            assert all(np.array_equal(value, whole[name]) for name, value in params.items())
        assert (middles[1].in_shared_memory > 0) == (transport == "auto")
        after = mappings(), descriptors()  # which are all that there is of memory without a name
        assert before in (None, after), "nothing is left"
        before = after


Ends = tuple[BufferChannels, BufferChannels, zmq.Poller]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    """The channels of a sender and of a receiver, and the poller of the latter."""
    poller = zmq.Poller()
    sender = BufferChannels(tmp_path, zmq.Poller(), lambda message: None)
    receiver = BufferChannels(tmp_path, poller, lambda message: 1 if message == ME else None)
    yield sender, receiver, poller
    sender.close()
    receiver.close()


def look(receiver: BufferChannels, poller: zmq.Poller) -> None:
    while ready := dict(poller.poll(20)):
        list(receiver.receive(ready))


def filled(offered: OfferedBuffers, ends: Ends) -> tuple[int, int, int]:
    assert offered.take(SMALL) is None
    look(ends[1], ends[2])
    lent = offered.take(SMALL)
    assert lent is not None
    lent.memory[:] = 3
    return lent.number, lent.use, SMALL


def test_buffers_outlive_the_channel_over_which_they_came_but_not_another_worker_of_that_rank(ends: Ends) -> None:
    sender, receiver, poller = ends
    about = filled(sender.offer(1, receiver.address, ME), ends)
    sender.close()
    look(receiver, poller)
    assert (receiver.buffers(1).receive(*about) == 3).all()
    other = BufferChannels(Path(receiver.address.removeprefix("shm://")).parent, zmq.Poller(), lambda message: None)
    other.offer(1, receiver.address, ME)
    look(receiver, poller)
    with pytest.raises(BadMessage):
        receiver.buffers(1).receive(*about)
    other.close()


def test_a_worker_to_which_nothing_can_be_handed_any_more_gets_what_it_has_room_for(ends: Ends) -> None:
    sender, receiver, _ = ends
    offered = sender.offer(1, receiver.address, ME)
    number, use, nbytes = filled(offered, ends)
    receiver.buffers(1).receive(number, use, nbytes)
    receiver.close()
    assert offered.take(20 * SMALL) is None
    assert offered.take(20 * SMALL) is None
    assert offered.nbytes < 20 * SMALL


@pytest.mark.parametrize(
    ("messages", "files"),
    [
        ([ShareBuffer(5, 1, SMALL)], 1),
        ([ME, ShareBuffer(5, 1, SMALL)], 0),
        ([ME, ME], 0),
        ([ME, Ping(1)], 0),
        ([ME, ShareBuffer(5, 1, 1 << 30)], 1),
        ([ME, ShareBuffer(5, 1, 8)], 1),
    ],
)
def test_who_is_no_worker_of_the_pipeline_and_what_is_no_buffer_is_cut_off(
    ends: Ends, messages: list[Any], files: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, receiver, poller = ends
    before = descriptors()
    channel = UnixChannel.connect(receiver.address.removeprefix("shm://"))
    segment = Segment.create(SMALL)
    for message in messages:
        channel.send(encode(message), [segment.fd] * files if isinstance(message, ShareBuffer) else [])
    look(receiver, poller)
    list(channel.receive())
    assert channel.closed
    assert "shares no more memory with this one" in caplog.text
    del segment
    assert descriptors() == before


def test_who_takes_the_place_of_another_is_heard_once_it_is_known_and_a_stranger_never(tmp_path: Path) -> None:
    poller, known = zmq.Poller(), {ME.token: 1}
    spare = Introduce(0, 6, TOKEN + 1)
    receiver = BufferChannels(tmp_path, poller, lambda message: known.get(message.token))
    channels = [BufferChannels(tmp_path, zmq.Poller(), lambda message: None) for _ in range(3)]
    former, later, stranger = channels
    former.offer(1, receiver.address, ME)
    look(receiver, poller)
    offered = later.offer(1, receiver.address, spare)
    stranger.offer(1, receiver.address, Introduce(0, 7, TOKEN + 2))
    said = SharedTransfer(6, 1, 0, "plan", 1, 0, 0, {"tree": ("v", 1)}, 0, 0)
    assert offered.take(SMALL) is None
    assert later.send(1, said)
    look(receiver, poller)
    receiver.part_from(1)
    del known[ME.token]
    known[spare.token] = 1
    receiver.meet()
    found = list(receiver.receive({}))
    while ready := dict(poller.poll(20)):
        found += receiver.receive(ready)
    assert found == [(1, said)]
    lent = offered.take(SMALL)
    assert lent is not None, "the memory that it had handed over is used"
    assert receiver.buffers(1).receive(lent.number, lent.use, SMALL).size == SMALL
    assert not former.send(1, said) or not former.send(1, said), "what there was to the one that is gone is closed"
    for each in (*channels, receiver):
        each.close()


def test_a_peer_that_is_not_there_or_of_another_user_is_told_by_name(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver, poller = ends
    with pytest.raises(Unshared, match="No such file"):
        sender.offer(1, f"{receiver.address}x", ME)
    uid = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(Unshared, match="another user"):
        sender.offer(1, receiver.address, ME)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(receiver.address.removeprefix("shm://"))
        look(receiver, poller)
        raw.settimeout(5)
        assert raw.recv(1) == b""


def test_a_buffer_that_cannot_be_mapped_is_not_used_and_told(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sender, receiver, poller = ends
    offered = sender.offer(1, receiver.address, ME)

    def adopt(buffers: AdoptedBuffers, number: int, size: int, segment: Segment) -> None:
        raise Unshared(f"{size} bytes of shared memory cannot be mapped: Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(AdoptedBuffers, "adopt", adopt)
        assert offered.take(SMALL) is None
        look(receiver, poller)
    assert offered.take(SMALL) is None
    assert "worker 1: " in caplog.text
    assert "cannot be mapped: Cannot allocate memory" in caplog.text
    assert offered.take(8 * SMALL) is None
    look(receiver, poller)
    assert offered.take(8 * SMALL) is not None, "what is mapped later is used"

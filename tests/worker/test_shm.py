"""Promises of a worker that shares memory: the same numbers as over tcp, weights that stay, and nothing left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.protocol.codec import encode
from ps.protocol.messages import Pull, Share
from ps.protocol.segment import PAGE, Segment, pages
from ps.protocol.worker_memory import WorkerMemory
from ps.testing import LocalCluster
from support.held import descriptors, mappings
from support.lineserver import framed
from support.loopback import model

Start = Callable[..., LocalCluster]
NBYTES = 2 * PAGE


def rounds(kv: Any, params: Any, steps: int, factor: float = 1.0) -> None:
    for _ in range(steps):
        kv.step({name: np.full(value.shape, factor, value.dtype) for name, value in params.items()})


def test_a_worker_whose_line_has_room_for_few_chunks_wakes_up_when_there_is_more(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the next look, nor a question, nor an answer comes: only room can wake it up."""
    monkeypatch.setattr("ps.worker.exchange.INQUIRE", 60.0)
    monkeypatch.setattr("ps.worker.exchange.SLICE", 60_000)
    queues: list[Any] = []
    stuck: list[bool] = []

    def first(kv: Any) -> None:
        params = kv.init({"w": np.zeros(256 * 300, np.float32)})
        [queue] = kv._store._session.exchange._queues
        queue.channel._line._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        flush = queue.channel.flush
        queue.channel.flush = lambda: stuck.append(queue.channel.stuck) or flush()
        queues.append(queue)
        rounds(kv, params, 1)
        assert set(params["w"]) == {-1}

    def second(kv: Any) -> None:
        params = kv.init({"w": np.zeros(256 * 300, np.float32)})
        end = time.monotonic() + 20
        while not (queues and len(queues[0].inflight) == 300 and not queues[0].channel.stuck):
            assert time.monotonic() < end, "the first worker sleeps on what it has to send"
            time.sleep(0.01)
        rounds(kv, params, 1)

    loopback(workers=2, transport="shm", chunk_size=1024, optimizer="sgd:lr=1").run(first, second)
    assert any(stuck), "there was always room, so nothing was tested"


@pytest.mark.parametrize("transport", ["tcp", "ipc", "shm"])
@pytest.mark.parametrize("job", [{"params": "private"}, {"mode": "async"}, {"mode": "ssp"}, {}])
def test_a_pull_nobody_waited_for_does_not_bring_old_weights_back(
    loopback: Start, transport: str, job: dict[str, Any]
) -> None:
    with loopback(transport=transport, chunk_size=1024, optimizer="sgd:lr=1", **job).connect() as kv:
        params = kv.init({"w": np.zeros(20_000, np.float32)})
        for step in range(1, 16):
            handle = kv.pull()
            if step % 3 == 0:
                kv.barrier()
            kv.step({"w": np.full(20_000, -1, np.float32)})
            assert set(params["w"]) == {step}
            kv.wait(handle)
            assert set(params["w"]) == {step}


@pytest.mark.parametrize("job", [{}, {"params": "private"}, {"mode": "async"}])
def test_connections_one_after_another_leave_neither_descriptors_nor_mappings(
    tmp_path: Path, job: dict[str, Any]
) -> None:
    def once() -> None:
        made = LocalCluster(tmp_path, servers=2, transport="shm", optimizer="momentum", **job)
        with made.connect() as kv:
            params = kv.init(model((500,), (7, 30)))
            out = {name: np.empty_like(value) for name, value in params.items()}
            rounds(kv, params, 3)
            kv.wait(kv.push({name: np.ones_like(value) for name, value in params.items()}))
            kv.wait(kv.pull(out))
            rounds(kv, params, 1)
        made.close()
        assert not made.failures

    once()
    before = descriptors(), mappings()
    for _ in range(5):
        once()
    assert (descriptors(), mappings()) == before


def test_parameters_stay_readable_after_the_connection_is_closed_and_gone(loopback: Start) -> None:
    kv = loopback(transport="shm", optimizer="sgd:lr=1").connect()
    params = kv.init(model((500,)))
    rounds(kv, params, 2)
    kept = np.array(params["a"])
    kv.close()
    del kv
    gc.collect()
    assert np.array_equal(params["a"], kept)


@pytest.mark.parametrize("transport", ["tcp", "ipc", "shm"])
@pytest.mark.parametrize("job", [{}, {"params": "private"}, {"mode": "async"}, {"mode": "ssp"}])
def test_parameters_cannot_be_written_by_the_script(loopback: Start, transport: str, job: dict[str, Any]) -> None:
    with loopback(transport=transport, **job).connect() as kv:
        params = kv.init(model((50,), (3, 4)))
        for _ in range(2):
            for value in params.values():
                with pytest.raises(ValueError, match="read-only"):
                    value[...] = 0
            rounds(kv, params, 1)
            kv.wait(kv.push({name: np.ones_like(value) for name, value in params.items()}))
            kv.wait(kv.pull())


def test_parameters_cannot_be_written_without_a_cluster_either(local: Callable[..., Any]) -> None:
    params = local().init(model((50,)))
    with pytest.raises(ValueError, match="read-only"):
        params["a"][0] = 1


# Weights that lie where the servers keep them


def test_two_workers_see_one_piece_of_memory(loopback: Start) -> None:
    with loopback(servers=2, workers=2, transport="shm", optimizer="sgd:lr=1").together(2) as (one, other):
        seats: list[Any] = []
        thread = threading.Thread(target=lambda: seats.append(one._store), daemon=True)
        thread.start()
        thread.join()
        first = one.init(model((5000,), (77, 3)))
        second = other.init(model((5000,), (77, 3), seed=9))
        for name in first:
            assert first[name].ctypes.data != second[name].ctypes.data
        views = [kv._store._view for kv in (one, other)]
        assert all(view is not None for view in views), "the weights are not read in place"
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_with_params_private_or_another_mode_each_worker_has_weights_of_its_own(loopback: Start) -> None:
    for job in ({"params": "private"}, {"mode": "async"}, {"mode": "ssp"}, {"workers": 2, "backup_workers": 1}):
        made = loopback(transport="shm", **job)
        with made.together(made.job["workers"]) as connections:
            for kv in connections:
                kv.init(model((50,)))
                assert kv._store._view is None and kv._store._memory is not None


def held_still(params: Any, act: Callable[[], object], moments: int = 3) -> None:
    """Assert that nothing changes under a script while something else happens."""
    before = {name: np.array(value) for name, value in params.items()}
    act()
    for _ in range(moments):
        assert all(np.array_equal(before[name], params[name]) for name in before), (
            "the weights changed under the script"
        )
        time.sleep(0.02)


@pytest.mark.parametrize("job", [{}, {"params": "private"}, {"clip_norm": 0.5}])
def test_after_a_push_the_weights_stay_until_they_are_pulled_though_the_servers_go_on(
    loopback: Start, job: dict[str, Any]
) -> None:
    made = loopback(servers=2, transport="shm", chunk_size=1024, optimizer="sgd:lr=1", **job)
    with made.connect() as kv:
        params = kv.init({"a": np.zeros(3000, np.float32), "b": np.zeros(11, np.float64)})
        grads = {name: np.ones_like(value) for name, value in params.items()}
        rounds(kv, params, 2)
        for _ in range(3):
            held_still(params, lambda: kv.wait(kv.push(grads)))
        out = {name: np.empty_like(value) for name, value in params.items()}
        held_still(params, lambda: kv.wait(kv.pull(out)))
        assert not np.array_equal(out["a"], params["a"])
        kv.wait(kv.pull())
        assert all(np.array_equal(out[name], params[name]) for name in out)
        rounds(kv, params, 1)
        assert not np.array_equal(out["a"], params["a"]), "after that it goes on as ever"
        held_still(params, kv.close)


def test_a_worker_that_leaves_keeps_its_weights_while_the_others_go_on(loopback: Start) -> None:
    left = threading.Event()

    def early(kv: Any) -> None:
        params = kv.init({"a": np.zeros(3000, np.float32)})
        rounds(kv, params, 3)
        kv.close()
        kept = np.array(params["a"])
        left.set()
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            assert np.array_equal(params["a"], kept)
        assert set(kept) == {-3}

    def late(kv: Any) -> None:
        params = kv.init({"a": np.zeros(3000, np.float32)})
        rounds(kv, params, 3)
        assert left.wait(20)
        rounds(kv, params, 20)
        assert set(params["a"]) == {-23}

    loopback(workers=2, transport="shm", chunk_size=1024, optimizer="sgd:lr=1").run(early, late)


def test_nothing_moves_under_a_slow_worker_while_the_fast_one_waits_for_it(loopback: Start) -> None:
    def slow(kv: Any) -> None:
        params = kv.init({"a": np.zeros(3000, np.float32)})
        for _ in range(8):
            held_still(params, lambda: time.sleep(0.03))
            rounds(kv, params, 1)

    def fast(kv: Any) -> None:
        params = kv.init({"a": np.zeros(3000, np.float32)})
        rounds(kv, params, 8)

    loopback(workers=2, servers=2, transport="shm", chunk_size=1024, optimizer="sgd:lr=1").run(slow, fast)


def test_a_worker_that_reads_in_place_takes_memory_for_its_gradients_alone(loopback: Start) -> None:
    """Also in a barrier and when it leaves; for weights of its own once it pushes and does not pull."""

    def taken(memory: WorkerMemory) -> float:
        return os.fstat(memory.segment.fd).st_blocks * 512 / pages(memory.nbytes)

    def early(kv: Any) -> None:
        params, memory = kv.init({"a": np.zeros(64 * PAGE // 4, np.float32)}), kv._store._memory
        rounds(kv, params, 2)
        kv.barrier()
        kv.close()
        assert (taken(memory), set(params["a"])) == (1, {-2})

    def late(kv: Any) -> None:
        params, memory = kv.init({"a": np.zeros(64 * PAGE // 4, np.float32)}), kv._store._memory
        rounds(kv, params, 2)
        kv.barrier()
        assert taken(memory) == 1
        kv.wait(kv.push({"a": np.ones_like(params["a"])}))
        assert (taken(memory), set(params["a"])) == (2, {-2})

    loopback(workers=2, transport="shm", optimizer="sgd:lr=1").run(early, late)


# Others at the door


def test_a_server_that_is_pestered_serves_its_worker_all_the_same(loopback: Start) -> None:
    made = loopback(transport="shm", chunk_size=1024, optimizer="sgd:lr=1")
    with made.connect() as kv:
        params = kv.init({"a": np.zeros(3000, np.float32)})
        [server] = kv._store._session.peers("server")
        [path] = [a.removeprefix("shm://") for a in server.addresses if a.startswith("shm://")]
        read_only = Segment.create(WorkerMemory.size(NBYTES))
        for turn in range(30):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(path)
                with contextlib.suppress(OSError):
                    if turn % 5 == 0:
                        sock.sendall(os.urandom(100_000))
                    elif turn % 5 == 1:
                        sock.sendall(bytes(200_000))
                    elif turn % 5 == 2:
                        socket.send_fds(sock, [framed(encode(Share(1, 7, NBYTES, False)))], [read_only.fd])
                    elif turn % 5 == 3:
                        fd = os.open(f"/proc/self/fd/{read_only.fd}", os.O_RDONLY)
                        socket.send_fds(sock, [framed(encode(Share(1, 7, NBYTES, False)))], [fd])
                        os.close(fd)
                        sock.sendall(framed(encode(Pull(1, 99, 0, 0, False))))
                rounds(kv, params, 1)
        assert set(params["a"]) == {-30}
        assert not made.failures

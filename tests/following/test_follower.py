"""Promises to followers: a real job's model at one clock, its last one too; no member, nobody waits; bounded waits."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ps
from ps.cli import main
from ps.errors import ConnectTimeout, JobEnded, PeerLost, UsageError
from ps.following import follower as module
from ps.following.follower import ModelFollower
from ps.following.servers import Servers
from ps.following.snapshot import TRAINED, Snapshot
from ps.protocol.messages import Followed, Peeked
from ps.protocol.query import ask, fetch_status
from ps.server.shard.service import Server
from ps.testing import LocalCluster
from ps.weights_file import COPIES, MASTERS, open_weights
from ps.worker import KV
from support.cluster import wait_until
from support.loopback import BOUND

Start = Callable[..., LocalCluster]
SIZE = 5000


class Training:
    """Workers that add 1 to each weight with each step, until they are told to end."""

    def __init__(self, job: LocalCluster, workers: int = 2, dtype: str = "float32") -> None:
        self.job, self.dtype = job, dtype
        self.enough, self.begun = threading.Event(), threading.Barrier(workers + 1, timeout=BOUND)
        self._thread = threading.Thread(target=lambda: job.run(*[self.work] * workers), daemon=True)
        self._thread.start()

    def work(self, kv: KV) -> None:
        kv.init({"w": np.zeros(SIZE, self.dtype), "b": np.zeros(7, np.float64)})
        self.begun.wait()
        while not kv.stopped:
            kv.step({"w": -np.ones(SIZE, self.dtype), "b": -np.ones(7)})
            if self.enough.is_set():
                kv.stop("enough")

    def __enter__(self) -> Training:
        self.begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.enough.set()
        self._thread.join(BOUND)


def values(snapshot: Snapshot) -> set[float]:
    return {float(value) for array in snapshot.values() for value in array.reshape(-1)}


def test_snapshots_of_a_sync_job_are_each_of_one_clock_and_the_last_is_the_end(loopback: Start) -> None:
    job = loopback(servers=2, workers=2, optimizer="sgd:lr=1", chunk_size=1024)
    with Training(job) as training, ps.follow(job.address, every=0) as follower:
        found = [next(follower)]
        while len({snapshot.clock for snapshot in found}) < 5 and len(found) < 500:  # of one clock while none is closed
            found.append(next(follower))
        status = fetch_status(job.address)
        training.enough.set()
        *_, last = follower
    assert status["totals"]["workers"] == {"live": 2, "shown": 2}, "it is no member"
    assert status["totals"]["servers"] == {"live": 2, "shown": 2}
    for snapshot in found:
        assert values(snapshot) == {float(snapshot.clock)}
        assert not snapshot.final
    clocks = [snapshot.clock for snapshot in found]
    assert clocks == sorted(clocks) and len(set(clocks)) == 5
    assert (values(last), last.final, last.mode) == ({float(last.clock)}, True, "sync")
    assert {name: (a.dtype.name, a.shape) for name, a in last.items()} == {
        "b": ("float64", (7,)),
        "w": ("float32", (SIZE,)),
    }
    assert last.about() == {"job": follower.job, "mode": "sync", "clock": str(last.clock), "tensors": TRAINED}


def test_one_that_is_at_long_work_gets_the_last_snapshot_and_one_that_went_is_not_missed(loopback: Start) -> None:
    job = loopback(workers=1, mode="async", optimizer="sgd:lr=1")
    with Training(job, 1) as training:
        gone = ps.follow(job.address, every=0)
        next(gone)
        gone.close()
        follower = ps.follow(job.address, every=3600)
        first = next(follower)
        training.enough.set()
        training._thread.join(BOUND)
        job.close()  # all of the job has ended by now
        last = next(follower)
        assert (first.final, last.final, values(last)) == (False, True, {float(last.clock)})
        with pytest.raises(StopIteration):
            next(follower)
        follower.close()


@pytest.fixture(autouse=True)
def unprinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command logs is not printed, also not by what comes after these tests. And threads give no way: on a
    machine that is busy with much else one would read nothing for so long that servers have it miss the last weights.
    """
    monkeypatch.setattr("ps.cli.follow.log_by_hand", lambda: None)
    monkeypatch.setattr(module, "NICE", 0)


@pytest.mark.parametrize(("masters", "dtype", "said"), [(True, "float32", MASTERS), (False, "bfloat16", COPIES)])
def test_of_half_precision_it_has_copies_or_masters_and_says_which(
    loopback: Start, masters: bool, dtype: str, said: str
) -> None:
    job = loopback(workers=1, optimizer="sgd:lr=1e-4")
    followed = threading.Event()

    def train(kv: KV) -> None:
        kv.init({"w": np.ones(8, "bfloat16")})
        assert followed.wait(BOUND)
        for _ in range(1000):
            kv.step({"w": np.ones(8, "bfloat16")})

    with ThreadOf(partial(job.run, train)), ps.follow(job.address, every=0, masters=masters) as follower:
        next(follower)
        followed.set()
        *_, last = follower
    assert (last["w"].dtype.name, last.weights, last.clock) == (dtype, said, 1000)
    assert abs(float(last["w"][0]) - 0.9) < (1e-4 if masters else 5e-3)
    assert masters == (float(last["w"][0]) != float(last["w"][0].astype("bfloat16")))


class ThreadOf:
    """A function on a thread; what it raises is raised at the end."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function,), daemon=True)
        self._thread.start()

    def _run(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except BaseException as error:
            self._error = error

    def __enter__(self) -> ThreadOf:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(BOUND)
        if self._error is not None:
            raise self._error


def test_snapshots_of_a_federated_job_are_published_models(loopback: Start) -> None:
    rounds = 6
    job = loopback(servers=2, workers=2, mode="federated", rounds=rounds, algorithm="scaffold", optimizer="sgd:lr=0.1")

    here = threading.Event()

    def client(kv: KV) -> dict[int, float]:
        params = kv.init({"w": np.zeros(6, np.float32), "n": np.zeros((), np.int64)}, kinds={"n": "counter"})
        seen = {}
        for _ in kv.batches(np.arange(8), 4, epochs=1):
            seen.setdefault(kv.clock, float(params["w"][0]))
            assert here.wait(BOUND)
            kv.step({"w": -np.ones(6, np.float32)})
            time.sleep(0.02)
        return seen

    results: list[Any] = []
    with ThreadOf(lambda: results.extend(job.run(client, client))), ps.follow(job.address, every=0) as follower:
        found = [next(follower)]
        here.set()
        found += follower
    assert found[-1].final and found[-1].clock == rounds
    assert len({snapshot.clock for snapshot in found}) > 2
    assert all(set(snapshot) == {"w", "n"} for snapshot in found), "and no control variates"
    published = {clock: value for seen in results for clock, value in seen.items()}
    for snapshot in found:
        assert len(set(snapshot["w"].tolist())) == 1
        if snapshot.clock in published:
            assert float(snapshot["w"][0]) == published[snapshot.clock]
    assert published.keys() & {snapshot.clock for snapshot in found}
    assert "tensors" not in found[-1].about()


def test_a_job_without_a_model_is_waited_for_with_a_bound_and_it_is_said(
    loopback: Start, caplog: pytest.LogCaptureFixture
) -> None:
    job = loopback(workers=1)
    with (
        caplog.at_level("INFO"),
        pytest.raises(ConnectTimeout, match=r"no model after 0\.2 s: it waits for its members"),
    ):
        ps.follow(job.address, timeout=0.2)
    assert "has no model yet: it waits for its members" in caplog.text
    job.run(lambda kv: None)


def test_where_nobody_is_it_is_said_at_once() -> None:
    with pytest.raises(ConnectTimeout, match="nobody can be reached at"):
        ps.follow("tcp://127.0.0.1:9", timeout=1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"every": -1}, "every is -1"),
        ({"every": "often"}, "every is 'often'"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"scheduler": 7}, "an address|address is a text"),
        ({"scheduler": "nowhere"}, "is not an address"),
    ],
)
def test_a_wrong_call_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ps.follow(**{"scheduler": "tcp://127.0.0.1:9", **fields})


def test_a_job_that_fails_is_no_end_but_an_error(loopback: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT", 0.1)
    monkeypatch.setattr(module, "BEAT", 0.2)
    monkeypatch.setattr(module, "LOST", 1.0)
    monkeypatch.setattr("ps.worker.session.sigterm.asked", lambda: True)  # so nobody is left who would end it
    job = loopback(workers=1, idle_timeout=0.5)
    wrong = threading.Event()

    def train(kv: KV) -> None:
        kv.init({"w": np.zeros(4, np.float32)})
        assert wrong.wait(BOUND)

    with ThreadOf(partial(job.run, train)), ps.follow(job.address, every=0) as follower:
        assert next(follower).clock == 0
        wrong.set()
        with pytest.raises(PeerLost, match=r"has failed: |is gone: "):
            list(follower)


def test_a_server_that_another_one_replaces_is_followed_as_soon_as_the_scheduler_says_so(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOST", 0.5), ("SILENT", 0.3), ("AGAIN", 0.3)):
        monkeypatch.setattr(module, name, seconds)
    job = loopback(servers=2, workers=1, optimizer="sgd:lr=1", chunk_size=1024, mode="async", heartbeat_timeout=20)
    asked: list[float] = []
    with Training(job, 1), socket.create_server(("127.0.0.1", 0)) as dead:
        address = f"tcp://127.0.0.1:{dead.getsockname()[1]}"

        def before(*about: Any) -> Followed:
            answer = ask(*about)
            rows = ((*row[:5], (address,)) if row[2] == 0 else row for row in answer.members)
            return dataclasses.replace(answer, members=tuple(rows))

        def after(*about: Any) -> Followed:
            asked.append(time.monotonic())
            return before(*about) if len(asked) < 3 else ask(*about)

        monkeypatch.setattr("ps.following.entry.ask", before)
        monkeypatch.setattr(module, "ask", after)
        with ps.follow(job.address, every=0) as follower:
            began = time.monotonic()
            assert next(follower).clock >= 0
            assert asked[0] - began > 0.2, "a sign of life is given time to be answered"
    assert len(asked) == 3, "until it is another one the scheduler is believed, and asked again"


def test_the_last_weights_come_also_from_a_server_that_has_come_just_before(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOST", 4.0), ("LOOK", 3600.0), ("BEAT", 8.0), ("AGAIN", 0.05)):
        monkeypatch.setattr(module, name, seconds)
    job = loopback(servers=2, workers=1, optimizer="sgd:lr=1", chunk_size=1024)
    with Training(job, 1) as training, ps.follow(job.address, every=3600) as follower:
        next(follower)
        job._spawn(Server(job._process).run)

        def held() -> list[int]:
            return [row.get("bytes", 0) for row in fetch_status(job.address)["servers"]]

        wait_until(lambda: len(held()) == 3 and min(held()) > 0)
        wait_until(lambda: 2 in follower._heard, 4.0)  # servers tell it within half a second, and it looks after 8
        training.enough.set()
        (last,) = follower
    assert (values(last), last.final) == ({float(last.clock)}, True)


def test_standing_still_itself_is_not_taken_for_the_servers_silence(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOST", 0.8), ("BEAT", 0.1), ("SILENT", 0.05), ("AGAIN", 0.0), ("TURN", 0.05)):
        monkeypatch.setattr(module, name, seconds)
    job = loopback(workers=1, optimizer="sgd:lr=1")
    still, stood = threading.Event(), threading.Semaphore(0)
    receive = Servers.receive

    def stand_still(servers: Servers, seconds: float) -> Any:
        if still.is_set() and stood._value < 4:  # nothing is read for as long as the system gives it no time
            stood.release()
            time.sleep(0.3)
            return iter(())
        return receive(servers, seconds)

    monkeypatch.setattr(Servers, "receive", stand_still)
    with Training(job, 1) as training, ps.follow(job.address, every=3600) as follower:
        next(follower)
        training.enough.set()
        still.set()
        (last,) = follower
    assert last.final and stood._value == 4


def test_of_last_weights_that_do_not_come_it_is_said_how_many_did(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOST", 1.0), ("SILENT", 0.1), ("AGAIN", 0.1), ("ANSWER", 0.1)):
        monkeypatch.setattr(module, name, seconds)
    monkeypatch.setattr("ps.server.shard.last_look.LONGEST", 0.3)
    job = loopback(workers=1, optimizer="sgd:lr=1", chunk_size=1024)
    take = ModelFollower._hear

    def lose(follower: ModelFollower, rank: int, message: Any, payload: Any, now: float) -> None:
        if not (isinstance(message, Peeked) and message.final and message.chunk in (2, 3)):
            take(follower, rank, message, payload, now)

    monkeypatch.setattr(ModelFollower, "_hear", lose)
    with Training(job, 1) as training, ps.follow(job.address, every=3600) as follower:
        next(follower)
        training.enough.set()
        chunks = -(-SIZE * 4 // 1024) + 1
        with pytest.raises(PeerLost, match=f"of the last weights {chunks - 2} of {chunks} chunks have come"):
            next(follower)


def test_a_job_that_has_ended_is_nothing_to_follow() -> None:
    from ps.following.entry import demand_going

    with pytest.raises(JobEnded):
        demand_going(Followed(0, 1, 1, 1, "ended", "", {}, (), ()), "tcp://a:1")
    with pytest.raises(PeerLost, match="has failed: server 1 died"):
        demand_going(Followed(0, 1, 1, 1, "failed", "server 1 died", {}, (), ()), "tcp://a:1")


def test_the_command_writes_one_snapshot_or_all(
    loopback: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    job = loopback(workers=1, optimizer="sgd:lr=1")
    out = tmp_path / "out"
    with Training(job, 1) as training:
        assert main(["follow", "--scheduler", job.address, "--out", str(out), "--once"]) == 0
        assert len(list(out.glob("step-*"))) == 1

        def end_once_followed() -> None:
            until = time.monotonic() + BOUND
            while len(list(out.glob("step-*"))) < 2 and time.monotonic() < until:
                time.sleep(0.01)
            training.enough.set()

        with ThreadOf(end_once_followed):
            assert main(["follow", "--scheduler", job.address, "--out", str(out), "--every", "0", "--keep", "3"]) == 0
    assert len(list(out.glob("step-*"))) <= 3
    with open_weights(out / "latest.safetensors") as file:
        assert list(file.entries) == ["b", "w"]
    assert "the job has ended" in caplog.messages


def test_the_command_looks_at_its_folder_before_anything(tmp_path: Path, capfd: Any) -> None:
    (tmp_path / "file").touch()
    assert main(["follow", "--scheduler", "127.0.0.1:9", "--out", str(tmp_path / "file")]) == 2
    assert "cannot write snapshots to" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
def test_its_thread_lets_training_go_first_and_the_readers_own_is_as_it_was(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NICE", 10)
    job, before = loopback(workers=1), os.getpriority(os.PRIO_PROCESS, 0)
    with Training(job, 1), ps.follow(job.address) as follower:
        next(follower)
        thread = follower._thread.native_id
        assert thread is not None
        assert os.getpriority(os.PRIO_PROCESS, thread) == min(19, module.NICE)
        assert os.getpriority(os.PRIO_PROCESS, 0) == before

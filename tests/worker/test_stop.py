"""kv.stop: one end for all, in every mode and alone; what a loop of one's own is told; and nobody hangs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import StateError, TrainingStopped
from ps.testing import LocalCluster
from ps.weights_file import open_weights
from ps.worker import KV
from ps.worker.saving import Saving
from support.loopback import BOUND
from support.recording import recording

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]
ONE = {"w": np.ones(3, np.float32)}


def train(kv: KV, stop_at: int = -1, epochs: int = 50) -> tuple[int, float]:
    params = kv.init({"w": np.zeros(3, np.float32)})
    for _ in kv.batches(np.arange(60), 2, epochs=epochs):
        kv.step(ONE)
        if kv.clock == stop_at:
            kv.stop(f"worker {kv.rank} has seen enough")
    return kv.clock, float(params["w"][0])


@pytest.mark.parametrize(("mode", "end"), [("sync", 8), ("async", 7), ("ssp", 7)])
def test_alone_training_ends_where_it_would_with_one_worker_of_a_cluster(
    local: Local, loopback: Start, mode: str, end: int
) -> None:
    here = train(local(mode=mode), 7)
    assert here[0] == end
    assert loopback(mode=mode).run(partial(train, stop_at=7)) == [here]


def test_in_sync_mode_all_end_at_one_clock_with_the_same_weights_also_where_two_say_it_at_once(loopback: Start) -> None:
    first, *others = loopback(servers=2, workers=3).run(
        partial(train, stop_at=11), partial(train, stop_at=11), partial(train)
    )
    assert first[0] == 12
    assert others == [first, first]


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_in_other_modes_everybody_ends_soon(loopback: Start, mode: str) -> None:
    ends = loopback(workers=2, mode=mode).run(partial(train, stop_at=5), partial(train, epochs=100_000))
    assert ends[0][0] == 5


def test_a_federated_job_ends_with_its_round_and_loops_of_all_clients_end(loopback: Start) -> None:
    def client(kv: KV) -> tuple[int, bool]:
        kv.init({"w": np.zeros(3, np.float32)})
        for _ in kv.batches(np.arange(8), 2):
            kv.step(ONE)
            if kv.rank == 0 and kv.clock == 1:
                kv.stop("enough rounds")
        with pytest.raises(TrainingStopped):
            kv.step(ONE)
        return kv.clock, kv.stopped

    job = loopback(workers=2, mode="federated", rounds=1000, local_steps=2)
    assert job.run(client, client) == [(2, True)] * 2


def test_who_joins_after_the_end_takes_no_step_and_has_its_model(loopback: Start) -> None:
    job = loopback(workers=1)
    found: list[tuple[int, float]] = []

    def late() -> None:
        with job.connect() as kv:
            found.append(train(kv))

    def first(kv: KV) -> tuple[int, float]:
        end = train(kv, 4)
        thread = threading.Thread(target=late, daemon=True)
        thread.start()
        deadline = time.monotonic() + BOUND
        while kv.num_workers == 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        kv.barrier()
        thread.join(BOUND)
        return end

    [(_, weight)] = job.run(first)
    assert [late_weight for _, late_weight in found] == [weight]


def test_a_loop_of_ones_own_is_told_and_one_that_goes_on_leaves_its_block_in_good_order() -> None:
    kv, store = recording()
    with kv:
        kv.init({"w": np.zeros(3, np.float32)})
        while not kv.stopped:
            kv.step(ONE)
            if kv.clock == 3:
                kv.stop("enough")
        assert (kv.clock, kv.stopped) == (4, True)
        for _ in range(10**9):
            kv.step(ONE)
        pytest.fail("a step beyond the end was taken")
    assert store.closed == [""]
    assert kv.clock == 4


@pytest.mark.parametrize("verb", ["step", "push", "push_pull", "ready"])
def test_no_verb_takes_a_step_beyond_the_end_and_the_process_ends_with_0(verb: str) -> None:
    kv, _ = recording(mode="async")
    kv.init({"w": np.zeros(3, np.float32)})
    kv.stop("at clock 0")
    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: kv.step(ONE),
        "push": lambda: kv.push(ONE),
        "push_pull": lambda: kv.push_pull(ONE),
        "ready": lambda: kv.ready("w", ONE["w"]),
    }
    with pytest.raises(TrainingStopped, match="training ended at clock 0: at clock 0") as told:
        calls[verb]()
    assert told.value.code is None and not isinstance(told.value, Exception)
    assert kv.clock == 0


def test_batches_that_were_taken_ahead_are_left_out_and_the_loop_comes_to_its_end() -> None:
    def ahead(batches: Iterator[Any]) -> Iterator[Any]:
        fetched: queue.Queue[Any] = queue.Queue(4)
        thread = threading.Thread(target=lambda: [fetched.put(batch) for batch in (*batches, None)], daemon=True)
        thread.start()
        while (batch := fetched.get()) is not None:
            yield batch
        thread.join(10)

    kv, _ = recording()
    params = kv.init({"w": np.zeros(3, np.float32)})
    seen = 0
    for _ in ahead(kv.batches(np.arange(60), 2)):
        seen += 1
        kv.step(ONE)
        if kv.clock == 5:
            kv.stop("enough")
    assert kv.clock == 6 and seen >= 6
    assert params["w"][0] == pytest.approx(-0.6)
    with pytest.raises(TrainingStopped):
        kv.step(ONE)


def test_the_saved_model_is_that_of_the_end(local: Local, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    kv, _ = recording()
    kv._milestones._saving = Saving(str(path))
    with kv:
        end = train(kv, 7)
    with open_weights(str(path)) as file:
        assert file.about["clock"] == str(end[0]) == "8"


def test_a_silent_scheduler_delays_the_end_and_not_the_training(
    loopback: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ps.worker import scheduler_client

    monkeypatch.setattr(scheduler_client, "SILENT", -1.0)  # it is taken for silent at once, and hears it later
    end, _ = loopback(workers=1).run(partial(train, stop_at=5, epochs=100_000))[0]
    assert end > 5


def test_stop_belongs_to_an_open_connection_and_takes_any_reason() -> None:
    kv, _ = recording(mode="async")
    kv.stop(ValueError("no text, but it can be written"))  # type: ignore[arg-type]
    assert kv.stopped
    kv.close()
    for call in (lambda: kv.stop("too late"), lambda: kv.stopped):
        with pytest.raises(StateError, match="closed"):
            call()

"""A step that is interrupted, as by Ctrl-C, counts once or not at all, as kv.clock says, and the next one goes on."""

from __future__ import annotations

import math
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from ps.testing import LocalCluster
from ps.worker import KV, exchange, interrupt, scheduler_client
from ps.worker.interrupt import Hold
from support.long import cases
from support.loopback import BOUND

STEPS, SHAPES = cases(25, 60), {"a": (700,), "b": (3, 5), "c": (2000,)}


class Alarm(Exception):
    """What the test's signals raise."""


@pytest.fixture
def alarms() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def gradients(rank: int, clock: int) -> dict[str, np.ndarray]:
    return {name: np.full(shape, (rank + 1) * (clock % 7 - 3), np.float32) for name, shape in SHAPES.items()}


def one_step(kv: KV, form: str) -> None:
    grads = gradients(kv.rank, kv.clock)
    try:
        if form == "in place":
            for name, array in kv.grads.items():
                array[:] = grads[name]
            kv.step(kv.grads)
        elif form == "push, pull":
            handle = kv.push(grads)
            kv.wait(handle)
            kv.wait(kv.pull())
        else:
            kv.step(grads)
    finally:
        for array in grads.values():
            array[:] = np.nan  # a script may do what it likes with its arrays


def disturbed(kv: KV, form: str, dice: random.Random, most: float) -> int:
    """Train with an alarm at a random instant of each step; return how many rang."""
    rang = 0
    while kv.clock < STEPS:
        try:
            signal.setitimer(signal.ITIMER_REAL, dice.uniform(1e-6, most))
            one_step(kv, form)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Alarm:
            rang += 1
    return rang


def quiet(kv: KV, form: str, pause: float = 0.0) -> None:
    while kv.clock < STEPS:
        time.sleep(pause if kv.clock % 5 == 0 else 0)
        one_step(kv, form)


def trained(kv: KV, train: Callable[[KV], Any]) -> tuple[bytes, Any]:
    params = kv.init({name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()})
    found = train(kv)
    kv.wait(kv.pull())
    weights = b"".join(np.array(params[name]).tobytes() for name in SHAPES)
    kv.barrier()
    return weights, found


JOBS: dict[str, dict[str, Any]] = {
    "tcp": {"transport": "tcp"},
    "ipc": {"transport": "ipc"},
    "shm": {"transport": "shm"},
    "shm, private": {"transport": "shm", "params": "private"},
    "clipped": {"transport": "tcp", "clip_norm": 30.0},
    "clipped, shm": {"transport": "shm", "clip_norm": 30.0},
    "two servers, small window": {"transport": "tcp", "servers": 2, "window": 1024},
    "compressed": {"transport": "tcp", "compress": "fp16"},
    "overlap": {"transport": "tcp", "overlap": True},
}


FORMS = ["own arrays", "in place", "push, pull"]
CASES = [(form, job) for form in FORMS for job in JOBS if (form, job) != ("push, pull", "compressed")]
"""Compressed weights depend on how often they were pulled, and who is interrupted before a pull does not pull."""


@pytest.mark.parametrize(("form", "job"), CASES)
def test_a_step_interrupted_at_any_instant_counts_once(
    loopback: Callable[..., LocalCluster], alarms: None, job: str, form: str
) -> None:
    dice = random.Random(f"{job} {form}")
    settings = {"optimizer": "momentum:lr=0.25,momentum=0.5", "chunk_size": 1024, **JOBS[job]}
    [(expected, _)] = loopback(**settings).run(lambda kv: trained(kv, lambda kv: quiet(kv, form)))
    with loopback(**settings).connect(0) as kv:
        weights, rang = trained(kv, lambda kv: disturbed(kv, form, dice, 0.003))
    assert weights == expected
    assert rang > STEPS / 6


@pytest.mark.parametrize("job", ["tcp", "shm", "clipped", "clipped, shm", "two servers, small window", "overlap"])
@pytest.mark.parametrize("form", ["own arrays", "in place"])
def test_a_step_interrupted_while_it_waits_for_others_is_ended_by_the_next(
    loopback: Callable[..., LocalCluster], alarms: None, job: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "GRACE", 0.0)
    monkeypatch.setattr(exchange, "SLICE", 1)
    dice = random.Random(f"{job} {form}")
    settings = {"workers": 2, "optimizer": "momentum:lr=0.25,momentum=0.5", "chunk_size": 1024, **JOBS[job]}
    [(expected, _), _] = loopback(**settings).run(*[lambda kv: trained(kv, lambda kv: quiet(kv, form))] * 2)
    made = loopback(**settings)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(made.run, lambda kv: trained(kv, lambda kv: quiet(kv, form, 0.004)))
        with made.connect(1) as kv:
            weights, rang = trained(kv, lambda kv: disturbed(kv, form, dice, 0.004))
        assert other.result(BOUND)[0][0] == weights
    assert weights == expected
    assert rang > STEPS / 6


def test_a_barrier_that_was_interrupted_is_gone_through_before_anything_else_for_others_wait_in_it(
    loopback: Callable[..., Any], alarms: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "GRACE", 0.0)
    made = loopback(workers=2, transport="tcp", optimizer="sgd:lr=1")
    entering = threading.Event()

    def meet(kv: KV) -> int:
        kv.init({"w": np.zeros(3)})
        entering.wait(BOUND)
        kv.barrier()
        kv.step({"w": np.ones(3)})
        return kv.clock

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(made.run, meet)
        with made.connect(1) as kv:
            kv.init({"w": np.zeros(3)})
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            with pytest.raises(Alarm):
                kv.barrier()
            entering.set()
            kv.step({"w": np.ones(3)})
            assert kv.clock == 1
        assert other.result(BOUND) == [1]


def test_a_wait_for_the_scheduler_ends_whatever_moments_signals_come_at(
    loopback: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that come when a look at the answers is just over have it wait for ever, if it is a SimpleQueue's."""
    monkeypatch.setattr(interrupt, "GRACE", 0.0)
    monkeypatch.setattr(scheduler_client, "TICK", 0.001)
    made, done, due = loopback(workers=2, transport="tcp"), threading.Event(), [math.inf]

    def ring(number: int, frame: object) -> None:
        if time.monotonic() > due[0]:
            due[0] = math.inf
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Alarm

    def other(kv: KV) -> None:
        kv.init({"w": np.zeros(3)})
        done.wait(BOUND)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(made.run, other)
            with made.connect(1) as kv:
                kv.init({"w": np.zeros(3)})
                due[0] = wanted = time.monotonic() + 1.0
                signal.setitimer(signal.ITIMER_REAL, 0.0011, 0.0011)
                with pytest.raises(Alarm):
                    kv.barrier()
                late = time.monotonic() - wanted
                done.set()
            running.result(BOUND)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert late < BOUND / 4


def test_a_signal_is_held_until_the_end_and_handlers_are_put_back(alarms: None) -> None:
    hold, mine = Hold(), signal.getsignal(signal.SIGALRM)
    reached = False
    with pytest.raises(Alarm), hold:
        with hold:
            signal.raise_signal(signal.SIGALRM)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGALRM) is mine
    with pytest.raises(Alarm):
        signal.raise_signal(signal.SIGALRM)


def test_who_waits_long_is_interrupted_at_a_safe_place(alarms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = Hold()
    monkeypatch.setattr(interrupt, "GRACE", 1000.0)
    with pytest.raises(Alarm), hold:
        signal.raise_signal(signal.SIGALRM)
        hold.check()
        monkeypatch.setattr(interrupt, "GRACE", 0.0)
        hold.check()
        raise AssertionError("not raised")


def test_other_threads_hold_nothing_back(alarms: None) -> None:
    hold, mine = Hold(), signal.getsignal(signal.SIGALRM)

    def enter() -> None:
        with hold:
            assert signal.getsignal(signal.SIGALRM) is mine

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive()

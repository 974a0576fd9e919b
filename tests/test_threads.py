"""A team does every block once, on as many threads as pay, and survives what its work does."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.threads import ALIGN, LEAST_BYTES, NICE, ThreadTeam, give_way

TEAMS = {threads: ThreadTeam(threads, least_bytes=1) for threads in (1, 2, 3, 4)}


def together(n: int) -> Callable[[int, int], None]:
    """Return work of which ``n`` blocks must be in progress at once, or it fails."""
    barrier = threading.Barrier(n, timeout=10)

    def work(lo: int, hi: int) -> None:
        barrier.wait()

    return work


def helpers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "ps-team"}


@given(st.sampled_from(list(TEAMS.values())), st.integers(0, 5000), st.integers(1, 6000))
def test_every_element_is_done_once(team: ThreadTeam, size: int, grain: int) -> None:
    done = np.zeros(size, np.int64)
    cuts = []

    def work(lo: int, hi: int) -> None:
        assert 0 < hi - lo <= grain
        done[lo:hi] += 1
        cuts.append(lo)

    team.run(work, size, grain)
    assert np.all(done == 1)
    assert sorted(cuts) == list(range(0, size, grain))
    done[:] = 0
    team.share(work, size, grain, size)
    assert np.all(done == 1)


def test_one_thread_works_in_order_and_starts_no_other() -> None:
    before, cuts = helpers(), []
    ThreadTeam(1).run(lambda lo, hi: cuts.append((lo, hi)), 10, 4)
    ThreadTeam(4).run(lambda lo, hi: cuts.append((lo, hi)), 4, 4)
    assert cuts == [(0, 4), (4, 8), (8, 10), (0, 4)]
    assert helpers() == before


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_all_threads_work_at_the_same_time(threads: int) -> None:
    ThreadTeam(threads).run(together(threads), threads, 1)


def test_small_work_stays_on_the_calling_thread() -> None:
    team, names = ThreadTeam(4), set()

    def work(lo: int, hi: int) -> None:
        names.add(threading.current_thread())
        time.sleep(0.001)

    team.share(work, 1 << 18, 1 << 12, 2 * LEAST_BYTES - 1)
    assert names == {threading.current_thread()}
    team.share(together(2), 1 << 18, 1 << 17, 2 * LEAST_BYTES)


@pytest.mark.parametrize(
    ("threads", "size", "most", "cuts"),
    [
        (2, 1 << 19, 1 << 18, [1 << 18] * 2),
        (2, 3 << 18, 1 << 18, [3 << 16] * 4),
        (3, 1000, 1000, [384, 384, 232]),
        (3, 10, 4, [4, 4, 2]),
        (2, 3 * ALIGN + 5, ALIGN, [ALIGN, ALIGN, ALIGN, 5]),
    ],
)
def test_threads_get_as_many_blocks_each_cut_at_cache_lines(
    threads: int, size: int, most: int, cuts: list[int]
) -> None:
    found: list[tuple[int, int]] = []
    TEAMS[threads].share(lambda lo, hi: found.append((lo, hi - lo)), size, most, 4 * size)
    assert [length for _, length in sorted(found)] == cuts


@pytest.mark.parametrize("nbytes", [0, 4, 1000, 20_000_004])
@pytest.mark.parametrize("threads", [1, 2])
def test_copies_are_whole(threads: int, nbytes: int) -> None:
    source = np.random.default_rng(0).integers(0, 1 << 30, nbytes // 4, np.int32)
    target = np.zeros_like(source)
    ThreadTeam(threads).copy(target, source)
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_first_blocks_failure_is_raised_and_the_crew_goes_on(threads: int) -> None:
    team = TEAMS[threads]
    for _ in range(200):

        def work(lo: int, hi: int) -> None:
            if lo >= 3:
                raise ValueError(f"block {lo}")

        with pytest.raises(ValueError, match=r"^block 3$"):
            team.run(work, 10, 1)
        done: list[int] = []
        team.run(lambda lo, hi, done=done: done.append(lo), 10, 1)  # type: ignore[misc]
        assert sorted(done) == list(range(10))


def test_of_two_failures_the_first_blocks_is_raised_whichever_came_first() -> None:
    later = threading.Event()
    both = together(2)

    def work(lo: int, hi: int) -> None:
        both(lo, hi)
        if lo == 0:
            assert later.wait(10)
            time.sleep(0.01)
        else:
            later.set()
        raise ValueError(f"block {lo}")

    with pytest.raises(ValueError, match=r"^block 0$"):
        ThreadTeam(2).run(work, 2, 1)


def test_no_block_begins_after_a_failure() -> None:
    begun = []

    def work(lo: int, hi: int) -> None:
        begun.append(lo)
        if lo == 0:
            raise ValueError
        time.sleep(0.01)

    with pytest.raises(ValueError):
        ThreadTeam(2).run(work, 1000, 1)
    assert len(begun) < 100


def test_nothing_is_at_work_any_more_when_a_failure_is_raised() -> None:
    team, failed, left = ThreadTeam(2), threading.Event(), threading.Event()
    both = together(2)

    def work(lo: int, hi: int) -> None:
        both(lo, hi)
        if lo == 0:
            failed.set()
            raise KeyboardInterrupt
        assert failed.wait(10)
        time.sleep(0.05)
        left.set()

    with pytest.raises(KeyboardInterrupt):
        team.run(work, 2, 1)
    assert left.is_set()


def test_what_is_no_exception_in_a_thread_is_raised_too() -> None:
    team, here = ThreadTeam(2), threading.current_thread()
    both = together(2)

    def work(lo: int, hi: int) -> None:
        both(lo, hi)
        if threading.current_thread() is not here:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        team.run(work, 2, 1)
    team.run(together(2), 2, 1)


@pytest.mark.parametrize("handling", ["ignore", "raise"])
def test_threads_treat_overflows_as_the_caller_does(handling: str) -> None:
    team, big, both = ThreadTeam(2), np.full(1000, 1e38, np.float32), together(2)

    def work(lo: int, hi: int) -> None:
        both(lo, hi)
        np.multiply(big[lo:hi], big[lo:hi])

    with np.errstate(all=handling):
        if handling == "raise":
            with pytest.raises(FloatingPointError, match="overflow"):
                team.run(work, 1000, 500)
        else:
            team.run(work, 1000, 500)


def test_work_may_call_its_own_crew_and_so_may_several_threads() -> None:
    team = TEAMS[3]
    end = time.monotonic() + 2
    wrong = []

    def call(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while time.monotonic() < end:
            size, grain, fails = int(rng.integers(1, 400)), int(rng.integers(1, 100)), rng.random() < 0.1
            done = np.zeros((size, 3), np.int64)

            def outer(lo: int, hi: int, done: np.ndarray = done, fails: bool = fails) -> None:
                for at in range(lo, hi):
                    team.run(lambda a, b, at=at: np.add(done[at, a:b], 1, out=done[at, a:b]), 3, 1)  # type: ignore[misc]
                if fails:
                    raise ValueError(seed)

            try:
                team.run(outer, size, grain)
            except ValueError as error:
                if error.args != (seed,) or not fails:
                    wrong.append(error)
            else:
                if fails or not np.all(done == 1):
                    wrong.append(done)

    callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


def test_a_crew_that_is_not_needed_any_more_ends_its_threads() -> None:
    before = helpers()
    team = ThreadTeam(3)
    team.run(together(3), 3, 1)
    ours = helpers() - before
    assert len(ours) == 2 and all(thread.daemon for thread in ours)
    del team
    gc.collect()
    for thread in ours:
        thread.join(10)
        assert not thread.is_alive()


def test_finished_work_keeps_no_arrays_alive() -> None:
    team = ThreadTeam(2)
    array = np.zeros(1000)
    gone = threading.Event()
    weakref.finalize(array, gone.set)

    def work(lo: int, hi: int, array: np.ndarray = array) -> None:
        array[lo:hi] += 1

    team.run(work, 1000, 10)
    del array, work
    gc.collect()
    assert gone.wait(10)


@pytest.mark.filterwarnings("ignore:os.fork")  # JAX's, where another test has imported it
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork_the_child_has_threads_of_its_own() -> None:
    team = ThreadTeam(2)
    team.run(together(2), 2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on: forking with threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            team.run(together(2), 2, 1)
            done = np.zeros(10_000)
            team.run(lambda lo, hi: np.add(done[lo:hi], 1, out=done[lo:hi]), 10_000, 100)  # type: ignore[arg-type]
            os._exit(0 if np.all(done == 1) else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    team.run(together(2), 2, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no niceness of its own")
def test_a_thread_that_gives_way_does_so_alone() -> None:
    found, own = list[int](), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def work() -> None:
        give_way()
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert found == [min(19, own + NICE)]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == own

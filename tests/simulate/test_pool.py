"""Promises of the pool: results do not depend on the processes, nothing hangs, and nothing outlives its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ps.errors import PeerLost, StateError, UsageError
from ps.simulate.pool import Pool
from ps.simulate.task import TrainingResult, TrainingTask
from support.federation import examples, first_weights, plan_of


def bits(result: TrainingResult) -> tuple[object, ...]:
    return (*result[:4], tuple(frame.tobytes() for frame in result.frames))


def two_rounds(processes: int, **job: object) -> list[tuple[object, ...]]:
    plan = plan_of(**job)
    weights, seen = first_weights(plan), []
    with Pool(plan, examples(), processes) as pool:
        for version in range(2):
            pool.publish(version, weights)
            tasks = [
                TrainingTask(client, 100 * version + client, version, version, evaluate=client == 4)
                for client in range(0, 20, 2)
            ]
            for task in tasks:
                pool.give(task, due=task.client)
            for task in tasks:
                result = pool.take(task.ticket)
                seen.append(bits(result))
                pool.settle(task.ticket, accepted=task.client % 4 == 0)
            weights = weights.copy()
            weights.view(np.float32)[:] += np.float32(0.01)
    return seen


@pytest.mark.parametrize(
    "job",
    [
        {"partition": "dirichlet:0.5"},
        {"algorithm": "scaffold"},
        {"compress": "topk:0.2", "algorithm": "fedprox:0.1"},
        {"algorithm": "diloco", "partition": "features:0.5"},
    ],
    ids=["fedavg", "scaffold", "topk", "diloco"],
)
@pytest.mark.usefixtures("forked_roles")
def test_results_are_the_same_bits_for_any_number_of_processes(job: dict[str, object]) -> None:
    one = two_rounds(1, **job)
    assert one == two_rounds(3, **job)
    assert len({row[-1] for row in one}) == len(one)


def test_what_a_client_keeps_changes_only_with_what_is_accepted() -> None:
    plan = plan_of(algorithm="scaffold")
    seen = {}
    with Pool(plan, examples(), 1) as pool:
        weights = first_weights(plan)
        pool.publish(0, weights)
        for accepted in (False, True):
            pool.give(TrainingTask(5, 10 + accepted, 0, 0), 0.0)
            seen[accepted] = bits(pool.take(10 + accepted))[1:]
            pool.settle(10 + accepted, accepted)
        pool.give(TrainingTask(5, 20, 0, 0), 0.0)
        after = bits(pool.take(20))[1:]
    assert seen[False] == seen[True], "the first was refused, so that the client began anew"
    assert after != seen[True], "it kept a control variate of what was accepted"


def test_a_task_that_nobody_wants_any_more_is_forgotten() -> None:
    plan = plan_of()
    with Pool(plan, examples(), 1) as pool:
        pool.publish(0, first_weights(plan))
        for number in range(6):
            pool.give(TrainingTask(number, number, 0, 0), due=number)
        pool.settle(0, accepted=False)
        assert pool.take(1).ticket == 1
        for number in range(1, 6):
            pool.settle(number, accepted=False)
        pool.publish(1, first_weights(plan))
        with pytest.raises(StateError, match="is settled"):
            pool.take(4)
        with pytest.raises(StateError, match="version 0, which was not published"):
            pool.give(TrainingTask(1, 7, 0, 0), 0.0)


def test_more_tasks_than_there_is_room_for_are_computed_as_they_are_due() -> None:
    plan = plan_of()
    with Pool(plan, examples(), 2, room=1) as pool:
        pool.publish(0, first_weights(plan))
        for number in range(20):
            pool.give(TrainingTask(number, number, 0, 0), due=-number)
        for number in (19, 0, 18, 1):
            assert pool.take(number).ticket == number
            pool.settle(number, accepted=True)


def test_a_process_that_dies_is_named() -> None:
    plan = plan_of()
    with Pool(plan, examples(), 2) as pool:
        pool.publish(0, first_weights(plan))
        os.kill(pool.pids[1], signal.SIGKILL)
        with pytest.raises(PeerLost, match=r"simulation process 1 \(pid \d+\) ended with exit status -9"):
            for number in range(1, 20, 2):
                pool.give(TrainingTask(number, number, 0, 0), 0.0)
                pool.take(number)


def test_what_a_process_cannot_do_is_told_in_its_words() -> None:
    plan = plan_of(workers=500)
    with Pool(plan, examples(), 1) as pool, pytest.raises(PeerLost, match=r"simulation process 0: .*500 clients"):
        pool.publish(0, first_weights(plan))
        pool.give(TrainingTask(1, 1, 0, 0), 0.0)
        pool.take(1)


def test_no_processes_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Pool(plan_of(), examples(), 0)


ORPHAN = """
import sys, time
sys.path.insert(0, sys.argv[1])
from support.federation import examples, plan_of
from ps.simulate.pool import Pool
pool = Pool(plan_of(), examples(), 2)
print(*pool.pids, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="waits for other processes' children by pidfd")
def test_processes_end_when_their_parent_is_killed() -> None:
    here = str(Path(__file__).parents[1])
    with subprocess.Popen([sys.executable, "-c", ORPHAN, here], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        waits = [os.pidfd_open(pid) for pid in pids]
        parent.kill()
    for fd in waits:
        assert select.select([fd], [], [], 20)[0], "a process outlived its parent"
        os.close(fd)

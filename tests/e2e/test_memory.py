"""A server's memory is bounded by the model and the live workers, and does not grow with time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.cluster import Cluster
from support.long import cases

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Start = Callable[..., Cluster]
MB = 1 << 20
LEAK = 256
"""Bytes that may be left of a step, at most; less than this grows nothing that is there for each message."""


@pytest.mark.parametrize("transport", ["tcp", "shm"])
def test_a_server_needs_less_than_three_and_a_half_times_weights_and_state_and_what_is_on_its_way(
    start: Start, transport: str
) -> None:
    size, window = 64 * MB, 4 * MB  # of weights; plain SGD has no state, which makes the bound the tightest
    given = {"optimizer": "sgd:lr=0.1", "heartbeat_timeout": 10, "transport": transport, "forked": False}
    cluster = start(workers=4, **given, **({"window": window} if transport == "tcp" else {}))
    gate = cluster.path("gate")
    script = cluster.directory / "large.py"
    script.write_text(
        "import pathlib, sys, time, numpy as np, ps\n"
        "with ps.connect() as kv:\n"
        f"    params = kv.init({{'w': np.zeros({size // 4}, 'float32')}})\n"
        "    grads = {'w': np.full_like(params['w'], 1e-3)}\n"
        "    for _ in range(5): kv.step(grads)\n"
        "    print('done', flush=True)\n"
        "    deadline = time.monotonic() + 60\n"
        "    while not pathlib.Path(sys.argv[1]).exists() and time.monotonic() < deadline: time.sleep(0.02)\n"
    )
    workers = cluster.train(4, gate, script=str(script))
    for worker in workers:
        worker.wait_for("done", 90)
    if transport == "tcp":
        peak = status(cluster.servers[0].pid, "VmHWM")
    else:  # what the workers share with it is theirs, and the weights are there once for all
        peak = status(cluster.servers[0].pid, "RssAnon") + size
    gate.touch()
    assert [worker.wait() for worker in workers] == [0, 0, 0, 0]
    print(f"peak {peak / MB:.0f} MB, {peak / size:.2f} x the weights")
    on_its_way = 4 * 2 * window if transport == "tcp" else 0  # each worker's window, up and down
    assert peak < 3.5 * size + on_its_way


def status(pid: int, name: str) -> int:
    """Return a figure of ``/proc/PID/status`` in bytes."""
    with open(f"/proc/{pid}/status") as lines:  # noqa: PTH123
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.parametrize(("mode", "steps"), [("sync", cases(5_000, 10_000)), ("async", cases(2_000, 3_000))])
def test_memory_is_flat_over_thousands_of_steps(start: Start, mode: str, steps: int) -> None:
    cluster = start(workers=2, mode=mode, optimizer="adam:lr=1e-3", heartbeat_timeout=10, forked=False)
    early, late = cluster.path("early"), cluster.path("late")
    args = ("--steps", steps, "--size", 300, "--batch", 2, "--dtype", "float32")
    workers = cluster.train(2, *args, "--gate", f"{steps // 5}:{early}", "--gate", f"{steps - 1}:{late}")
    seen = []
    for clock, gate in ((steps // 5, early), (steps - 1, late)):
        for worker in workers:
            worker.wait_for(f"gate {clock}$", 100)
        seen.append([process.rss() for process in (cluster.servers[0], cluster.scheduler, *workers)])
        gate.touch()
    assert [worker.wait() for worker in workers] == [0, 0]
    growth = [(after - before) / MB for before, after in zip(*seen, strict=True)]
    print(f"{mode}: RSS in MB {[round(b / MB, 1) for b in seen[0]]}, growth {growth}")
    assert max(growth) < max(1.0, LEAK * 0.8 * steps / MB), growth

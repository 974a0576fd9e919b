"""A Ray actor as parameter server, as in Ray's own example: workers' gradients to the actor, its weights to all."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from race.case import Case, Launch, Options, Setup

from peers import needs

MODULE = __name__
LACKS = "workers get the weights as read-only views of the object store"


def absent(options: Options) -> str:
    return needs("ray")


def cases(setup: Setup) -> list[Case]:
    words = (
        "one actor with the weights, one for each worker, NumPy arrays through the object store (shared memory), "
        "zero-copy reads, steps submitted ahead, no dashboard; idle it takes about 6 % of a core"
    )
    return [Case("ray actor", MODULE, "peer", words, LACKS, ranks=1)]


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return str(launch.directory)


class Driver:
    """Submits the steps of all workers and waits until every worker has the last weights."""

    def __init__(self, setup: Setup, meeting: str) -> None:
        os.environ.update(RAY_DEDUP_LOGS="0", RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
        import ray

        self._ray = ray
        ray.init(
            num_cpus=setup.workers + 1,
            object_store_memory=max(200_000_000, setup.nbytes * 4 * (setup.workers + 1)),
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=meeting,
        )
        self._server = _server(ray).remote(setup)
        worker = _worker(ray)
        self._workers = [worker.remote(setup, rank) for rank in range(setup.workers)]
        self._weights = self._server.weights.remote()

    def steps(self, count: int) -> None:
        for _ in range(count):
            gradients = [worker.gradient.remote(self._weights) for worker in self._workers]
            self._weights = self._server.apply.remote(*gradients)
        self._ray.get([worker.take.remote(self._weights) for worker in self._workers])

    def weights(self) -> np.ndarray:
        found: np.ndarray = self._ray.get(self._weights)
        return found

    def close(self) -> None:
        self._ray.shutdown()


def _server(ray: Any) -> Any:
    @ray.remote(num_cpus=1)
    class Server:
        def __init__(self, setup: Setup) -> None:
            self._weights = setup.weights()
            self._total = np.empty_like(self._weights)

        def weights(self) -> np.ndarray:
            return self._weights

        def apply(self, *gradients: np.ndarray) -> np.ndarray:
            from peers.zmq_server import update

            update(self._weights, list(gradients), self._total)
            return self._weights

    return Server


def _worker(ray: Any) -> Any:
    @ray.remote(num_cpus=1)
    class Worker:
        def __init__(self, setup: Setup, rank: int) -> None:
            self._gradient = setup.gradient(rank)
            self._weights: np.ndarray | None = None

        def gradient(self, weights: np.ndarray) -> np.ndarray:
            self._weights = weights
            return self._gradient

        def take(self, weights: np.ndarray) -> None:
            self._weights = weights

    return Worker


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Driver:
    return Driver(setup, meeting)

"""One process of the simulation: a trainer that is told what to train through a socket, until nobody is there any more.

python -m ps.simulate.process SOCKET DATA RESULTS    (open descriptors; started by ps.simulate.pool)
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from socket import socket

from ps import plugins
from ps.config import process_from_env
from ps.errors import PSError
from ps.memory import keep_freed_memory
from ps.simulate.arrays import read_arrays
from ps.simulate.fit_trainer import FitTrainer
from ps.simulate.link import Link
from ps.simulate.model import has_fit
from ps.simulate.plan import TrainingPlan
from ps.simulate.result_memory import ResultPlaces
from ps.simulate.task import TrainingTask, pack
from ps.simulate.trainer import Trainer
from ps.xp import HostArray


def serve(link: Link, data: int, results: int) -> None:
    """Read the plan and then orders, and answer tasks with their results, until the other end is closed."""
    _, (about, arrays, nbytes), _ = link.receive()
    memory = ResultPlaces(results, nbytes)
    plan = TrainingPlan.from_dict(about)
    trainer = FitTrainer(plan) if has_fit(plan.model) else Trainer(plan, read_arrays(data, arrays))
    weights: dict[int, HostArray] = {}
    while True:
        kind, values, frames = link.receive()
        if kind == "weights":
            (weights[values[0]],) = frames
        elif kind == "forget":
            weights.pop(values[0], None)
        elif kind == "settle":
            trainer.settle(values[0], accepted=values[1])
        else:
            tasks = [TrainingTask(*row) for row in values[0]]
            places = {task.ticket: place for task, place in zip(tasks, values[1], strict=True)}
            for version in dict.fromkeys(task.version for task in tasks):
                same = [task for task in tasks if task.version == version]
                for made in trainer.train(same, weights[version]):
                    rows, frames = pack(made, places, memory)
                    link.send("results", *rows, frames=frames)


def main() -> int:
    """Serve; an error is told to the other end and ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C goes to all: the simulation decides
    keep_freed_memory()
    link = Link(socket(fileno=int(sys.argv[1])))
    try:
        plugins.load(process_from_env(os.environ).plugins or ())
        serve(link, int(sys.argv[2]), int(sys.argv[3]))
    except (EOFError, ConnectionError):
        return 0
    except PSError as error:
        with contextlib.suppress(ConnectionError):
            link.send("failed", str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

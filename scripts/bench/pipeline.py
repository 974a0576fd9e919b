"""A pipeline's step over torch.distributed.pipelining's (Gloo): one model, one schedule, a process a stage, one thread.

    python scripts/bench/pipeline.py
    python scripts/bench/pipeline.py --stages 2 --turns 15 --json figures.json
    python scripts/bench/pipeline.py --lines                      bytes per second from stage to stage, nothing computed

A perceptron of eight layers in torch, plain SGD, in batches that are cut into micro-batches; both begin with the same
weights, and the losses after all steps are compared. Cases take turns; medians. Servers are processes beside the
stages': what they take is in the step. pip install "paramserver[bench]"
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from limits import machine
from local_cluster import cluster, join
from outfile import outfile

import ps

LAYERS = 8
STEPS = 8
"""Steps of a turn."""
LR = 0.01
SCHEDULES = {"1f1b": "Schedule1F1B", "fill-drain": "ScheduleGPipe"}
PEER = "torch"


@dataclass(frozen=True)
class Setup:
    """What all cases of one comparison have in common. ``width`` of the layers, examples of a batch, and its parts."""

    stages: int
    schedule: str
    width: int
    batch: int
    microbatches: int
    lines: bool

    def layers(self, torch: Any) -> list[Any]:
        """Return the whole model's layers; each is a module."""
        torch.manual_seed(0)
        return [torch.nn.Sequential(torch.nn.Linear(self.width, self.width), torch.nn.ReLU()) for _ in range(LAYERS)]

    def data(self, torch: Any) -> tuple[Any, Any]:
        draw = torch.Generator().manual_seed(1)
        x = torch.randn(self.batch, self.width, generator=draw)
        return x, torch.randint(0, self.width, (self.batch,), generator=draw)


def serve(step: Callable[[], float | None]) -> None:
    """Take turns of steps as they are asked for; tell the median of a step's seconds, this process's processor time for
    one, and the last loss."""
    for _ in sys.stdin:
        found, loss, busy = [], None, time.process_time()
        for _ in range(STEPS):
            begin = time.perf_counter()
            loss = step()
            found.append(time.perf_counter() - begin)
        told = statistics.median(found), (time.process_time() - busy) / STEPS, loss
        print(json.dumps(told), flush=True)


def of_torch(setup: Setup, rank: int, meeting: str) -> None:
    import torch
    from torch.distributed import pipelining

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=setup.stages)
    each = LAYERS // setup.stages
    module = torch.nn.Sequential(*setup.layers(torch)[rank * each : (rank + 1) * each])
    x, y = setup.data(torch)
    part = x[: setup.batch // setup.microbatches]
    stage = pipelining.PipelineStage(module, rank, setup.stages, torch.device("cpu"), input_args=(part,))
    kind = getattr(pipelining, SCHEDULES[setup.schedule])
    schedule = kind(stage, setup.microbatches, loss_fn=torch.nn.functional.cross_entropy)
    optimizer = torch.optim.SGD(module.parameters(), lr=LR)

    def step() -> float | None:
        optimizer.zero_grad()
        losses: list[Any] = []
        if rank == 0:
            schedule.step(x)
        elif rank == setup.stages - 1:
            schedule.step(target=y, losses=losses)
        else:
            schedule.step()
        optimizer.step()
        return sum(loss.item() for loss in losses) / len(losses) if losses else None

    serve(step)
    torch.distributed.destroy_process_group()


def of_ps(setup: Setup, meeting: str) -> None:
    import torch

    torch.set_num_threads(1)
    model = torch.nn.Sequential(*setup.layers(torch))
    x, y = setup.data(torch)
    import ps.torch

    pipe = ps.torch.Pipeline(model, torch.nn.functional.cross_entropy, schedule=setup.schedule)
    with join(meeting) as kv:
        pipe.init(kv)
        serve(lambda: pipe.step(x, y, microbatches=setup.microbatches))


class Passing:
    """A layer that passes on what it is given; it has one parameter, so that somebody trains something."""

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"w": np.zeros(1, np.float32)}

    def forward(self, params: Any, x: np.ndarray) -> tuple[np.ndarray, None]:
        return x, None

    def backward(self, params: Any, saved: None, dy: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return dy, {"w": np.zeros(1, np.float32)}


class Nothing:
    """A loss that is 0 everywhere."""

    def weight(self, y: Any) -> float:
        return 1.0

    def __call__(self, outputs: np.ndarray, y: Any) -> tuple[float, np.ndarray]:
        return 0.0, outputs


def of_lines(setup: Setup, meeting: str) -> None:
    """Send activations of ``width`` bytes for each micro-batch to and fro."""
    pipe = ps.Pipeline([Passing() for _ in range(setup.stages)], Nothing(), schedule=setup.schedule, inexact=True)
    x, y = np.ones((setup.microbatches, setup.width // 4), np.float32), np.zeros(setup.microbatches)
    with join(meeting) as kv:
        pipe.init(kv)
        serve(lambda: pipe.step(x, y, microbatches=setup.microbatches))


class Crew:
    """The stages of one case, as processes that take their turns of steps."""

    def __init__(self, setup: Setup, case: str, meeting: str) -> None:
        command = [sys.executable, __file__, "--child", case, meeting, json.dumps(vars(setup))]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._processes = [
            subprocess.Popen([*command, str(rank)], text=True, env=environment, **pipes) for rank in range(setup.stages)
        ]

    def turn(self) -> tuple[float, float, float]:
        """Return the seconds of a step, the last stage's; all stages' processor time; and the loss."""
        for process in self._processes:
            process.stdin.write("\n")
            process.stdin.flush()
        lines = [process.stdout.readline() for process in self._processes]
        if not all(lines):
            raise SystemExit("a process of a case has ended; what went wrong there is above")
        told = [json.loads(line) for line in lines]
        return told[-1][0], sum(seconds for _, seconds, _ in told), told[-1][2]

    def close(self) -> None:
        """Have them end."""
        for process in self._processes:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process in self._processes:
            process.wait(60)


@contextlib.contextmanager
def crews(setup: Setup, cases: list[str]) -> Iterator[dict[str, Crew]]:
    """Start the processes of all cases of a setup."""
    with contextlib.ExitStack() as stack:
        found = {}
        for case in cases:
            if case == PEER:
                meeting = stack.enter_context(tempfile.TemporaryDirectory(prefix="ps-bench-")) + "/meeting"
            else:
                transport, _, codec = case.partition("+")
                flags = ["--mode", "pipeline", "--transport", transport, "--optimizer", f"sgd:lr={LR}"]
                flags += ["--compress-activations", codec or "none"]
                meeting = stack.enter_context(cluster(*flags, workers=setup.stages))
            found[case] = Crew(setup, case, meeting)
            stack.callback(found[case].close)
        yield found


def compare(setup: Setup, cases: list[str], turns: int) -> dict[str, Any]:
    """Have the cases of a setup take turns, print how they did, and return the figures."""
    seconds: dict[str, list[float]] = {case: [] for case in cases}
    busy: dict[str, list[float]] = {case: [] for case in cases}
    losses: dict[str, float] = {}
    with crews(setup, cases) as found:
        for number in range(1 + turns):  # what is done once is in the first
            for case, crew in found.items():
                wall, processor, losses[case] = crew.turn()
                if number:
                    seconds[case].append(wall)
                    busy[case].append(processor)
    exact = [loss for case, loss in losses.items() if "+" not in case]
    if max(exact) - min(exact) > 1e-4 * max(exact):
        raise SystemExit(f"the losses differ: {losses}")
    print(f"{setup.stages} stages, {setup.schedule}, width {setup.width}, batch {setup.batch}", flush=True)
    for case in cases:
        over = [a / b for a, b in zip(seconds[case], seconds[cases[0]], strict=True)]
        spread = f"{statistics.median(over):5.2f} of {cases[0]}'s ({min(over):.2f} - {max(over):.2f})"
        wall, processor = (statistics.median(figures[case]) for figures in (seconds, busy))
        rate = 2 * (setup.stages - 1) * setup.microbatches * setup.width / wall / 1e9
        speed = f"  {rate:.2f} GB/s" if setup.lines else f"  loss {losses[case]:.5f}"
        print(f"  {case:9} {wall * 1e3:8.2f} ms  {spread}  busy {processor * 1e3:8.2f} ms{speed}", flush=True)
    return {**vars(setup), "seconds": seconds, "processor": busy, "losses": losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9, help="turns of all cases (default 9)")
    parser.add_argument("--stages", type=int, action="append", help="only so many (default 2, and 4; lines: 2)")
    parser.add_argument("--schedule", choices=SCHEDULES, action="append", help="only this one (default both)")
    parser.add_argument("--width", type=int, action="append", help="of the layers (512); lines: bytes of an activation")
    parser.add_argument("--batch", type=int, default=512, help="examples of a batch (default 512)")
    parser.add_argument("--microbatches", type=int, default=8, help="parts of a batch (default 8)")
    parser.add_argument(
        "--case", action="append", help="torch, or a transport, also with a codec: tcp+int8 (default torch and auto)"
    )
    parser.add_argument("--lines", action="store_true", help="only send activations to and fro")
    parser.add_argument("--json", metavar="FILE", type=outfile, help="write the figures there")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        case, meeting, words, rank = args.child
        setup = Setup(**json.loads(words))
        if case == PEER:
            of_torch(setup, int(rank), meeting)
        else:
            (of_lines if setup.lines else of_ps)(setup, meeting)
        return
    print(machine())
    if args.lines:
        widths, stages, schedules = args.width or [1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22], [2], ["1f1b"]
    else:
        widths, stages, schedules = args.width or [512], [2, 4], list(SCHEDULES)
    setups = [
        Setup(count, schedule, width, args.batch, args.microbatches, args.lines)
        for count in args.stages or stages
        for schedule in args.schedule or schedules
        for width in widths
    ]
    cases = args.case or (["ipc", "auto", "tcp"] if args.lines else [PEER, "auto"])
    rows = [compare(setup, cases, args.turns) for setup in setups]
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

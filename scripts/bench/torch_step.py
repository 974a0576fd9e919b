"""What a step adds to a torch model's computation: by a job, and by torch DDP (Gloo), two workers on this host.

    python scripts/bench/torch_step.py
    python scripts/bench/torch_step.py --rounds 5 --json figures.json

Computation is forward and backward of a perceptron of 10 M parameters, in two processes at once; what is added is the
exchange and SGD. Then one worker's ``step`` for a thousand tensors of 1,000 elements, over that for one of a million.
All with one thread, in turns, medians. pip install "paramserver[bench]"
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from limits import machine
from local_cluster import cluster, join
from outfile import outfile

WIDTHS = (1000, 3000, 2000, 500)
BATCH = 32
WARM, STEPS = 8, 30


def perceptron(torch: Any) -> Any:
    torch.manual_seed(0)
    pairs = itertools.pairwise(WIDTHS)
    return torch.nn.Sequential(*[layer for a, b in pairs for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())])


def many(torch: Any, count: int) -> Any:
    """Return a million parameters in so many tensors, each with a gradient."""
    tensors = [torch.nn.Parameter(torch.ones(1_000_000 // count)) for _ in range(count)]
    for tensor in tensors:
        tensor.grad = torch.full_like(tensor, 1e-6)
    return torch.nn.ParameterList(tensors)


def timed(step: Callable[[], None]) -> float:
    """Return the median of a step's seconds."""
    found = []
    for number in range(WARM + STEPS):
        begin = time.perf_counter()
        step()
        if number >= WARM:
            found.append(time.perf_counter() - begin)
    return statistics.median(found)


def child(kind: str, rank: int, meeting: str) -> None:
    """Be one worker of one case, and print the seconds of a step."""
    import torch

    torch.set_num_threads(1)
    if kind.startswith("tensors"):
        import ps.torch

        with join(meeting) as kv:
            print(timed(ps.torch.DistributedOptimizer(many(torch, int(kind.split()[1])), kv).step))
        return
    model = perceptron(torch)
    x = torch.randn(BATCH, WIDTHS[0], generator=torch.Generator().manual_seed(rank))

    def train(net: Any, optimizer: Any) -> float:
        def step() -> None:
            net.zero_grad()
            net(x).square().mean().backward()
            if optimizer is not None:
                optimizer.step()

        return timed(step)

    if kind.startswith("ps"):
        import ps.torch

        with join(meeting) as kv:
            print(train(model, ps.torch.DistributedOptimizer(model, kv, overlap=kind.endswith("overlap"))))
        return
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    if kind == "alone":
        torch.distributed.barrier()
        print(train(model, None))
    else:
        net = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        print(train(net, torch.optim.SGD(net.parameters(), lr=0.01)))
    torch.distributed.destroy_process_group()


def run(kind: str, workers: int, folder: str) -> float:
    """Return the seconds of a step of one case, the mean of its workers."""

    def processes(meeting: str) -> float:
        command = [sys.executable, __file__, "--child", kind, meeting]
        found = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(workers)]
        return statistics.mean(float(process.communicate(timeout=300)[0]) for process in found)

    if kind in ("alone", "ddp"):
        return processes(f"{folder}/{kind}-{time.monotonic_ns()}")
    with cluster("--optimizer", "sgd:lr=0.01", workers=workers) as address:
        return processes(address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of all cases (default 3)")
    parser.add_argument("--json", metavar="FILE", type=outfile, help="write the figures there")
    parser.add_argument("--child", nargs=3, metavar=("KIND", "MEETING", "RANK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[2]), args.child[1])
        return
    cases = {"alone": 2, "ddp": 2, "ps": 2, "ps, overlap": 2, "tensors 1000": 1, "tensors 1": 1}
    seconds: dict[str, list[float]] = {kind: [] for kind in cases}
    with tempfile.TemporaryDirectory(prefix="ps-bench-") as folder:
        for _ in range(args.rounds):
            for kind, workers in cases.items():
                seconds[kind].append(run(kind, workers, folder))
    median = {kind: statistics.median(times) for kind, times in seconds.items()}
    added = {kind: median[kind] - median["alone"] for kind in ("ddp", "ps", "ps, overlap")}
    print(machine())
    print(f"computation          {median['alone'] * 1e3:8.2f} ms, two processes")
    print(f"DDP adds             {added['ddp'] * 1e3:8.2f} ms")
    for kind in ("ps", "ps, overlap"):
        print(f"{f'{kind} adds':20} {added[kind] * 1e3:8.2f} ms: {added[kind] / added['ddp']:.2f} of DDP's")
    one, thousand = median["tensors 1"], median["tensors 1000"]
    print(f"step, 1 tensor       {one * 1e3:8.2f} ms")
    print(f"step, 1,000 tensors  {thousand * 1e3:8.2f} ms: {thousand / one:.2f} of that")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Train on MNIST with each compression, and print what it costs and what is learned: bytes, milliseconds, accuracy.

    python scripts/bench/accuracy.py --data DIR
    python scripts/bench/accuracy.py --only none int8 topk:0.01 --steps 200 --json accuracy.json

DIR (or PS_DATA) holds mnist.npz or the four IDX files. Every compression trains the same perceptron, 784-200-200-10,
from the same values for the same number of steps in a job of two workers and one server, sync, SGD. Bytes are a
worker's payloads per step, without the first, which brings the whole weights; ÷ is how many times fewer they are than
the model's. The times to encode and decode are for 40 MB in one thread, measured apart. The accuracy is that of the
weights as workers have them after the last step. With topk's momentum it is the momentum that learns faster.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import multiprocessing
import time
from typing import Any

import numpy as np
from limits import interleave, machine
from local_cluster import cluster, join
from outfile import outfile

from compress import cases
from ps.data import mnist
from ps.errors import DataError
from ps.memory import keep_freed_memory
from ps.models import mlp

SPECS = [
    *("none", "fp16", "bf16", "int8", "onebit", "topk:0.01", "topk:0.01,momentum=0.9,warmup=200"),
    *("randomk:0.01", "powersgd:4"),
]
RATE = 0.1
RATES = {"randomk:0.01": 0.003}
"""Who needs a learning rate of its own: what randomk keeps back for a hundred steps comes at once. The best of 0.1,
0.05, 0.02, 0.01, 0.005, 0.003 and 0.002 by the accuracy in this very table; 0.1 was chosen without a search."""
WORKERS = 2


def train(address: str, options: argparse.Namespace, results: Any) -> None:
    """Be one worker of a job; the first tells what it cost and what was learned."""
    data, test = mnist(options.data)
    with join(address) as kv:
        params = kv.init(mlp.init([784, 200, 200, 10]))
        traffic, epochs = kv._store.traffic, 1 + options.steps * options.batch * WORKERS // len(data)
        for step, (x, y) in enumerate(kv.batches(data, options.batch, epochs=epochs)):
            if step == 1:
                up, down, began = traffic.bytes_up, traffic.bytes_down, time.perf_counter()
            if step == options.steps:
                break
            kv.step(mlp.loss_and_grad(params, x, y)[1])
        seconds, steps = time.perf_counter() - began, options.steps - 1
        if kv.rank == 0:
            found = {"up": (traffic.bytes_up - up) / steps, "down": (traffic.bytes_down - down) / steps}
            results.put({**found, "step": seconds / steps, "accuracy": mlp.accuracy(params, test)})


def job(codec: str, rate: float, options: argparse.Namespace) -> dict[str, float]:
    """Train with one compression."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    flags = ["--compress", codec, "--optimizer", f"sgd:lr={rate}", "--transport", "tcp"]
    with cluster(*flags, workers=WORKERS) as address:
        workers = [context.Process(target=train, args=(address, options, results)) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(600)
            if worker.exitcode != 0:
                raise SystemExit(f"a worker of the job with {codec} ended with {worker.exitcode}")
    found: dict[str, float] = results.get(timeout=10)
    return found


def main() -> None:
    """Print a table in Markdown, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="folder with MNIST's files (default: PS_DATA)")
    parser.add_argument("--only", nargs="+", default=SPECS, metavar="SPEC", help="compressions (all)")
    parser.add_argument("--steps", type=int, default=1000, help="steps of each worker (1000)")
    parser.add_argument("--batch", type=int, default=64, help="examples per step and worker (64)")
    parser.add_argument("--lr", type=float, help=f"the learning rate of all ({RATE:g}; randomk its own)")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (5)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("--steps: at least 2, since the first is not counted")
    try:
        mnist(options.data)
    except DataError as error:
        print(f"skipped: {error}")
        return

    keep_freed_memory()
    host = machine()
    print(", ".join(f"{key} {value}" for key, value in host.items()))
    print(f"MLP 784-200-200-10, {options.steps} steps of {options.batch} on {WORKERS} workers, sync, SGD\n")
    print("| codec | lr | KB up | ÷ | KB down | ÷ | encode ms | decode ms | ms per step | test accuracy |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    gradient = np.random.default_rng(0).standard_normal(10_000_000, np.float32) * np.float32(1e-3)
    raw = sum(array.nbytes for array in mlp.init([784, 200, 200, 10]).values())
    results = {}
    for codec in options.only:
        rate = options.lr or RATES.get(codec, RATE)
        timed = cases(codec, gradient, 1 << 19)[1]
        seconds = interleave({name: timed[name] for name in ("encode", "decode")}, options.repeats)
        found = {**job(codec, rate, options), **seconds, "lr": rate}
        results[codec] = found
        traffic = "".join(f"| {found[way] / 1e3:.1f} | {raw / found[way]:.1f} " for way in ("up", "down"))
        took = f"| {seconds['encode'] * 1e3:.0f} | {seconds['decode'] * 1e3:.0f} | {found['step'] * 1e3:.1f} "
        print(f"| {codec} | {rate:g} {traffic}{took}| {100 * found['accuracy']:.2f} % |", flush=True)
    if options.json:
        figures = {"machine": host, "steps": options.steps, "batch": options.batch, "codecs": results}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

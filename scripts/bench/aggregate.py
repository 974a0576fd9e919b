"""Time what a server does with a step: add the gradients of N workers and apply the optimizer, chunk by chunk.

    python scripts/bench/aggregate.py
    python scripts/bench/aggregate.py --only adam --workers 1,4 --threads 1,2,4 --chunk-size 4MiB
    python scripts/bench/aggregate.py --aggregator weighted --json aggregate.json

The limit is that of one core's memory: w -= g in place, and for each gradient beyond the first the time it takes to
read one (a dot product with itself), measured in the same run, in turns.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
from limits import in_place_update, interleave, machine
from outfile import outfile

from ps.config import JobConfig, format_size, parse_size
from ps.protocol.layout import Layout
from ps.server.shard.chunk import ChunkState, Contribution
from ps.server.shard.update import Updater


def step(job: JobConfig, gradients: list[np.ndarray], threads: int) -> Callable[[], object]:
    """Return one step of a server that holds the whole model; the last worker's batch is half a batch."""
    updater = Updater(job, threads)
    weights = np.zeros_like(gradients[0])
    examples = [32.0] * (len(gradients) - 1) + [16.0]
    work = []
    for chunk in Layout.of({"w": weights}).chunks(1, job.chunk_bytes):
        part = slice(chunk.start, chunk.stop)
        state = ChunkState(chunk, weights[part], updater.optimizer.init(weights[part]))
        given = [Contribution(r, r, 0, 0, examples[r], 1.0, g[part]) for r, g in enumerate(gradients)]
        work.append((state, given))

    def case() -> None:
        for state, given in work:
            updater.apply(state, given, 0)

    return case


def measure(job: JobConfig, gradients: list[np.ndarray], threads: list[int], repeats: int) -> dict[str, float]:
    """Return the seconds of the limit and of each number of threads."""
    one, last = gradients[0], gradients[-1]
    cases: dict[str, Callable[[], object]] = {"update": in_place_update(one.size), "read": lambda: np.dot(last, last)}
    cases |= {str(n): step(job, gradients, n) for n in threads}
    seconds = interleave(cases, repeats)
    return {"limit": seconds.pop("update") + (len(gradients) - 1) * seconds.pop("read"), **seconds}


def main() -> None:
    """Print a table, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="sgd,adam", help="optimizers, separated by commas")
    parser.add_argument("--workers", default="1,2,4,8", help="numbers of gradients, separated by commas")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, separated by commas")
    parser.add_argument("--aggregator", default="mean", help="such as median or krum:1 (mean)")
    parser.add_argument("--chunk-size", type=parse_size, default=JobConfig().chunk_bytes, help="as the job's (2MiB)")
    parser.add_argument("--size", type=int, default=10_000_000, help="float32 parameters (10 M)")
    parser.add_argument("--repeats", type=int, default=11, help="timed rounds (11)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    threads, workers = ([int(n) for n in text.split(",")] for text in (options.threads, options.workers))

    host = machine()
    print(", ".join(f"{key} {value}" for key, value in host.items()))
    what = f"{options.size:,} float32 parameters in chunks of {format_size(options.chunk_size)}, {options.aggregator}"
    print(f"one step of {what}, medians of {options.repeats} in ms\n")
    print(f"{'':10}{'workers':>8}{'limit':>8}" + "".join(f"{f'{n} thr.':>9}{'/limit':>8}" for n in threads))
    rng = np.random.default_rng(0)
    gradients = [rng.standard_normal(options.size, np.float32) for _ in range(max(workers))]
    results = []
    for name in options.only.split(","):
        for n in workers:
            job = JobConfig(
                workers=n, optimizer=name, aggregator=options.aggregator, chunk_size=options.chunk_size, window=32 << 20
            )
            seconds = measure(job, gradients[:n], threads, options.repeats)
            limit = seconds["limit"]
            row = "".join(f"{seconds[str(t)] * 1e3:9.1f}{seconds[str(t)] / limit:8.2f}" for t in threads)
            print(f"{name:10}{n:8}{limit * 1e3:8.1f}{row}", flush=True)
            results.append({"optimizer": name, "workers": n, "seconds": seconds})
    if options.json:
        asked = {key: getattr(options, key) for key in ("size", "chunk_size", "aggregator", "repeats")}
        options.json.write_text(json.dumps({"machine": host, **asked, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""What compressed activations cost and save: test accuracy, loss, and bytes from stage to stage, for each codec.

    python scripts/bench/activations.py
    python scripts/bench/activations.py --seeds 5 --json figures.json

A perceptron with four hidden layers on scikit-learn's digits, four stages, 8 micro-batches of 8, Adam, 10 epochs; all
members of each job are in this process. pip install "paramserver[bench]"
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from limits import machine
from outfile import outfile

import ps
from ps.data import digits
from ps.models import mlp, softmax_cross_entropy
from ps.testing import LocalCluster

CODECS = ("none", "bf16", "fp16", "int8")
STAGES, EPOCHS, BATCH, MICROBATCHES = 4, 10, 64, 8


def train(kv: Any, seed: int) -> tuple[float, float, int]:
    """Return the last loss, the test accuracy (rank 0's), and the bytes that this worker has sent to others."""
    data, test = digits()
    pipe = ps.Pipeline(mlp.stages([64, 128, 128, 128, 128, 10]), softmax_cross_entropy)
    pipe.init(kv, seed=seed)
    losses = [pipe.step(x, y, microbatches=MICROBATCHES) for x, y in kv.batches(data, batch_size=BATCH, epochs=EPOCHS)]
    passes = kv._store.traffic.passes
    sent = int(passes["bytes_activations"] + passes["bytes_gradients"])
    accuracy = pipe.accuracy(None, test) if kv.rank == 0 else 0.0
    kv.barrier()
    return statistics.mean(losses[-20:]), accuracy, sent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how often, each time with other first values (default 3)")
    parser.add_argument("--json", metavar="FILE", type=outfile, help="write the figures there")
    args = parser.parse_args()
    print(machine())
    rows = []
    for codec in CODECS:
        for seed in range(args.seeds):
            job = LocalCluster(
                timeout=600,
                mode="pipeline",
                workers=STAGES,
                optimizer="adam:lr=1e-3",
                seed=seed,
                compress_activations=codec,
            )
            try:
                found = job.run(*[lambda kv, seed=seed: train(kv, seed)] * STAGES)
            finally:
                job.close()
            rows.append(
                {"codec": codec, "seed": seed, "loss": found[0][0], "accuracy": found[0][1]}
                | {"bytes": sum(sent for _, _, sent in found)}
            )
        loss, accuracy, sent = (
            [row[name] for row in rows if row["codec"] == codec] for name in ("loss", "accuracy", "bytes")
        )
        print(
            f"{codec:5} loss {statistics.median(loss):.4f} ({min(loss):.4f} - {max(loss):.4f})  accuracy "
            f"{statistics.median(accuracy):.4f} ({min(accuracy):.4f} - {max(accuracy):.4f})  {sent[0] / 1e6:.1f} MB",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

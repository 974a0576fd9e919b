"""Trains on shuffled data with everything that a checkpoint has to keep, and says with which bits it ended."""

import argparse
import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np

import ps

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--width", type=int, default=200)
parser.add_argument("--nap", type=float, default=0.0)
parser.add_argument("--gate", metavar="CLOCK:PATH", help="wait at this clock until the file exists, or for ever")
parser.add_argument("--used", metavar="PATH", help="a file for each worker, of the examples that it has used")
parser.add_argument("--raise-at", type=int, default=-1)
parser.add_argument("--stop-at", type=int, default=-1)
parser.add_argument("--die-at", type=int, default=-1, help="rank 1 kills itself there, in its first life")
given = parser.parse_args()

draw = np.random.default_rng(0)
X = draw.normal(size=(256, 12)).astype(np.float32)
T = (X @ draw.normal(size=(12, given.width))).astype(np.float32)
N = np.arange(256)
own = {"sum": np.zeros(3), "count": 0, "big": 1 << 70}


def load(value: dict) -> None:
    own.update(value)


with ps.connect() as kv:
    kv.keep("own", lambda: own, load)
    p = kv.init(
        {
            "w": np.zeros((12, given.width), np.float32),
            "b": np.zeros(given.width, np.float32),
            "mean": np.zeros(12, np.float32),
        },
        kinds={"mean": "buffer"},
    )
    print(f"BEGIN {kv.rank} {kv.clock} {own['count']}", flush=True)
    first = kv.clock
    for x, y, i in kv.batches((X, T, N), batch_size=16, epochs=given.epochs):
        r = x @ p["w"] + p["b"] - y
        noise = kv.rng.normal(size=given.width).astype(np.float32) * 0.01
        mean = p["mean"]
        mean *= np.float32(0.9)
        mean += np.float32(0.1) * x.mean(0)
        own["sum"] += kv.rng.normal(size=3)
        own["count"] += 1
        if given.gate and kv.clock == int(given.gate.partition(":")[0]):
            print(f"GATE {kv.rank}", flush=True)
            while not Path(given.gate.partition(":")[2]).exists():
                time.sleep(0.01)
        if kv.clock == given.raise_at and kv.rank == 0:
            raise RuntimeError("the script's own trouble")
        if kv.clock == given.stop_at and kv.rank == 0:
            kv.stop("enough")
        if kv.clock == given.die_at and kv.rank == 1 and not first:
            os.kill(os.getpid(), signal.SIGKILL)
        kv.step({"w": (x.T @ r / len(x)).astype(np.float32), "b": r.mean(0) + noise}, loss=float((r**2).mean()))
        if given.used:
            with Path(f"{given.used}.{kv.rank}").open("a") as file:
                file.write("".join(f"{kv.clock} {n}\n" for n in i))
        time.sleep(given.nap)
    kv.barrier()
    bits = [np.ascontiguousarray(p[name]).tobytes() for name in ("w", "b", "mean")]
    bits += [own["sum"].tobytes(), str((own["count"], own["big"])).encode()]
    print(f"END {kv.rank} {kv.clock} {hashlib.sha256(b''.join(bits)).hexdigest()[:16]}", flush=True)

"""Trains until a file exists: steady.py FILE. Says each step, and never has weights that are not finite.

In a federated job it naps in each round until the file exists, and then goes on to the last one.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import ps
import ps.federated

parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("file", type=Path)
parser.add_argument("--nap", type=float, default=0.02)
parser.add_argument("--barriers", type=int, default=0, help="a barrier every so many steps")
parser.add_argument("--set-lr", type=int, default=0, help="rank 0 sets the learning rate every so many steps")
parser.add_argument("--federated", action="store_true")
parser.add_argument("--wild", action="store_true", help="weights may be anything")
args = parser.parse_args()
MODEL = {"w": np.zeros((300, 7), np.float32), "b": np.zeros(320, np.float32), "d": np.zeros(40)}


def finite(params):
    return args.wild or all(np.isfinite(value).all() for value in params.values())


def fit(params, about):
    assert finite(params), f"round {about.number}"
    print(f"clock {about.number}", flush=True)
    if not args.file.exists():
        time.sleep(args.nap)
    return {name: value + value.dtype.type(0.001) for name, value in params.items()}, 10, {"level": 1.0}


if args.federated:
    final = ps.federated.Client(fit).run(MODEL)
    assert finite(final)
else:
    with ps.connect() as kv:
        params = kv.init(MODEL)
        print(f"ready rank={kv.rank}", flush=True)
        count = 0
        while not args.file.exists():
            count += 1
            time.sleep(args.nap)
            if args.set_lr and kv.rank == 0 and count % args.set_lr == 0:
                kv.set_lr(0.001 + 0.001 * (count % 2))
            with np.errstate(all="ignore"):
                grads = {name: (0.1 * (value - 1)).astype(value.dtype) for name, value in params.items()}
            kv.step(grads, loss=1.0, examples=8)
            assert finite(params), f"clock {kv.clock}"
            print(f"clock {kv.clock}", flush=True)
            if args.barriers and count % args.barriers == 0:
                kv.barrier()
print("done", flush=True)

"""A federated client that adds one to every weight: client.py [--hold FILE] [--at ROUND]. Prints what it does.

With --hold it stands still in its first fit (or that of round --at) until FILE exists.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import ps.federated

parser = argparse.ArgumentParser()
parser.add_argument("--hold", type=Path)
parser.add_argument("--at", type=int, default=0)
parser.add_argument("--nap", type=float, default=0.0)
args = parser.parse_args()


def fit(params, about):
    print(f"fit round={about.number} client={about.client}", flush=True)
    while args.hold is not None and about.number >= args.at and not args.hold.exists():
        time.sleep(0.01)
    time.sleep(args.nap)
    return {name: value + 1 for name, value in params.items()}, 10, {"level": float(params["b"][0])}


model = {"w": np.zeros(704, np.float32), "b": np.zeros(320, np.float32)}
final = ps.federated.Client(fit).run(model)
values = np.unique(np.concatenate([value.ravel() for value in final.values()]))
print(f"final {values[0]:g} of {len(values)}", flush=True)

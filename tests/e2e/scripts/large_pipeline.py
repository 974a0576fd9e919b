"""Train a model of 24 layers of 12 MB with so much memory, and say what it took: ``large_pipeline.py MB`` (0: all)."""

import argparse
import resource
from pathlib import Path

import numpy as np

import ps
from ps.models import softmax_cross_entropy

parser = argparse.ArgumentParser()
parser.add_argument("megabytes", type=int)
megabytes = parser.parse_args().megabytes
if megabytes:
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))  # as ulimit -v does
SIZE = 1750


class Layer:
    def init(self, rng):
        return {"w": np.full((SIZE, SIZE), 1e-3, np.float32)}

    def forward(self, params, x):
        return x @ params["w"], x

    def backward(self, params, x, dy):
        return dy @ params["w"].T, {"w": x.T @ dy}


x, y = np.ones((4, SIZE), np.float32), np.zeros(4, int)
pipe = ps.Pipeline([Layer() for _ in range(24)], softmax_cross_entropy, inexact=True)
with ps.connect(optimizer="sgd:lr=0.001") as kv:
    pipe.init(kv)
    for _ in range(2):
        loss = pipe.step(x, y, microbatches=2)
    with Path("/proc/self/status").open() as status:
        peak = next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmPeak"))
    held = sum(tensor.nbytes for tensor in kv.params.values()) >> 20
    print(f"trained {held} MB of the model, loss {loss:.3f}, at most {peak} MB", flush=True)

"""Train a small perceptron as a pipeline, and save the tensors that are here: ``pipeline.py FILE`` ("-": none)."""

import argparse
import time

import numpy as np

import ps
from ps.models import mlp, softmax_cross_entropy

parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--slow", default="0:0", help="LAYER:SECONDS that its forward pass takes")
args = parser.parse_args()
random = np.random.default_rng(0)
data = random.standard_normal((128, 20), np.float32), random.integers(0, 10, 128)
layers = mlp.stages([20, 16, 16, 16, 16, 10])
place, seconds = args.slow.split(":")


class Slow:
    """A layer that takes its time."""

    def __init__(self, layer):
        self.init, self.backward, self.inner = layer.init, layer.backward, layer

    def forward(self, params, x):
        time.sleep(float(seconds))
        return self.inner.forward(params, x)


layers[int(place)] = Slow(layers[int(place)])
pipe = ps.Pipeline(layers, softmax_cross_entropy)
with ps.connect(optimizer="adam:lr=0.01") as kv:
    pipe.init(kv, seed=0)
    for x, y in kv.batches(data, batch_size=32, epochs=args.epochs):
        pipe.step(x, y, microbatches=4)
        print("step", kv.clock, "is done", flush=True)
    if args.file != "-":
        np.savez(args.file.format(rank=kv.rank), **{name: np.asarray(value) for name, value in kv.params.items()})

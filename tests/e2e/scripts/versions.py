"""Every gradient is -1 everywhere, so that each update adds the learning rate to all weights alike.

versions.py STEPS RANK:SECONDS  notes how many different values the weights have: more than one is a torn read.
"""

import sys
import time

import numpy as np

import ps

steps = int(sys.argv[1])
rank, _, seconds = sys.argv[2].partition(":")
with ps.connect(optimizer="sgd:lr=1.0") as kv:
    params = kv.init({"a": np.zeros(900, "float32"), "b": np.zeros(2000, "float32")})
    grads = {name: np.full_like(value, -1.0) for name, value in params.items()}
    began = time.monotonic()
    while kv.clock < steps:
        if kv.rank == int(rank):
            time.sleep(float(seconds))
        kv.step(grads, torn=len(np.unique(np.concatenate([params["a"], params["b"]]))) - 1)
    print(f"seconds {kv.rank} {time.monotonic() - began:.2f}", flush=True)

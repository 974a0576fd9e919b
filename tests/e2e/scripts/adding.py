"""Each gradient is -1 and the learning rate 1, so that a weight is the number of contributions: adding.py STEPS NAP.

Says ``step RANK N`` after each step, and in the end ``holds RANK LEAST MOST``: what is in the weights.
"""

import sys
import time

import numpy as np

import ps

steps, nap = int(sys.argv[1]), float(sys.argv[2])
with ps.connect(optimizer="sgd:lr=1") as kv:
    params = kv.init({"w": np.zeros(20_000, np.float32), "b": np.zeros(30, np.float32)})
    print(f"BEGIN {kv.rank}", flush=True)
    for number in range(steps):
        kv.step({name: np.full_like(value, -1) for name, value in params.items()})
        print(f"step {kv.rank} {number + 1}", flush=True)
        time.sleep(nap)
    kv.barrier()
    kv.wait(kv.pull())
    print(f"holds {kv.rank} {min(v.min() for v in params.values()):g} {max(v.max() for v in params.values()):g}")

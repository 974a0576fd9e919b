"""A worker of ``failover.py``: steps until it is ended, and says when each one was done."""

from __future__ import annotations

import sys
import time

import numpy as np

import ps

megabytes, nap = float(sys.argv[1]), float(sys.argv[2])
with ps.connect(optimizer="momentum:lr=0.001,momentum=0.9") as kv:
    params = kv.init({"w": np.zeros(int(megabytes * 1e6 / 4), np.float32)})
    gradients = {"w": np.full(params["w"].size, 1e-3 * (kv.rank + 1), np.float32)}
    while True:
        time.sleep(nap)
        kv.step(gradients)
        print(f"step {kv.rank} {kv.clock} {time.monotonic():.4f}", flush=True)

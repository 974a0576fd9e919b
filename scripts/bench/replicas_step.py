"""A worker of ``replicas.py``: so many MB up and down in each step, and some milliseconds of work besides."""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

import ps

megabytes, steps, work = float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
with ps.connect() as kv:
    params = kv.init({"w": np.zeros(int(megabytes * 1e6 / 4), np.float32)})
    gradients = {"w": np.full(params["w"].size, 1e-3 * (kv.rank + 1), np.float32)}
    some, taken = np.ones((256, 256), np.float32), []
    for _ in range(steps):
        began = time.perf_counter()
        until = time.thread_time() + work / 1000
        while time.thread_time() < until:
            some @ some
        kv.step(gradients)
        taken.append(1000 * (time.perf_counter() - began))
    kv.barrier()
    print(f"median step {statistics.median(taken[5:]):.2f} ms", flush=True)

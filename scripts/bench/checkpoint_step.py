"""A worker of ``checkpoint.py``: so many MB up and down in each step, until it is ended; says how long each took."""

from __future__ import annotations

import sys
import time

import numpy as np

import ps

megabytes, work = float(sys.argv[1]), float(sys.argv[2])
with ps.connect() as kv:
    params = kv.init({"w": np.zeros(int(megabytes * 1e6 / 4), np.float32)})
    gradients = {"w": np.full(params["w"].size, 1e-3 * (kv.rank + 1), np.float32)}
    some = np.ones((256, 256), np.float32)
    while True:
        began = time.monotonic()
        until = time.thread_time() + work / 1000
        while time.thread_time() < until:
            some @ some
        kv.step(gradients)
        if kv.rank == 0:
            print(f"step {time.monotonic():.4f} {time.monotonic() - began:.4f}", flush=True)

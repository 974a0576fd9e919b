"""A worker of ``timed_job.py``: so many MB up and down in each step until it is ended, and when each one was done."""

from __future__ import annotations

import sys
import time

import numpy as np

import ps

megabytes, nap, work = map(float, sys.argv[1:4])
with ps.connect() as kv:
    params = kv.init({"w": np.zeros(int(megabytes * 1e6 / 4), np.float32)})
    gradients = {"w": np.full(params["w"].size, 1e-3 * (kv.rank + 1), np.float32)}
    some = np.ones((256, 256), np.float32)
    while True:
        began = time.monotonic()
        time.sleep(nap)
        until = time.thread_time() + work / 1000
        while time.thread_time() < until:
            some @ some
        kv.step(gradients)
        now = time.monotonic()
        print(f"step {kv.rank} {kv.clock} {now:.4f} {now - began:.4f}", flush=True)

"""Trains for so many steps, with a nap in each, and says what came of it: python replicated.py STEPS NAP."""

import sys
import time
import zlib

import numpy as np

import ps

steps, nap = int(sys.argv[1]), float(sys.argv[2])
with ps.connect(optimizer="adam:lr=0.01") as kv:
    params = kv.init({"w": np.arange(50_000, dtype=np.float32) % 7, "b": np.ones(30, np.float32)})
    last, longest = time.monotonic(), 0.0
    while kv.clock < steps:
        gradients = {name: np.sin(values * (kv.rank + 1) + kv.clock) for name, values in params.items()}
        time.sleep(nap)
        kv.step({name: values.astype(np.float32) for name, values in gradients.items()})
        last, longest = time.monotonic(), max(longest, time.monotonic() - last)
    kv.barrier()
    if kv.rank == 0:
        bits = zlib.crc32(b"".join(np.ascontiguousarray(values).tobytes() for values in params.values()))
        print(f"weights {bits}, longest step {longest:.2f} s", flush=True)

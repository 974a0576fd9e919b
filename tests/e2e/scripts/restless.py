"""Trains until a file exists, with a barrier now and then, and ends with one: restless.py STOP BARRIER_EVERY TIME."""

import hashlib
import sys
import time
from pathlib import Path

import numpy as np

import ps

stop, every, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
random = np.random.default_rng(1)
features = random.standard_normal((512, 400))
target = features @ random.standard_normal(400)
with ps.connect() as kv:
    params = kv.init({"weight": np.zeros(400), "bias": np.zeros(1)})
    print(f"ready rank={kv.rank} clock={kv.clock}", flush=True)
    told, met = 0.0, kv.clock // every
    while not stop.exists():
        if kv.clock // every > met:
            kv.barrier()
            met = kv.clock // every
            continue  # for the others it may have been the last: whoever saw the file by now steps no more
        part = (kv.clock * 32 + kv.rank * 8 + np.arange(8)) % len(features)
        error = features[part] @ params["weight"] + params["bias"] - target[part]
        loss = float(error @ error) / len(part)
        kv.step({"weight": features[part].T @ error / len(part), "bias": error.mean(keepdims=True)}, loss=loss)
        time.sleep(seconds)
        if time.monotonic() - told > 0.2:
            told = time.monotonic()
            print(f"clock {kv.clock}", flush=True)
    kv.barrier()
    digest = hashlib.sha256(params["weight"].tobytes() + params["bias"].tobytes()).hexdigest()[:16]
    print(f"result rank={kv.rank} clock={kv.clock} digest={digest} finite={np.isfinite(params['weight']).all()}")

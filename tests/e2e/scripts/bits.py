"""Trains a model of odd sizes, four kinds of floats and three groups of tensors, with every verb and steps that leave
tensors out; prints a digest of the weights of every clock.

bits.py STEPS
"""

import hashlib
import os
import sys
import time

import ml_dtypes  # noqa: F401
import numpy as np

import ps
from ps.protocol.transports import unix

if "APART" in os.environ:  # as in a container: no Unix socket of others can be opened
    unix.is_open = lambda path: False
GROUPS = {"e": {"momentum": 0.5}, "b": {"lr": 0.3}}
SHAPES = {
    "a": ((1237, 3), "f4"),
    "b": ((1,), "f8"),
    "c": ((), "f4"),
    "d": ((0, 4), "f8"),
    "e": ((3001,), "f8"),
    "f": ((999,), "bfloat16"),
    "g": ((77, 5), "f2"),
}
with ps.connect() as kv:
    start = np.random.default_rng(5)
    first = {name: start.standard_normal(shape).astype(kind) for name, (shape, kind) in SHAPES.items()}
    groups = {"b": GROUPS["b"]} if kv.job.optimizer.startswith(("adam", "sgd")) else GROUPS  # no momentum there
    params = kv.init(first, groups=groups)
    placed = kv._store._view is not None
    digest = hashlib.sha256()
    for step in range(int(sys.argv[1])):
        time.sleep(float(os.environ.get("NAP", "0")))
        random = np.random.default_rng(1000 * step + kv.rank)
        grads = {name: random.standard_normal(shape).astype(kind) for name, (shape, kind) in SHAPES.items()}
        if step % 5 == 4 and kv.rank == 0 and kv.job.on_nan == "skip":
            grads["a"][7, 1] = np.nan
        partial = step % 3 == 2
        if partial:
            for name in "ce" if kv.rank else "ac":
                del grads[name]
        if step % 4 == 1 and step > 8:  # from then on no weights are read in place
            kv.push(grads, partial=partial)
            kv.wait(kv.pull())
        elif step % 4 == 2 and not partial:
            for name, value in kv.grads.items():
                value[...] = grads[name]
            kv.step(kv.grads, examples=kv.rank + 1)
        elif step % 4 == 3:
            for name in reversed(grads):
                kv.ready(name, grads[name])
            kv.step(partial=partial)
        else:
            kv.step(grads, partial=partial)
        digest.update(b"".join(value.tobytes() for value in params.values()))
    ways = ",".join(
        sorted({queue.name.partition(" at ")[2].partition(":")[0] for queue in kv._store._session.exchange._queues})
    )
    print(f"result rank={kv.rank} clock={kv.clock} digest={digest.hexdigest()[:16]} ways={ways} placed={placed}")

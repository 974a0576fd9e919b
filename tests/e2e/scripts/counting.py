"""Every gradient is -1 and the learning rate 1, so that a weight is the number of updates that are in it.

counting.py UNTIL  trains until the file exists, uses every verb there is, and looks at the weights whenever it can:
within a chunk all are equal (or a read was torn), they never fall (or it was stale), and with every step of this worker
they rise. In sync mode they are the clock, and stay so until the next step, whatever the others do meanwhile.
"""

import argparse
import os
import random
import time
from pathlib import Path

import numpy as np

import ps
from ps.protocol.layout import Layout
from ps.protocol.transports import unix

parser = argparse.ArgumentParser()
parser.add_argument("until", help="train until this file exists, or this clock if it is a number")
parser.add_argument("--size", type=int, default=40_000)
parser.add_argument("--nap", type=float, default=0.0, help="seconds between steps, at most")
parser.add_argument("--barriers", type=int, default=0, metavar="N", help="one every N clocks")
parser.add_argument("--leave", metavar="RANK:CLOCK", action="append", default=[], help="close there and go on looking")
parser.add_argument("--blind", type=int, default=-1, metavar="RANK", help="this one will be stopped: it does not look")
parser.add_argument("--push", action="store_true", help="push and pull apart too: no weights are read in place then")
parser.add_argument("--fork", action="store_true", help="have children that hold everything and end in several ways")
args = parser.parse_args()
if "APART" in os.environ:  # as in a container: no Unix socket of others can be opened
    unix.is_open = lambda path: False

kv = ps.connect(optimizer="sgd:lr=1")
dice = random.Random(kv.rank)
params = kv.init({"a": np.zeros(args.size, "float32"), "b": np.zeros(501), "c": np.zeros((7, 300), "float32")})
layout = Layout.of(dict(params))
chunks = layout.chunks(kv.job.servers, kv.job.chunk_bytes)
grads = {name: np.full_like(value, -1) for name, value in params.items()}
out = {name: np.zeros_like(value) for name, value in params.items()}
sync = kv.job.mode == "sync"
least = {chunk.index: 0.0 for chunk in chunks}
print(f"ready rank={kv.rank} clock={kv.clock}", flush=True)


def fail(what: str) -> None:
    print(f"BROKEN rank={kv.rank} clock={kv.clock} {what}", flush=True)
    os._exit(99)


def look(at: dict[str, np.ndarray], rise: int | None = None) -> None:
    """Look at all weights; ``rise``: the fewest updates that are in them."""
    if kv.rank == args.blind:
        return
    flat = {
        dtype: np.concatenate([at[t.name].reshape(-1) for t in layout.tensors if t.dtype == dtype])
        for dtype in ("float32", "float64")
    }
    for chunk in chunks:
        part = flat[chunk.dtype][chunk.start : chunk.stop]
        low, high = float(part.min()), float(part.max())
        if low != high:
            fail(f"torn chunk {chunk.index}: {low:g} and {high:g}")
        if sync and rise is not None and low != rise:
            fail(f"chunk {chunk.index} is {low:g}, the clock {rise}")
        if low < (least[chunk.index] if rise is None else max(rise, least[chunk.index])):
            fail(f"stale chunk {chunk.index}: {low:g} after {least[chunk.index]:g}, own steps {rise}")
        least[chunk.index] = low


def still(clock: int) -> None:
    """Look again after a while: in the worker's own weights nothing moves between its calls."""
    before = {name: value.copy() for name, value in params.items()}
    if args.nap:
        time.sleep(dice.random() * args.nap)
    if kv.rank != args.blind and not all(np.array_equal(before[name], params[name]) for name in before):
        fail(f"the weights changed under the script at clock {clock}")


def fork(how: int) -> None:
    child = os.fork()
    if child == 0:
        total = sum(float(value.sum()) for value in params.values())
        if how == 0:
            os._exit(0 if total >= 0 else 1)
        raise SystemExit(0)  # the way out of a script, with all its clean-up
    if os.waitpid(child, 0)[1] != 0:
        fail("a forked child failed")


def over() -> bool:
    return kv.clock >= int(args.until) if args.until.isdigit() else Path(args.until).exists()


first, leave, said = kv.clock, {int(r): int(c) for r, c in (text.split(":") for text in args.leave)}, 0.0
met = kv.clock // args.barriers if args.barriers else 0
while not over():
    own = kv.clock - first if not sync else kv.clock
    if leave.get(kv.rank) == kv.clock:
        break
    if args.barriers and kv.clock // args.barriers > met:
        kv.barrier()
        met = kv.clock // args.barriers
        look(params, kv.clock if sync else None)
        continue
    verb = kv.clock % 6
    if verb == 0:
        kv.push_pull(grads, out)
        look(out, own + 1)
    elif verb == 1 and args.push:
        kv.wait(kv.push(grads))
        still(own)
        kv.wait(kv.pull(out))
        look(out, own + 1)
        kv.wait(kv.pull())
    elif verb == 2 and args.push:
        kv.push(grads)
        still(own)
        kv.wait(kv.pull())
    elif verb == 3:
        handle = kv.pull()
        kv.step(grads)
        look(params, own + 1)
        kv.wait(handle)
    elif verb == 4:
        for value in kv.grads.values():
            value[...] = -1
        kv.step(kv.grads)
    else:
        kv.step(grads)
    look(params, own + 1)
    still(own + 1)
    if args.fork and kv.clock % 20 in (3, 7):
        fork(kv.clock % 20 % 3)
    if time.monotonic() - said > 0.2:
        said = time.monotonic()
        print(f"clock {kv.clock}", flush=True)
kept = {name: value.copy() for name, value in params.items()}
kv.close()
until = time.monotonic() + (0.5 if leave.get(kv.rank) is not None else 0.0)
while True:
    if kv.rank != args.blind and not all(np.array_equal(kept[name], params[name]) for name in kept):
        fail("the weights changed after the connection was closed")
    if time.monotonic() >= until:
        break
    time.sleep(0.01)
print(f"result rank={kv.rank} clock={kv.clock} value={float(kept['b'][0]):g}", flush=True)

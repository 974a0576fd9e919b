"""Least squares on made-up data with NumPy alone; behaves as a test wants, and says what it does.

Step k of the whole job uses examples [k B, (k + 1) B) of the data, of which each of the job's workers takes its part.
So one process with batch size B computes what W workers with B / W each do together.
"""

import argparse
import hashlib
import itertools
import os
import signal
import time
from pathlib import Path

import numpy as np

import ps
from ps.protocol.messages import InitChunk, Message
from ps.worker import request_queue

WAIT = 60.0
GATE = "before this clock's step wait until the file exists; only this rank, if there is one"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--steps-of", metavar="RANK:N", action="append", default=[], help="another number for a rank")
    parser.add_argument("--batch", type=int, default=24, help="examples of a step, of all workers together")
    parser.add_argument("--shares", help="how the batch is shared out, such as 5,1,2; equally if not given")
    parser.add_argument("--size", type=int, default=601)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--nap", type=float, default=0.0, help="seconds of sleep in each step")
    parser.add_argument("--slow", metavar="RANK:SECONDS", help="another nap for a rank")
    parser.add_argument("--gate", metavar="[RANK@]CLOCK:PATH", action="append", default=[], help=GATE)
    parser.add_argument("--barrier-at", type=int, help="a barrier before this clock's step")
    parser.add_argument("--barrier", action="store_true", help="a barrier in the end")
    parser.add_argument("--set-lr", metavar="CLOCK:LR", help="rank 0 sets the learning rate before this clock's step")
    parser.add_argument("--fill", type=float, default=0.0, help="times rank + 1: the first weights")
    parser.add_argument("--size-of", metavar="RANK:N", help="another size for a rank")
    parser.add_argument("--die-at", metavar="RANK:CLOCK", help="kill -9 itself before this clock's step")
    parser.add_argument("--die-seeding", type=int, metavar="N", help="kill -9 itself when sending the Nth first chunk")
    parser.add_argument("--nan-at", metavar="RANK:CLOCK", help="a gradient that is not finite")
    parser.add_argument("--separate", action="store_true", help="push, pull and wait instead of step")
    parser.add_argument("--shout", action="store_true", help="a line for each step")
    parser.add_argument("--save", metavar="PATH", help="where to save the final parameters; {rank} is replaced")
    parser.add_argument("--wish", metavar="KEY=VALUE", action="append", default=[], help="what connect() asks for")
    return parser.parse_args(argv)


def gate(path: str) -> None:
    deadline = time.monotonic() + WAIT
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"nobody opened {path}")
        time.sleep(0.01)


def gates(texts: list[str], rank: int) -> dict[int, str]:
    found = {}
    for text in texts:
        clock, path = text.split(":", 1)
        only, _, clock = clock.rpartition("@")
        if only in ("", str(rank)):
            found[int(clock)] = path
    return found


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_seeding(count: int) -> None:
    """Arrange that this process dies in the middle of sending the model's first values."""
    encode = request_queue.encode
    chunks = itertools.count(1)

    def encode_or_die(message: Message) -> bytes:
        if isinstance(message, InitChunk) and next(chunks) == count:
            print("dying", flush=True)
            time.sleep(0.2)  # those before it are on their way
            die()
        return encode(message)

    request_queue.encode = encode_or_die


def share(args: argparse.Namespace, rank: int, workers: int) -> tuple[int, int]:
    """Return which part of each batch is this rank's."""
    parts = [int(part) for part in args.shares.split(",")] if args.shares and workers > 1 else []
    if not parts:
        assert args.batch % workers == 0
        parts = [args.batch // workers] * workers
    return sum(parts[:rank]), sum(parts[: rank + 1])


def main(argv: list[str] | None = None) -> dict[str, np.ndarray]:
    args = arguments(argv)
    random = np.random.default_rng(1)
    kind = np.dtype(args.dtype)
    features = random.standard_normal((997, args.size)).astype(kind)
    target = (features @ random.standard_normal(args.size).astype(kind)).astype(kind)
    defaults = dict(wish.split("=", 1) for wish in args.wish)
    if args.die_seeding:
        die_seeding(args.die_seeding)
    with ps.connect(**defaults) as kv:
        print(f"joined rank={kv.rank}", flush=True)
        size = args.size
        if args.size_of and int(args.size_of.split(":")[0]) == kv.rank:
            size = int(args.size_of.split(":")[1])
        first = np.full(size, args.fill * (kv.rank + 1), kind)
        params = kv.init({"weight": first, "bias": np.zeros(1, kind)})
        print(f"ready rank={kv.rank} clock={kv.clock} first={params['weight'][0]:g}", flush=True)
        open_at = gates(args.gate, kv.rank)
        nap = args.nap
        if args.slow and int(args.slow.split(":")[0]) == kv.rank:
            nap = float(args.slow.split(":")[1])
        steps = {int(rank): int(n) for rank, n in (text.split(":") for text in args.steps_of)}.get(kv.rank, args.steps)
        workers = kv.job.workers
        lo, hi = share(args, kv.rank % workers, workers)
        loss = 0.0
        while kv.clock < steps:
            clock = kv.clock
            if clock in open_at:
                print(f"gate {clock}", flush=True)
                gate(open_at[clock])
            if args.die_at == f"{kv.rank}:{clock}":
                die()
            if clock == args.barrier_at:
                args.barrier_at = None
                print(f"barrier {clock}", flush=True)
                kv.barrier()
                continue
            if args.set_lr and clock == int(args.set_lr.split(":")[0]) and kv.rank == 0:
                kv.set_lr(float(args.set_lr.split(":")[1]))
            if nap:
                time.sleep(nap)
            part = np.arange(clock * args.batch + lo, clock * args.batch + hi) % len(features)
            x, y = features[part, :size], target[part]
            error = x @ params["weight"] + params["bias"] - y
            loss = float(error @ error) / len(part)
            grads = {
                "weight": (x.T @ error / kind.type(len(part))).astype(kind),
                "bias": np.array([error.mean()], kind),
            }
            if args.nan_at == f"{kv.rank}:{clock}":
                grads["bias"][0] = np.nan
            if args.separate:
                kv.wait(kv.push(grads))
                kv.wait(kv.pull())
            else:
                kv.step(grads, loss=loss, examples=hi - lo)
            if args.shout:
                print(f"clock {kv.clock} of rank {kv.rank}, {kv.num_workers} workers", flush=True)
        if args.barrier:
            print(f"barrier {kv.clock}", flush=True)
            kv.barrier()
        final = {name: np.array(value) for name, value in params.items()}
        digest = hashlib.sha256(b"".join(value.tobytes() for value in final.values())).hexdigest()[:16]
        print(f"result rank={kv.rank} clock={kv.clock} digest={digest} loss={loss:.6g}", flush=True)
        if args.save:
            np.savez(args.save.replace("{rank}", str(kv.rank)), **final)
    return final


if __name__ == "__main__":
    main()

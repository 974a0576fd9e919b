"""Time each compression of a gradient: bytes on the wire, milliseconds to encode and to decode.

    python scripts/bench/compress.py
    python scripts/bench/compress.py --only int8,topk:0.001 --repeats 15 --json compress.json

Encoding is what a worker does with a gradient, error feedback included; decoding is what a server does with the
frame, checks included, into one block after the other; following is what a worker does with a frame of changed
weights. One thread, chunks as in a job. The limit is w -= g in place.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
from collections.abc import Callable

import numpy as np
from limits import in_place_update, interleave, machine
from outfile import outfile

from ps.compress import CODECS, Downlink, Key, Uplink
from ps.memory import keep_freed_memory
from ps.optim.workspace import BLOCK_BYTES

SPECS = ["none", "fp16", "bf16", "int8", "onebit", "topk:0.01", "topk:0.01,momentum=0.9", "randomk:0.01", "powersgd:4"]


def cases(text: str, gradient: np.ndarray, chunk: int) -> tuple[int, dict[str, Callable[[], object]]]:
    """Return the bytes of all frames and what is timed: encode, decode, follow."""
    uplink, downlink = Uplink(CODECS.parse(text)), Downlink(CODECS.parse(text))
    parts = [gradient[lo : lo + chunk] for lo in range(0, gradient.size, chunk)]
    keys = [Key(seed=0, clock=1 << 20, chunk=index, rank=0) for index in range(len(parts))]
    states = [uplink.init(part) for part in parts]
    buffers = [np.empty(uplink.codec.max_bytes(part.size, part.dtype), np.uint8) for part in parts]
    frames = [uplink.encode(*work) for work in zip(parts, states, keys, buffers, strict=True)]
    replica = np.zeros_like(gradient)
    block = np.empty(BLOCK_BYTES // gradient.itemsize, gradient.dtype)

    def encode() -> None:
        for work in zip(parts, states, keys, buffers, strict=True):
            uplink.encode(*work)

    def decode() -> None:
        for frame, part, key in zip(frames, parts, keys, strict=True):
            read = uplink.codec.open(frame, part.size, part.dtype, key).read
            for lo in range(0, part.size, block.size):
                hi = min(lo + block.size, part.size)
                read(lo, hi, block[: hi - lo])

    def follow() -> None:
        for index, (frame, key) in enumerate(zip(frames, keys, strict=True)):
            downlink.follow(frame, replica[index * chunk : (index + 1) * chunk], key)

    return sum(frame.size for frame in frames), {"encode": encode, "decode": decode, "follow": follow}


def main() -> None:
    """Print a table, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=SPECS, metavar="SPEC", help="compressions (all, usual numbers)")
    parser.add_argument("--size", type=int, default=10_000_000, help="float32 parameters (10 M)")
    parser.add_argument("--chunk", type=int, default=1 << 19, help="parameters per chunk (512 Ki, which is 2 MiB)")
    parser.add_argument("--magnitude", type=float, default=1e-3, help="standard deviation of the gradient (1e-3)")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (7)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()

    keep_freed_memory()  # as servers and workers do
    host = machine()
    print(", ".join(f"{key} {value}" for key, value in host.items()))
    raw = 4 * options.size
    print(f"{options.size:,} float32 ({raw / 1e6:.0f} MB), medians of {options.repeats} in ms\n")
    print(f"{'':24}{'MB':>8}{'ratio':>8}{'encode':>9}{'decode':>9}{'follow':>9}{'limit':>9}{'encode/limit':>14}")
    gradient = np.random.default_rng(0).standard_normal(options.size, np.float32) * np.float32(options.magnitude)
    results = {}
    for text in options.only:
        nbytes, timed = cases(text, gradient, options.chunk)
        seconds = interleave({"limit": in_place_update(options.size), **timed}, options.repeats)
        results[text] = {"bytes": nbytes, "ratio": raw / nbytes, **seconds}
        row = "".join(f"{seconds[case] * 1e3:9.1f}" for case in ("encode", "decode", "follow", "limit"))
        print(f"{text:24}{nbytes / 1e6:8.2f}{raw / nbytes:8.1f}{row}{seconds['encode'] / seconds['limit']:14.1f}")
    if options.json:
        figures = {"machine": host, "size": options.size, "repeats": options.repeats, "codecs": results}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

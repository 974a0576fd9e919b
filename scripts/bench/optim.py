"""Time one update of each optimizer: plain NumPy, in place over whole arrays, and ps.optim over blocks.

    python scripts/bench/optim.py
    python scripts/bench/optim.py --only adam,sgd --repeats 15 --json optim.json
    python scripts/bench/optim.py --threads 4

"plain" is the expression one writes first, with a new array for each intermediate result; "in place" the same
with out= and one scratch array; "shared" is ps.optim with its blocks shared out among threads. The limit is w -= g
in place. What a server does with the gradients of several workers: aggregate.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from limits import in_place_update, interleave, machine
from outfile import outfile

from ps.optim import OPTIMIZERS, apply
from ps.optim.optimizer import Optimizer
from ps.threads import ThreadTeam

Arrays: TypeAlias = dict[str, np.ndarray]

LR, T = 1e-3, 10
COLUMNS = ("plain", "in place", "ours", "shared", "limit")


def plain(name: str, o: Optimizer, a: Arrays) -> Callable[[], object]:
    """Return one update as the equation reads, arrays replaced by new ones."""
    h = dict(OPTIMIZERS.spec(name).numbers)
    g = a["g"]

    def sgd() -> None:
        a["w"] = a["w"] - LR * g

    def momentum() -> None:
        a["m"] = h["momentum"] * a["m"] + g
        a["w"] = a["w"] - LR * a["m"]

    def nesterov() -> None:
        a["m"] = h["momentum"] * a["m"] + g
        a["w"] = a["w"] - LR * (g + h["momentum"] * a["m"])

    def adagrad() -> None:
        a["v"] = a["v"] + g**2
        a["w"] = a["w"] - LR * g / (np.sqrt(a["v"]) + h["eps"])

    def rmsprop() -> None:
        a["v"] = h["alpha"] * a["v"] + (1 - h["alpha"]) * g**2
        a["w"] = a["w"] - LR * g / (np.sqrt(a["v"]) + h["eps"])

    def adam() -> None:
        a["m"] = h["beta1"] * a["m"] + (1 - h["beta1"]) * g
        a["v"] = h["beta2"] * a["v"] + (1 - h["beta2"]) * g**2
        mean, square = a["m"] / (1 - h["beta1"] ** T), a["v"] / (1 - h["beta2"] ** T)
        a["w"] = a["w"] - LR * mean / (np.sqrt(square) + h["eps"])

    def adamw() -> None:
        a["w"] = a["w"] - LR * h["weight_decay"] * a["w"]
        adam()

    def lion() -> None:
        a["w"] = a["w"] - LR * np.sign(h["beta1"] * a["m"] + (1 - h["beta1"]) * g)
        a["m"] = h["beta2"] * a["m"] + (1 - h["beta2"]) * g

    def ftrl() -> None:
        sigma = (np.sqrt(a["v"] + g**2) - np.sqrt(a["v"])) / h["lr"]
        a["m"] = a["m"] + g - sigma * a["w"]
        a["v"] = a["v"] + g**2
        shrunk = a["m"] - np.clip(a["m"], -h["l1"], h["l1"])
        a["w"] = -shrunk / ((h["beta"] + np.sqrt(a["v"])) / h["lr"] + h["l2"])

    def fedadagrad() -> None:
        a["m"] = h["beta1"] * a["m"] + (1 - h["beta1"]) * g
        a["v"] = a["v"] + g**2
        a["w"] = a["w"] - LR * a["m"] / (np.sqrt(a["v"]) + h["tau"])

    def fedadam() -> None:
        a["m"] = h["beta1"] * a["m"] + (1 - h["beta1"]) * g
        a["v"] = h["beta2"] * a["v"] + (1 - h["beta2"]) * g**2
        a["w"] = a["w"] - LR * a["m"] / (np.sqrt(a["v"]) + h["tau"])

    def fedyogi() -> None:
        a["m"] = h["beta1"] * a["m"] + (1 - h["beta1"]) * g
        a["v"] = a["v"] - (1 - h["beta2"]) * g**2 * np.sign(a["v"] - g**2)
        a["w"] = a["w"] - LR * a["m"] / (np.sqrt(a["v"]) + h["tau"])

    federated = (fedadagrad, fedadam, fedyogi)
    cases = (sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lion, ftrl, *federated)
    return {case.__name__: case for case in cases}[name]


def in_place(o: Optimizer, a: Arrays, state: Arrays) -> Callable[[], object]:
    """Return one update as ps.optim's own lines over the whole vector at once."""
    w, slots = a["w"].copy(), tuple(state.values())
    scratch = np.empty_like(w), np.empty_like(w)

    def case() -> None:
        o.update(w, a["g"], slots, scratch, o.constants(LR, T, w.dtype))

    return case


def blocks(o: Optimizer, a: Arrays, threads: int) -> Callable[[], object]:
    """Return one update by ps.optim."""
    w, team = a["w"].copy(), ThreadTeam(threads)
    state = o.init(w)
    return lambda: apply(o, w, a["g"], state, lr=LR, t=T, team=team)


def measure(name: str, size: int, threads: int, repeats: int) -> dict[str, float]:
    """Return the seconds of the limit and of the four ways."""
    optimizer = OPTIMIZERS.parse(name).build()
    rng = np.random.default_rng(0)
    vectors = {key: rng.standard_normal(size, np.float32) for key in ("w", "g")}
    whole = optimizer.init(vectors["w"])
    own = {"m": np.zeros(size, np.float32), "v": np.zeros(size, np.float32), **vectors}
    cases = {
        "limit": in_place_update(size),
        "plain": plain(name, optimizer, own),
        "in place": in_place(optimizer, vectors, whole),
        "ours": blocks(optimizer, vectors, 1),
        "shared": blocks(optimizer, vectors, threads),
    }
    return interleave(cases, repeats)


def main() -> None:
    """Print a table, and JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(OPTIMIZERS), help="optimizers, separated by commas")
    parser.add_argument("--size", type=int, default=10_000_000, help="float32 parameters (10 M)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the shared update (2)")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (7)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()

    host = machine()
    print(", ".join(f"{key} {value}" for key, value in host.items()))
    print(f"one update of {options.size:,} float32 parameters, medians of {options.repeats} in ms\n")
    print(f"{'':10}" + "".join(f"{name:>9}" for name in COLUMNS) + f"{'ours/plain':>12}{'ours/limit':>12}")
    results = {}
    for name in options.only.split(","):
        seconds = results[name] = measure(name, options.size, options.threads, options.repeats)
        row = "".join(f"{seconds[case] * 1e3:9.1f}" for case in COLUMNS)
        to_plain, to_limit = (seconds["ours"] / seconds[case] for case in ("plain", "limit"))
        print(f"{name:10}{row}{to_plain:12.2f}{to_limit:12.1f}")
    if options.json:
        asked = {"size": options.size, "threads": options.threads, "repeats": options.repeats}
        figures = {"machine": host, **asked, "seconds": results}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Rounds that FedAvg needs on MNIST, beside those of its paper (McMahan et al. 2017, tables 1 and 2).

python scripts/bench/federated_paper.py --data DIR                  the 2NN: IID and two shards for each client, 3 seeds
python scripts/bench/federated_paper.py --data DIR --cnn --seeds 1  the CNN with E = 5, IID
python scripts/bench/federated_paper.py --data DIR --secure pairwise:clip=0.25  with deltas under masks

100 clients of which 10 take part in a round, batches of 10, plain SGD, the real scheduler and servers in virtual time.
A round counts as reaching an accuracy when the global model has it on the 10,000 test images after that round.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from limits import machine

from ps.simulate.examples import load
from ps.simulate.simulation import Moment, Scenario, simulate


@dataclass(frozen=True, slots=True)
class Case:
    """One figure of the paper: the rounds to ``target``."""

    name: str
    model: str
    hidden: tuple[int, ...]
    partition: str
    epochs: int
    lr: float
    target: float
    paper: int


MLP = (
    Case("2NN, E = 1, IID", "mlp", (200, 200), "iid", 1, 0.1, 0.97, 87),
    Case("2NN, E = 1, two shards each", "mlp", (200, 200), "shards:2", 1, 0.1, 0.97, 664),
)
CNN = (Case("CNN, E = 5, IID", "cnn", (), "iid", 5, 0.1, 0.99, 20),)


def run(
    case: Case, seed: int, data: dict[str, Any], lr: float | None, processes: int, secure: str = "none"
) -> dict[str, Any]:
    """Run until the target or the paper's number of rounds; return what came of it."""
    job = {
        "mode": "federated",
        "workers": 100,
        "clients_per_round": 10,
        "over_select": 1.0,
        "rounds": case.paper,
        "local_epochs": case.epochs,
        "optimizer": f"sgd:lr={lr or case.lr}",
        "partition": case.partition,
        "seed": seed,
        "secure": secure,
    }
    began = time.monotonic()

    def watch(moment: Moment) -> None:
        if sys.stderr.isatty():
            print(
                f"\r{case.name}, seed {seed}: round {moment.version}, {moment.accuracy:.4f} ", end="", file=sys.stderr
            )

    found = simulate(Scenario(job, data, case.model, case.hidden, 10, processes=processes, target=case.target), watch)
    best = max(accuracy for _, _, accuracy in found.evaluations)
    reached = next((r for r, _, accuracy in found.evaluations if accuracy >= case.target), None)
    return {"seed": seed, "rounds": reached, "best": best, "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with MNIST's files (default: PS_DATA)")
    parser.add_argument("--cnn", action="store_true", help="the CNN instead of the 2NN")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds (default 3)")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of the seeds (default 0)")
    parser.add_argument("--only", help="only cases whose name contains this")
    parser.add_argument("--lr", type=float, help="another learning rate than the case's")
    parser.add_argument("--processes", type=int, default=2, help="processes that compute clients (default 2)")
    parser.add_argument("--secure", default="none", help="hide single deltas: pairwise, pairwise:clip=0.25 ...")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    data = dict(load("mnist", args.data, 0, 0))
    rows = []
    for case in CNN if args.cnn else MLP:
        if args.only and args.only not in case.name:
            continue
        seeds = range(args.first_seed, args.first_seed + args.seeds)
        runs = [run(case, seed, data, args.lr, args.processes, args.secure) for seed in seeds]
        rows.append(
            {"case": case.name, "target": case.target, "paper": case.paper, "lr": args.lr or case.lr, "runs": runs}
        )
        if not args.json:
            said = ", ".join(f"{r['rounds'] or '-'} ({r['best']:.4f}, {r['seconds']:.0f} s)" for r in runs)
            print(f"{case.name}: {case.target:.0%} in the paper after {case.paper} rounds; here {said}", flush=True)
    if args.json:
        print(json.dumps({"machine": machine(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()

"""A client of few parameters that stands still in a round until a file is there: gated.py ROUND FILE."""

import sys
import time
from pathlib import Path

import numpy as np

import ps.federated


def fit(params, about):
    while about.number == int(sys.argv[1]) and not Path(sys.argv[2]).exists():
        time.sleep(0.05)
    return {name: value + np.float32(0.001) for name, value in params.items()}, 10, {}


def evaluate(params):
    return {}


ps.federated.Client(fit, evaluate).run({"w": np.zeros(704, np.float32)})

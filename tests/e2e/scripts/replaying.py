"""A client whose delta is 0.25 in every round: replaying.py [again]; again: it uploads that of its first task once more
before each later one, and says whether a server would have taken it."""

import sys

import numpy as np

import ps.federated
from ps.worker.federated.connection import FederatedConnection

upload, first = FederatedConnection.contribute, []


def replay(self, pending, *more):
    if first and first[0].task != pending.task:
        print(f"replayed {self.upload(first[0].task, first[0].round, first[0].frames, first[0].token)}", flush=True)
        print(f"submitted {self.submit(first[0])}", flush=True)
    first[:] = first or [pending]
    return upload(self, pending, *more)


if sys.argv[1:] == ["again"]:
    FederatedConnection.contribute = replay


def fit(params, about):
    return {name: value + np.float32(0.25) for name, value in params.items()}, 10, {}


final = ps.federated.Client(fit, lambda params: {}).run({"w": np.zeros(704, np.float32)})
print(f"final {final['w'].min():.4f} {final['w'].max():.4f}", flush=True)

"""A client whose numbers are its own: private.py [--batches]. Each has a loss, a count of examples and a measure that
occur nowhere else: 0.7351R1, 4096R3 and 0.3173R9, with R its rank. Prints nothing of them.
"""

import argparse

import numpy as np

import ps.federated

parser = argparse.ArgumentParser()
parser.add_argument("--batches", action="store_true")
args = parser.parse_args()


def loss(rank):
    return float(f"0.7351{rank}1")


def examples(rank):
    return int(f"4096{rank}3")


def measure(rank):
    return float(f"0.3173{rank}9")


def with_functions():
    me = []

    def fit(params, about):
        me[:] = [about.client]
        trained = {name: value + np.float32(0.0625) for name, value in params.items()}
        return trained, examples(about.client), {"loss": loss(about.client), "steps": examples(about.client)}

    def evaluate(params):
        return {"accuracy": measure(me[0])} if me else {}

    return ps.federated.Client(fit, evaluate).run({"w": np.zeros(704, np.float32)})


def with_batches():
    with ps.connect(optimizer="sgd:lr=0.1", mode="federated") as kv:
        params = kv.init({"w": np.zeros(704, np.float32)})
        count = examples(kv.rank)
        data = np.zeros((count, 1), np.float32), np.full(count, 77 + kv.rank)
        kv.evaluate(lambda params, data: {"accuracy": measure(kv.rank)}, data)
        for _ in kv.batches(data, batch_size=count):
            kv.step({"w": np.full(704, -0.625, np.float32)}, loss=loss(kv.rank))
        return dict(params)


final = with_batches() if args.batches else with_functions()
print(f"final {final['w'].min():.3f} {final['w'].max():.3f}", flush=True)

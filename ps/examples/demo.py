"""Train a small perceptron on made-up pictures: nothing to install or download.

psctl demo                                          two servers, four workers
python -m ps.examples.demo                          one process, no cluster
psctl run -s 2 -w 4 -m ps.examples.demo             what psctl demo does
psctl run -w 4 --mode async -m ps.examples.demo     nobody waits for anybody
psctl run -w 4 --mode ssp -m ps.examples.demo       nobody runs far ahead
psctl run -w 4 --mode federated -m ps.examples.demo
"""

import argparse

import numpy as np

import ps
from ps.data import Dataset
from ps.models import mlp

SIDE, KINDS = 12, 10


def pictures(n: int, seed: int) -> Dataset:
    """Return ``n`` noisy pictures, each of one of ten patterns that stands anywhere: x (n, 144) float32, y (n,)."""
    patterns = np.random.default_rng(0).standard_normal((KINDS, SIDE // 2, SIDE // 2))
    rng = np.random.default_rng(seed)
    y = rng.integers(KINDS, size=n)
    x = rng.standard_normal((n, SIDE, SIDE), np.float32) * 0.6
    for picture, kind, (down, right) in zip(x, y, rng.integers(SIDE // 4 + 1, size=(n, 2)), strict=True):
        picture[down : down + SIDE // 2, right : right + SIDE // 2] += patterns[kind]
    return Dataset(x.reshape(n, -1), y)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data (default 10)")
    parser.add_argument("--examples", type=int, default=12_000, help="pictures to train on (default 12000)")
    args = parser.parse_args()

    train, test = pictures(args.examples, seed=1), pictures(2000, seed=2)
    with ps.connect(optimizer="adam:lr=0.002") as kv:
        params = kv.init(mlp.init([SIDE * SIDE, 128, KINDS], seed=0))
        kv.evaluate(mlp.accuracy, test)
        for x, y in kv.batches(train, batch_size=32, epochs=args.epochs):
            loss, grads = mlp.loss_and_grad(params, x, y)
            kv.step(grads, loss=loss)
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"test accuracy {mlp.accuracy(params, test):.4f}")


if __name__ == "__main__":
    main()

"""Train a small perceptron on scikit-learn's digits: about 97 % right in seconds.

python ps/examples/digits.py                    one process, no cluster
psctl run -s 2 -w 4 ps/examples/digits.py       two servers, four workers
psctl run -s 2 -w 4 --mode async ps/examples/digits.py
psctl run -s 2 -w 4 --mode ssp --staleness 3 ps/examples/digits.py
psctl run -s 2 -w 4 --mode federated --rounds 20 ps/examples/digits.py
psctl run -s 1 -w 2 --device cuda ps/examples/digits.py     on a GPU
"""

import argparse

import ps
from ps.data import digits
from ps.errors import DataError
from ps.models import mlp


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data (default 10)")
    parser.add_argument("--batch-size", type=int, default=32, help="examples per step and worker (default 32)")
    args = parser.parse_args()

    try:
        train, test = digits()
    except DataError as error:
        parser.error(str(error))
    with ps.connect(optimizer="adagrad:lr=0.03") as kv:
        params = kv.init(mlp.init([64, 128, 10], seed=0))
        kv.evaluate(mlp.accuracy, test)  # for the record, every --eval-every steps
        for x, y in kv.batches(train, batch_size=args.batch_size, epochs=args.epochs):
            loss, grads = mlp.loss_and_grad(params, x, y)
            kv.step(grads, loss=loss)
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"test accuracy {mlp.accuracy(params, test):.4f}")


if __name__ == "__main__":
    main()

"""Train on MNIST: the FedAvg paper's CNN is over 98 % right after one epoch.

python ps/examples/mnist.py --data DIR                  one process, no cluster
psctl run -s 2 -w 2 ps/examples/mnist.py --data DIR     two servers, two workers
psctl run -w 2 --mode async ps/examples/mnist.py --model mlp --data DIR
psctl run -w 2 --mode ssp ps/examples/mnist.py --model softmax --data DIR
psctl run -w 10 --mode federated ps/examples/mnist.py --model mlp --data DIR
psctl run -w 2 ps/examples/mnist.py --limit 6000        a tenth of the data

DIR (or PS_DATA) holds mnist.npz or the four IDX files.
"""

import argparse
from types import ModuleType

import ps
from ps.data import mnist
from ps.errors import DataError
from ps.models import cnn, mlp, softmax


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=1, help="passes over the data (default 1)")
    parser.add_argument("--batch-size", type=int, default=32, help="examples per step and worker (default 32)")
    parser.add_argument("--model", choices=["softmax", "mlp", "cnn"], default="cnn", help="what to train")
    parser.add_argument("--data", metavar="DIR", help="folder with MNIST's files (default: PS_DATA)")
    parser.add_argument("--limit", type=int, metavar="N", help="train on the first N examples only")
    args = parser.parse_args()

    model: ModuleType
    if args.model == "softmax":
        model, fresh = softmax, softmax.init([784, 10])
    elif args.model == "mlp":
        model, fresh = mlp, mlp.init([784, 200, 200, 10])
    else:
        model, fresh = cnn, cnn.init()

    try:
        train, test = mnist(args.data)
    except DataError as error:
        parser.error(str(error))
    if args.limit is not None:
        train = train.take(args.limit)
    with ps.connect(optimizer="adam:lr=1e-3") as kv:  # which needs no other rate in async and ssp
        params = kv.init(fresh)
        kv.evaluate(model.accuracy, test)  # for the record, every --eval-every steps
        for x, y in kv.batches(train, batch_size=args.batch_size, epochs=args.epochs):
            loss, grads = model.loss_and_grad(params, x, y)
            kv.step(grads, loss=loss)
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"test accuracy {model.accuracy(params, test):.4f}")


if __name__ == "__main__":
    main()

"""Train a perceptron with residual blocks as a pipeline of layers, on scikit-learn's digits: about 97 % right.

python ps/examples/pipeline_mlp.py                        one process, the layers in one piece
python ps/examples/pipeline_mlp.py --stages 4 --schedule zero-bubble    in four stages that take turns: the same bits
psctl run -s 2 -w 2 ps/examples/pipeline_mlp.py           two workers, each with its share of the data and all stages
psctl run -s 2 -w 4 --mode pipeline ps/examples/pipeline_mlp.py           four workers, each with one stage of four
psctl pipeline show --stages 4 --microbatches 8           what four stages do when
"""

import argparse
from collections.abc import Mapping

import numpy as np

import ps
from ps.data import digits
from ps.errors import DataError
from ps.models import mlp, softmax_cross_entropy
from ps.xp import HostArray

Tensors = Mapping[str, HostArray]


class Residual:
    """``x + relu(x @ w)``, for x of (n, size): a layer of one's own is three functions, and holds no tensors."""

    def __init__(self, size: int) -> None:
        self.size = size

    def init(self, rng: np.random.Generator) -> Tensors:
        return {"w": rng.normal(0, self.size**-0.5, (self.size, self.size)).astype(np.float32)}

    def forward(self, params: Tensors, x: HostArray) -> tuple[HostArray, tuple[HostArray, HostArray]]:
        active = np.maximum(x @ params["w"], 0)
        return x + active, (x, active)

    def backward(self, params: Tensors, saved: tuple[HostArray, HostArray], dy: HostArray) -> tuple[HostArray, Tensors]:
        x, active = saved
        d = dy * (active > 0)
        return dy + d @ params["w"].T, {"w": x.T @ d}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data (default 10)")
    parser.add_argument("--batch-size", type=int, default=64, help="examples per step and worker (default 64)")
    parser.add_argument("--microbatches", type=int, default=8, help="parts of a batch (default 8)")
    parser.add_argument("--stages", type=int, default=1, help="pieces the model is cut into (default 1)")
    parser.add_argument("--schedule", default="1f1b", help="in which order stages work (default 1f1b)")
    args = parser.parse_args()

    try:
        train, test = digits()
    except DataError as error:
        parser.error(str(error))
    first, *rest = mlp.stages([64, 64, 64, 10])
    layers = [first, Residual(64), Residual(64), *rest]
    pipe = ps.Pipeline(layers, softmax_cross_entropy, cuts=args.stages, schedule=args.schedule)
    with ps.connect(optimizer="adagrad:lr=0.03") as kv:
        pipe.init(kv, seed=0)
        kv.evaluate(pipe.accuracy, test)
        for x, y in kv.batches(train, batch_size=args.batch_size, epochs=args.epochs):
            pipe.step(x, y, microbatches=args.microbatches)
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"test accuracy {pipe.accuracy(None, test):.4f}")


if __name__ == "__main__":
    main()

"""Train a small perceptron in JAX on scikit-learn's digits: about 97 % right in seconds.

python ps/examples/jax_mlp.py                    one process, no cluster
psctl run -s 2 -w 2 ps/examples/jax_mlp.py       two servers, two workers
psctl run -w 2 --mode async ps/examples/jax_mlp.py
psctl run -w 2 --mode ssp --staleness 3 ps/examples/jax_mlp.py
psctl run -w 2 --mode federated --rounds 20 ps/examples/jax_mlp.py

pip install "paramserver[jax,examples]"
"""

import argparse
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ps
import ps.jax
from ps.data import Dataset, digits
from ps.errors import DataError


def network(sizes: list[int], seed: int) -> dict[str, Any]:
    """Return the first parameters: a list of layers, each with a weight (inputs, outputs) and a bias."""
    rng = np.random.default_rng(seed)  # whose numbers need not be compiled, as JAX's own do for seconds

    def layer(n: int, m: int) -> dict[str, Any]:
        return {"w": rng.standard_normal((n, m), np.float32) * np.float32((2 / n) ** 0.5), "b": np.zeros(m, np.float32)}

    return {"layers": [layer(n, m) for n, m in pairwise(sizes)]}


def logits(params: Any, x: Any) -> Any:
    *hidden, last = params["layers"]
    for layer in hidden:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ last["w"] + last["b"]


@jax.jit
@jax.value_and_grad
def loss_and_grad(params: Any, x: Any, y: Any) -> Any:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits(params, x)), y[:, None], axis=1))


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

        def accuracy(_: Any, data: Dataset) -> float:
            return float((logits(ps.jax.params(kv), jnp.asarray(data.x)).argmax(1) == jnp.asarray(data.y)).mean())

        ps.jax.init(kv, network([64, 128, 10], seed=0))
        kv.evaluate(accuracy, test)  # for the record, every --eval-every steps
        for x, y in kv.batches(train, batch_size=args.batch_size, epochs=args.epochs):
            loss, grads = loss_and_grad(ps.jax.params(kv), jnp.asarray(x), jnp.asarray(y))
            ps.jax.step(kv, grads, loss=float(loss))
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"test accuracy {accuracy(None, test):.4f}")


if __name__ == "__main__":
    main()

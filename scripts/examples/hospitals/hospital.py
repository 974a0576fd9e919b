"""One hospital: hospital.py --site 0|1|2. Trains on patients of its own, which it shows to nobody.

Here these are a third of scikit-learn's digits, another one for each site. The last line is what the common model gets
right of this hospital's own test patients, which is told on this machine alone.
"""

import argparse

import numpy as np

import ps.federated
from ps.data import digits
from ps.models import mlp

parser = argparse.ArgumentParser()
parser.add_argument("--site", type=int, required=True)
args = parser.parse_args()

(x, y), (x_test, y_test) = digits()
mine = np.arange(len(x)) % 3 == args.site
own = np.asarray(x)[mine], np.asarray(y)[mine]


def fit(params, about):
    rng = np.random.default_rng(about.seed)
    for _ in range(about.epochs):
        for batch in np.array_split(rng.permutation(len(own[0])), len(own[0]) // 32):
            _, grads = mlp.loss_and_grad(params, own[0][batch], own[1][batch])
            for name, gradient in grads.items():
                params[name] -= 0.1 * gradient
    return params, len(own[0])


final = ps.federated.Client(fit).run(mlp.init([64, 32, 10], seed=0))
print(f"accuracy {mlp.accuracy(final, (x_test, y_test)):.4f}", flush=True)

"""Train scikit-learn's SGDClassifier as federated clients on its digits: about 94 % right in seconds.

python ps/examples/sklearn_sgd.py                    one client alone, no cluster
psctl run -s 2 -w 4 ps/examples/sklearn_sgd.py       four clients, each with its own share
psctl run -w 4 ps/examples/sklearn_sgd.py --partition shards:2

pip install "paramserver[examples]"
"""

import argparse
from typing import Any

import numpy as np
from sklearn.linear_model import SGDClassifier

import ps.federated
from ps.data import Dataset, digits, partition, view

CLASSES = np.arange(10)


def classifier(params: dict[str, Any], some: Dataset, seed: int = 0) -> Any:
    """Return one with the federation's weights; ``some`` examples tell it how long they are."""
    made = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.05, random_state=seed)
    made.partial_fit(some.x[:1], some.y[:1], CLASSES)
    made.coef_, made.intercept_ = params["coef"], params["intercept"]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=2, help="passes over its data in each round (default 2)")
    parser.add_argument("--partition", default="dirichlet:0.5", help="who has which digits (default dirichlet:0.5)")
    args = parser.parse_args()
    train, test = (Dataset(data.x.astype(np.float64), data.y) for data in digits())

    def fit(params: dict[str, Any], about: ps.federated.Round) -> tuple[dict[str, Any], float]:
        """Train on this client's share: all divide the data alike, and each takes its own."""
        mine = view(train, partition(args.partition, train.y, about.clients), about.client)
        model = classifier(params, mine, about.seed)
        for _ in range(args.epochs):
            model.partial_fit(mine.x, mine.y)
        return {"coef": model.coef_, "intercept": model.intercept_}, len(mine)

    def evaluate(params: dict[str, Any]) -> dict[str, float]:
        return {"accuracy": classifier(params, test).score(test.x, test.y)}

    first = {"coef": np.zeros((len(CLASSES), 64)), "intercept": np.zeros(len(CLASSES))}
    final = ps.federated.Client(fit, evaluate).run(first, rounds=10)
    print(f"test accuracy {evaluate(final)['accuracy']:.4f}")


if __name__ == "__main__":
    main()

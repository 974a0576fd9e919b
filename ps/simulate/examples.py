"""The examples of a simulation: a data set by name, one that a seed makes up, or what a user's model brings along.

A file brings them along in one of three ways: ``data()`` returns (train, test), each a Dataset or a pair (x, y), to be
divided among the clients; ``client_data(client)`` returns (x, y), what this client has, and ``test_data()`` the
examples by which the model is judged; or the clients train by a ``fit`` of their own, and nobody else sees any.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ps.data import digits, mnist
from ps.errors import ConfigError, DataError
from ps.memory import check_fits
from ps.simulate.model import has_fit, is_file, model_named
from ps.xp import HostArray

DATASETS = ("digits", "mnist", "synthetic")
NOISE = 0.2
"""Deviation of the synthetic scores' noise, beside scores of deviation 1: the best linear model is 84 % right."""


def load(
    name: str,
    folder: str | None = None,
    seed: int = 0,
    size: int = 20_000,
    features: int = 60,
    *,
    clients: int = 1,
) -> dict[str, HostArray]:
    """Return x_train, y_train, x_test and y_test. ``size`` and ``features`` are synthetic's; ``folder`` is MNIST's.

    A name such as ``model.py`` stands for what that file has; where it knows what each of the ``clients`` has, their
    ``sizes`` are there too, and the first examples are client 0's, the next client 1's. Of clients that train by
    themselves there are only the sizes, 1 where nobody knows them.

    ConfigError for an unknown name; DataError when the data cannot be had.
    """
    if is_file(name):
        return _of_file(name, clients)
    if name not in DATASETS:
        raise ConfigError(f"dataset {name!r}: there are {', '.join(DATASETS)}")
    if name == "synthetic":
        return synthetic(size, features, seed=seed)
    return _of(*(mnist(folder) if name == "mnist" else digits()))


def _of(train: Iterable[HostArray], test: Iterable[HostArray]) -> dict[str, HostArray]:
    (x_train, y_train), (x_test, y_test) = train, test
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def brings_data(name: str) -> bool:
    """Whether a file says what its examples are."""
    return knows_clients(name) or callable(getattr(model_named(name), "data", None))


def knows_clients(name: str) -> bool:
    """Whether a file says what each client has."""
    return has_fit(name) or callable(getattr(model_named(name), "client_data", None))


def _of_file(name: str, clients: int) -> dict[str, HostArray]:
    model = model_named(name)
    if has_fit(name):
        size_of = getattr(model, "client_size", lambda client: 1)
        sizes = np.array([int(size_of(client)) for client in range(clients)], np.int64)
        if sizes.min() < 1:
            raise DataError(f"client_size of {name} says that client {sizes.argmin()} has {sizes.min()} examples")
        return {"sizes": sizes}
    if not knows_clients(name):
        return _of(*model.data())
    if not callable(getattr(model, "test_data", None)):
        raise ConfigError(f"{name} has client_data, but no test_data(), which returns (x, y) to judge the model by")
    pairs = [tuple(map(np.asarray, model.client_data(client))) for client in range(clients)]
    for client, (x, y) in enumerate(pairs):
        if not len(x) or len(x) != len(y):
            raise DataError(f"client_data({client}) of {name} returned {len(x)} examples and {len(y)} labels")
        if (x.shape[1:], x.dtype) != (pairs[0][0].shape[1:], pairs[0][0].dtype):
            raise DataError(f"client_data({client}) of {name} returned {x.dtype}{list(x.shape[1:])}, not as client 0")
    train = np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs])
    return {**_of(train, model.test_data()), "sizes": np.array([len(x) for x, _ in pairs], np.int64)}


def synthetic(n: int, features: int = 60, classes: int = 10, seed: int = 0) -> dict[str, HostArray]:
    """Make ``n`` examples up, a sixth of them for testing: normal features, the class with the largest noisy score."""
    check_fits(8 * n * (features + 2 * classes), f"{n:,} examples of {features:,} features (--examples, --features)")
    rng = np.random.default_rng((seed, n))
    x = rng.standard_normal((n, features), np.float32)
    scores = x @ rng.standard_normal((features, classes))
    scores *= 1 / scores.std()
    y = (scores + NOISE * rng.standard_normal(scores.shape)).argmax(axis=1)
    cut = max(1, n - n // 6)
    return {"x_train": x[:cut], "y_train": y[:cut], "x_test": x[cut:], "y_test": y[cut:]}

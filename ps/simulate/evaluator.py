"""Evaluator: how good weights are, for all examples of the test set and for those that are like one client's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ps.data.shares import view
from ps.errors import UsageError
from ps.partition import Counterparts, Features, Partition
from ps.worker.federated.fit import Metrics, Params, copies, numbers
from ps.xp import HostArray

BATCH = 1000


class FitEvaluator:
    """Asks ``evaluate`` of a model's file; of single clients it knows nothing."""

    def __init__(self, evaluate: Callable[[Params], Metrics]) -> None:
        self._evaluate = evaluate

    def accuracy(self, params: Mapping[str, HostArray]) -> float:
        """Return what it says the accuracy is. UsageError when it says nothing of it."""
        found = numbers(self._evaluate(copies(params)), "evaluate")
        if "accuracy" not in found:
            raise UsageError(f"evaluate returned no accuracy, only {', '.join(found) or 'nothing'}")
        return found["accuracy"]

    def of_clients(self, params: Mapping[str, HostArray]) -> Iterator[float]:
        """Yield nothing."""
        return iter(())


class Evaluator:
    """Counts right answers of one model on the test examples, and knows which of them stand for which client."""

    def __init__(self, model: Any, data: Mapping[str, HostArray], division: Partition) -> None:
        """``model``: a module of ``ps.models``. ``data``: y_train, x_test and y_test."""
        self._model = model
        self._x, self._y = data["x_test"], data["y_test"]
        self._division = division
        self._counterparts = Counterparts(division, data["y_train"], self._y)
        self._last: tuple[int, Any] = -1, None
        """The client that was asked about last, which is asked about twice, and its test examples."""

    def accuracy(self, params: Mapping[str, HostArray]) -> float:
        """Return the share of all test examples that is classified rightly."""
        return float(self._model.accuracy(params, (self._x, self._y), BATCH))

    def of_client(self, params: Mapping[str, HostArray], client: int) -> float:
        """Return the share of a client's test examples, seen as it sees them, that is classified rightly."""
        last, data = self._last
        if last != client:
            data = view((self._x, self._y), self._division, client, self._counterparts.of(client))
            self._last = client, data
        return float(self._model.accuracy(params, data, BATCH))

    def of_clients(self, params: Mapping[str, HostArray]) -> Iterator[float]:
        """Yield every client's share of right answers; the model answers only once where all see the same."""
        if isinstance(self._division.spec.build(), Features):
            yield from (self.of_client(params, client) for client in range(self._division.clients))
            return
        right = np.concatenate(
            [
                self._model.predict(params, self._x[at : at + BATCH]) == self._y[at : at + BATCH]
                for at in range(0, len(self._x), BATCH)
            ]
        )
        for client in range(self._division.clients):
            yield float(right[self._counterparts.of(client)].mean())

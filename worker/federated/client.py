"""Client: federated learning for programs that train in their own way: give it two functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ps import xp
from ps.errors import GradientError, UsageError
from ps.worker.federated.fit import Fit, Metrics, Params, check, copies, not_finite, numbers, train
from ps.worker.federated.round_loader import TUNED
from ps.worker.federated.store import FederatedStore
from ps.worker.kv import KV
from ps.worker.startup import connect
from ps.worker.tree import tree_of
from ps.xp import HostArray

Evaluate: TypeAlias = Callable[[Params], Metrics]
"""Takes parameters; returns numbers by name that say how good they are on this client's own data."""


class Client:
    """One client of a federation.

    >>> import ps.federated
    >>> client = ps.federated.Client(fit, evaluate)  # doctest: +SKIP
    >>> final = client.run({"w": np.zeros((784, 10), np.float32)}, rounds=20)  # doctest: +SKIP

    ``fit`` may change the arrays it is given. Metrics of ``evaluate`` are reported for the global parameters and, with
    ``_tuned`` behind their names, for what ``fit`` has made of them: in the last round, and every ``--eval-every``
    rounds. The final parameters are always measured.
    """

    def __init__(self, fit: Fit, evaluate: Evaluate | None = None) -> None:
        self._fit = fit
        self._evaluate = evaluate

    def run(
        self, params: Mapping[str, Any], *, kinds: Mapping[str, str] | None = None, **settings: Any
    ) -> dict[str, HostArray]:
        """Take part until all rounds are done; return the final global parameters.

        ``params`` are the first values if this client is the first, and say the names, shapes and dtypes in any case;
        ``kinds`` is as in ``kv.init``, ``settings`` as in ``ps.connect``. Without a cluster this client trains alone
        for as many rounds. A round in which ``fit`` has no examples, or returns NaN or Inf, goes on without this one,
        which stays. Raises what those raise; UsageError when ``fit`` returns parameters that do not fit the model;
        GradientError for NaN or Inf, in a job the third time in a row; ConfigError for an algorithm that changes each
        local step, which are ``fit``'s.
        """
        with connect(**{"mode": "federated", **settings}) as kv:
            if tree_of(params) is not None:
                raise UsageError("a Client's parameters are one flat dict of arrays, as fit gets and returns them")
            kv.init(params, kinds)
            store = kv._store
            if isinstance(store, FederatedStore):
                check(kv.job)
                if kv._log.private:
                    kv._log.keep_private(alone=True)  # evaluate looks at data of this client's own
                self._take_part(kv, store)
            else:
                self._train_alone(kv)
            return copies(kv.params)

    def _take_part(self, kv: KV, store: FederatedStore) -> None:
        while not store.finished:
            task = store.begin()
            if task is None:
                continue
            report = self._measure(copies(kv.params), "") if task.evaluate else {}
            trained, examples, metrics = self._trained(kv, task.round)
            bad = not_finite(trained)
            if bad or not examples:
                verdict = store.spoil(bad) if bad else store.decline("fit had no examples")
                noted = {**metrics, "verdict": verdict}
                kv._log.step(task.round, 0, noted, store.traffic, staleness=0, steps=0)
                continue
            if task.evaluate:
                report |= self._measure({name: array.copy() for name, array in trained.items()}, TUNED)
            steps = int(metrics.pop("steps", 1))
            store.replace(trained, steps)
            report = {**metrics, **report}
            noted = {**report, "verdict": store.end(examples, report)}
            kv._log.step(task.round, examples, noted, store.traffic, staleness=0, steps=steps)
        self._measure_last(kv)

    def _train_alone(self, kv: KV) -> None:
        for number in range(kv.job.rounds):
            trained, _, _ = self._trained(kv, number)
            if bad := not_finite(trained):
                raise GradientError(bad)
            for name, array in trained.items():
                model = kv._ready()
                if name in model.beside:
                    xp.copy(array, model.beside[name])
                else:
                    model.write(name, array)
        self._measure_last(kv)

    def _trained(self, kv: KV, number: int) -> tuple[dict[str, HostArray], float, dict[str, float]]:
        return train(self._fit, kv.params, kv.job, kv.rank, number)

    def _measure_last(self, kv: KV) -> None:
        """Have the final model measured on this client's own data, for the record and the status."""
        if found := self._measure(copies(kv.params), ""):
            kv._log.evaluation(kv.clock, found)

    def _measure(self, params: Params, suffix: str) -> dict[str, float]:
        if self._evaluate is None:
            return {}
        return {f"{name}{suffix}": value for name, value in numbers(self._evaluate(params), "evaluate").items()}

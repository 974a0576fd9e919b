"""Client: federated learning for programs that are not training scripts of ours: give it two functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ps import xp
from ps.algorithms import AlgorithmSpec
from ps.errors import ConfigError, GradientError, UsageError
from ps.worker.entry import connect
from ps.worker.federated.feed import TUNED
from ps.worker.federated.store import FederatedStore
from ps.worker.kv import KV
from ps.worker.numbers import as_float, shown
from ps.worker.parameters import readable
from ps.xp import HostArray

Params: TypeAlias = dict[str, HostArray]
Metrics: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Round:
    """What a client is told about the round that it takes part in.

    ``number`` counts from 0, ``client`` is this client's, ``seed`` differs for every client and round.
    """

    number: int
    client: int
    clients: int
    epochs: int
    steps: int | None
    seed: int
    mu: float = 0.0
    """With fedprox: ``fit`` adds ``mu * (w - w_t)`` to each step's gradient, w_t being the parameters it was given."""


Fit: TypeAlias = Callable[[Params, Round], tuple[Mapping[str, Any], float] | tuple[Mapping[str, Any], float, Metrics]]
"""Takes the global parameters and the round; returns the parameters that it has trained on its own data, the number of
examples, and, if it likes, metrics; among them ``steps``, the number of local steps (1 if not said;
fednova needs it). With 0 examples the client sits this round out, whatever the parameters are."""

MOST_SPOILED = 3
"""Times in a row that what ``fit`` returns may have NaN or Inf before the client gives up."""

Evaluate: TypeAlias = Callable[[Params], Metrics]
"""Takes parameters; returns numbers by name that say how good they are on this client's own data."""


class Client:
    """One client of a federation.

    >>> import ps.federated
    >>> client = ps.federated.Client(fit, evaluate)  # doctest: +SKIP
    >>> final = client.run({"w": np.zeros((784, 10), np.float32)}, rounds=20)  # doctest: +SKIP

    ``fit`` may change the arrays it is given. Metrics of ``evaluate`` are reported for the global parameters and, with
    ``_tuned`` behind their names, for what ``fit`` has made of them.
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
            kv.init(params, kinds)
            store = kv._store
            if isinstance(store, FederatedStore):
                if store.training.algorithm.correct is not None and not store.training.algorithm.proximal:
                    raise ConfigError(
                        f"algorithm = {kv.job.algorithm!r} corrects each local step, and fit takes its steps itself: "
                        f"take another one, or write a script with kv.batches and kv.step"
                    )
                self._take_part(kv, store)
            else:
                self._train_alone(kv)
            return _copies(kv)

    def _take_part(self, kv: KV, store: FederatedStore) -> None:
        spoiled = 0
        while not store.finished:
            task = store.begin()
            if task is None:
                continue
            report = self._measure(_copies(kv), "") if task.evaluate else {}
            trained, examples, metrics = self._trained(kv, task.round)
            bad = _not_finite(trained)
            spoiled = spoiled + 1 if bad else 0
            if spoiled == MOST_SPOILED:
                raise GradientError(f"{bad}, {spoiled} times in a row; nothing was sent")
            if bad or not examples:
                noted = {**metrics, "steps": 0, "verdict": store.decline(bad or "fit had no examples")}
                kv._log.step(task.round, 0, noted, store.traffic, staleness=0)
                continue
            if task.evaluate:
                report |= self._measure({name: array.copy() for name, array in trained.items()}, TUNED)
            steps = int(metrics.pop("steps", 1))
            store.replace(trained, steps)
            report = {**metrics, **report}
            noted = {**report, "steps": steps, "verdict": store.end(examples, report)}
            kv._log.step(task.round, examples, noted, store.traffic, staleness=0)

    def _train_alone(self, kv: KV) -> None:
        for number in range(kv.job.rounds):
            trained, _, _ = self._trained(kv, number)
            if bad := _not_finite(trained):
                raise GradientError(bad)
            for name, array in trained.items():
                if name in kv._beside:
                    xp.copy(array, kv._beside[name])
                else:
                    kv._ready().write(name, array)

    def _trained(self, kv: KV, number: int) -> tuple[dict[str, HostArray], float, dict[str, float]]:
        job = kv.job
        seed = int(np.random.SeedSequence((job.seed, kv.rank, number)).generate_state(1)[0])
        algorithm = AlgorithmSpec.parse(job.algorithm).build()
        about = Round(number, kv.rank, job.workers, job.local_epochs, job.local_steps, seed, algorithm.proximal)
        result: Any = self._fit(_copies(kv), about)
        if not isinstance(result, tuple) or len(result) not in (2, 3) or not isinstance(result[0], Mapping):
            raise UsageError(
                "fit returns (parameters, number of examples) or (parameters, number of examples, metrics)"
            )
        params, examples, metrics = (*result, {})[:3]
        if not isinstance(examples, int | float | np.number) or not 0 <= as_float(examples) < math.inf:
            raise UsageError(f"fit returns the number of its examples, 0 or more, not {shown(examples)}")
        found = _numbers(metrics, "fit")
        if not examples:
            return {}, 0.0, found
        if algorithm.divides and "steps" not in found:
            raise UsageError(
                f"algorithm = {job.algorithm!r} divides each delta by the number of local steps, so that fit must say "
                f"it: return (parameters, examples, {{'steps': …}})"
            )
        if not 1 <= found.get("steps", 1) < math.inf:
            raise UsageError(f"fit returns the number of its local steps, at least 1, not {metrics['steps']!r}")
        return _matched(params, kv), float(examples), found

    def _measure(self, params: Params, suffix: str) -> dict[str, float]:
        if self._evaluate is None:
            return {}
        return {f"{name}{suffix}": value for name, value in _numbers(self._evaluate(params), "evaluate").items()}


def _copies(kv: KV) -> Params:
    return {name: np.array(xp.to_host(array)) for name, array in kv.params.items()}


def _numbers(metrics: Any, who: str) -> dict[str, float]:
    """Return metrics as plain numbers by name."""
    if not isinstance(metrics, Mapping):
        raise UsageError(f"{who} returns metrics as a dict of numbers by name, not {type(metrics).__name__}")
    found = {}
    for name, value in metrics.items():
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"a metric is a number; {name} of {who} is {shown(value)}") from None
    return found


def _matched(params: Mapping[str, Any], kv: KV) -> dict[str, HostArray]:
    """Return trained parameters in host memory, if they are those of the model."""
    found = {}
    for name, mine in kv.params.items():
        if name not in params:
            raise UsageError(f"fit returned no {name!r}")
        array = xp.to_host(readable(name, params[name]))
        if (array.shape, array.dtype) != (mine.shape, mine.dtype):
            ours, theirs = f"{mine.dtype}{list(mine.shape)}", f"{array.dtype}{list(array.shape)}"
            raise UsageError(f"fit returned {name!r} as {theirs}; the model has {ours}")
        found[name] = array
    return found


def _not_finite(params: Mapping[str, HostArray]) -> str:
    """Return what is wrong with the first array that has NaN or Inf, or nothing."""
    bad = (name for name, array in params.items() if not np.isfinite(array).all())
    return next((f"fit returned {name!r} with NaN or Inf" for name in bad), "")

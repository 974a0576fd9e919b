"""One round of local training by a user's function: what it is told, and what it may return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from ps import xp
from ps.config import JobConfig
from ps.dataclass import dataclass
from ps.errors import ConfigError, UsageError
from ps.number import EXAMPLES, MOST_STEPS
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


def check(job: JobConfig) -> None:
    """Raise ConfigError for an algorithm that changes each local step: those are ``fit``'s own."""
    algorithm = job.specs.algorithm.build()
    if algorithm.correct is not None and not algorithm.proximal:
        raise ConfigError(
            f"algorithm = {job.algorithm!r} corrects each local step, and fit takes its steps itself: "
            f"take another one, or write a script with kv.batches and kv.step"
        )


def train(
    fit: Fit, model: Mapping[str, Any], job: JobConfig, client: int, number: int
) -> tuple[dict[str, HostArray], float, dict[str, float]]:
    """Let ``fit`` train a client's copy of the ``model`` in round ``number``; return what it does, checked.

    Nothing and 0 examples when it sits the round out. UsageError when it returns what no client can.
    """
    seed = int(np.random.SeedSequence((job.seed, client, number)).generate_state(1)[0])
    algorithm = job.specs.algorithm.build()
    about = Round(number, client, job.workers, job.local_epochs, job.local_steps, seed, algorithm.proximal)
    result: Any = fit(copies(model), about)
    if not isinstance(result, tuple) or len(result) not in (2, 3) or not isinstance(result[0], Mapping):
        raise UsageError("fit returns (parameters, number of examples) or (parameters, number of examples, metrics)")
    params, examples, metrics = (*result, {})[:3]
    if not isinstance(examples, int | float | np.number) or not (
        as_float(examples) == 0 or as_float(examples) in EXAMPLES
    ):
        raise UsageError(f"fit returns the number of its examples, 0 or more, not {shown(examples)}")
    found = numbers(metrics, "fit")
    if not examples:
        return {}, 0.0, found
    if algorithm.divides and "steps" not in found:
        raise UsageError(
            f"algorithm = {job.algorithm!r} divides each delta by the number of local steps, so that fit must say "
            f"it: return (parameters, examples, {{'steps': …}})"
        )
    if not 1 <= found.get("steps", 1) <= MOST_STEPS:
        raise UsageError(f"fit returns the number of its local steps, at least 1, not {shown(metrics['steps'])}")
    return _matched(params, model), float(examples), found


def copies(params: Mapping[str, Any]) -> Params:
    """Return copies in host memory, which ``fit`` may change."""
    return {name: np.array(xp.to_host(array)) for name, array in params.items()}


def numbers(metrics: Any, who: str) -> dict[str, float]:
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


def _matched(params: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, HostArray]:
    """Return trained parameters in host memory, if they are those of the model."""
    found = {}
    for name, mine in model.items():
        if name not in params:
            raise UsageError(f"fit returned no {name!r}")
        array = xp.to_host(readable(name, params[name]))
        if (array.shape, array.dtype) != (mine.shape, mine.dtype):
            ours, theirs = f"{mine.dtype}{list(mine.shape)}", f"{array.dtype}{list(array.shape)}"
            raise UsageError(f"fit returned {name!r} as {theirs}; the model has {ours}")
        found[name] = array
    return found


def not_finite(params: Mapping[str, HostArray], what: str = "fit returned") -> str:
    """Return what is wrong with the first array that has NaN or Inf, or nothing. ``what`` they are."""
    bad = (name for name, array in params.items() if not np.isfinite(array).all())
    return next((f"{what} {name!r} with NaN or Inf" for name in bad), "")

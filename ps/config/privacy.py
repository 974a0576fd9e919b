"""The setting of differential privacy, and what must not be together with it. The check is imported where needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.config.mode import FEDERATED
from ps.config.setting import setting
from ps.errors import ConfigError

if TYPE_CHECKING:
    from ps.config.job import JobConfig
    from ps.privacy.composition import Conditions

DP: str | None = setting(
    None,
    "differential privacy for each client: the budget and the clip of deltas, as eps=8,delta=1e-6,clip=1; "
    "psctl privacy says what a budget costs",
    modes=FEDERATED,
)


def conditions_of(job: JobConfig) -> Conditions:
    """Return what a job's account depends on."""
    from ps.privacy.composition import Conditions

    return Conditions(job.rounds, job.goal, job.workers)


def samples(job: JobConfig) -> bool:
    """Whether each client is drawn for a round by itself, and who was is to be told to nobody."""
    return job.specs.privacy is not None and bool(job.specs.privacy.build().sampled)


def check_privacy(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError for what a job with ``dp`` cannot account for, with the reason.

    ``say`` returns a setting with its value and where that came from.
    """
    from ps.privacy.grid import LEAST_NOISE

    if job.specs.privacy is None:
        return
    dp = job.specs.privacy.build()
    if not job.federated:
        raise ConfigError(f"{say('dp')} protects clients and needs mode = federated, but {say('mode')}")
    if not dp.eps and not dp.noise:
        raise ConfigError(f"{say('dp')} needs eps=<budget>, or noise=<multiplier> for a job without one")
    if 0 < dp.noise < LEAST_NOISE:
        raise ConfigError(
            f"{say('dp')}: noise must be at least {LEAST_NOISE:g}; with less there is no privacy to speak of"
        )
    if job.specs.secure.build().masks:
        raise ConfigError(
            f"{say('secure')} hides single deltas, and {say('dp')} has servers clip them: take one of them"
        )
    if dp.sampled and job.goal >= job.workers:
        raise ConfigError(
            f"{say('dp')} draws each client by itself, {job.goal} of {job.workers} for a round on average, and those "
            f"are all: --clients-per-round must be less"
        )
    _check_algorithm(job, say)
    aggregator = job.specs.aggregator.build()
    if aggregator.kind != "fold" or aggregator.by_norm or job.specs.weighs:
        why = {
            "fold": "weighs or scales deltas by what clients say or by what is typical",
            "weigh": "chooses between deltas, which no clip bounds",
            "combine": "chooses between deltas, which no clip bounds",
        }[aggregator.kind]
        raise ConfigError(f"{say('aggregator')} {why}, and {say('dp')} needs a plain sum: aggregator = mean")
    if job.late != "drop":
        raise ConfigError(f"{say('late')}: a client could count twice in a round, and {say('dp')} is for once")


def _check_algorithm(job: JobConfig, say: Callable[[str], str]) -> None:
    algorithm = job.specs.algorithm.build()
    why = ""
    if algorithm.control:
        why = "has clients send control variates, which are neither clipped nor noised"
    elif algorithm.divides:
        why = "divides deltas by the steps that clients claim"
    elif algorithm.buffer:
        why = "takes deltas whenever they come, so that a client may count twice in an update"
    if why:
        raise ConfigError(f"{say('algorithm')} {why}: it does not go together with {say('dp')}. Try: fedavg, fedadam")

"""The setting of differential privacy, and what must not be together with it. The check is imported where needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from ps.config.mode import FEDERATED
from ps.config.secure import adds_noise, encoding_of
from ps.config.setting import setting
from ps.errors import ConfigError

if TYPE_CHECKING:
    from ps.config.job import JobConfig
    from ps.privacy.composition import Conditions
    from ps.privacy.mechanism import Mechanism
    from ps.secure.noise_share import NoiseShare

DP: str | None = setting(
    None,
    "differential privacy for each client: the budget and the clip of deltas, as eps=8,delta=1e-6,clip=1; "
    "psctl privacy says what a budget costs",
    modes=FEDERATED,
)


def conditions_of(job: JobConfig, elements: int = 1_000_000) -> Conditions:
    """Return what a job's account depends on. ``elements``: of its model."""
    from ps.privacy.composition import Conditions

    assert job.specs.privacy is not None
    steps = 0.0
    if adds_noise(job):
        steps = job.specs.privacy.build().clip / encoding_of(job).step
    return Conditions(job.rounds, job.goal, job.workers, elements, steps)


def noise_share_of(job: JobConfig, elements: int) -> NoiseShare:
    """Return what each client adds to a sum under masks, worked out by itself: it need not believe anybody about it.

    ConfigError for what cannot be accounted for, or has no room, and without dp-accounting.
    """
    from ps.privacy.skellam import SkellamReleases
    from ps.secure.noise_share import NoiseShare

    assert job.specs.privacy is not None
    conditions = conditions_of(job, elements)
    dp = job.specs.privacy.build()
    cost = SkellamReleases(conditions.steps, elements)
    noise = _noise(dp, conditions)
    share = NoiseShare(dp.clip, cost.norm, cost.variance(noise) / (job.secure_min - dp.colluding))
    share.demand_room(encoding_of(job))
    return share


@lru_cache(maxsize=16)
def _noise(dp: Mechanism, conditions: Conditions) -> float:
    """Return the multiplier: a simulation has many clients, and each of them asks."""
    from ps.privacy.budget import PrivacyBudget

    return PrivacyBudget(dp, conditions).noise


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
    _check_masks(job, say)
    if dp.sampled and job.goal >= job.workers:
        raise ConfigError(
            f"{say('dp')} draws each client by itself, {job.goal} of {job.workers} for a round on average, and those "
            f"are all: --clients-per-round must be less"
        )
    if dp.separation * job.goal > job.workers:
        raise ConfigError(
            f"{say('dp')} has each of {job.workers} clients in every {dp.separation}th round at most, and so there are "
            f"not {job.goal} for each. Fewer --clients-per-round, or a smaller separation"
        )
    if dp.participations and dp.participations * job.workers < job.rounds * job.goal:
        raise ConfigError(
            f"{say('dp')} has each of {job.workers} clients in {dp.participations} rounds at most, and there are "
            f"{job.rounds} of {job.goal}"
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


def _check_masks(job: JobConfig, say: Callable[[str], str]) -> None:
    how = job.specs.secure.build()
    if not how.masks and adds_noise(job):
        raise ConfigError(f"{say('dp')} has clients add the noise under masks: it needs --secure pairwise, or helper")
    if not how.masks:
        return
    dp = job.specs.privacy.build() if job.specs.privacy is not None else None
    if dp is None or not dp.distributed:
        raise ConfigError(
            f"{say('secure')} hides single deltas, and {say('dp')} has servers clip them. Try: --dp skellam:eps=…"
        )
    if how.weight:
        raise ConfigError(f"{say('secure')} has clients weigh their deltas, and with {say('dp')} all count alike")
    if job.specs.compress.name != "none":
        raise ConfigError(
            f"{say('compress')} makes elements larger after they were clipped: {say('dp')} goes with none"
        )
    if dp.colluding >= job.secure_min:
        raise ConfigError(
            f"{say('dp')}: {dp.colluding} clients of {say('secure_min')} that must be in a sum may tell their noise, "
            f"and then there is none"
        )


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

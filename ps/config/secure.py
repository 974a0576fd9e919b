"""Secure aggregation: its settings, and what they must not be together with others, each with the reason."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ps.config.mode import FEDERATED
from ps.config.setting import setting, settings_of
from ps.errors import ConfigError
from ps.number import MOST_CLIENTS
from ps.secure.sums import FEWEST, TOO_FEW

if TYPE_CHECKING:
    from ps.config.job import JobConfig
    from ps.secure.frames import MaskedFrames
    from ps.secure.ring import Encoding

SECURE = setting(
    "none",
    "let nobody see a single delta but its client, only their sum: pairwise, helper, such as pairwise:clip=0.5",
    modes=FEDERATED,
)
SECURE_MIN = setting(
    5, "with secure, fewest clients in a sum; never below 3", low=FEWEST, high=MOST_CLIENTS, modes=FEDERATED
)

_CODECS = {
    "topk": "topk sends other elements for each client, and which they are is told",
    "onebit": "onebit has a scale of its own for each client, and sums of signs are no sums of deltas",
    "powersgd": "powersgd has a basis of its own for each client here",
    "int8": "int8 has a step of its own for each client; masked deltas are rounded to bits= as they are",
}
_NORMS = ("max_delta_norm", "max_influence", "max_client_weight")


def most_in_sum(job: JobConfig) -> int:
    """Return how many contributions are in one sum, at most."""
    buffer = job.specs.algorithm.build().buffer
    return buffer or max(FEWEST, min(job.workers, math.ceil(job.over_select * job.goal)))


def encoding_of(job: JobConfig) -> Encoding:
    """Return how a job's clients encode. ConfigError, with the numbers, where sums could wrap."""
    from ps.secure.ring import encoding_beside_noise, encoding_for

    how = job.specs.secure.build()
    if not adds_noise(job):
        return encoding_for(how.ring, most_in_sum(job), how.clip, how.bits)
    assert job.specs.privacy is not None
    largest = min(how.clip, job.specs.privacy.build().clip)  # no element is larger than all together
    return encoding_beside_noise(how.ring, most_in_sum(job), largest, how.bits)


def adds_noise(job: JobConfig) -> bool:
    """Whether clients add noise to what they mask."""
    return job.specs.privacy is not None and bool(job.specs.privacy.build().distributed)


def frames_of(job: JobConfig, chunks: Sequence[Any]) -> MaskedFrames | None:
    """Return how a job's chunks, all of its model, travel under masks; None where they do not."""
    how = job.specs.secure.build()
    if not how.masks:
        return None
    from ps.secure.frames import MaskedFrames

    steady, codec = not job.specs.algorithm.build().buffer, job.specs.compress.build()
    return MaskedFrames(
        encoding_of(job),
        codec,
        job.seed,
        chunks,
        rotates=bool(how.rotate),
        steady=steady,
        denominator=job.goal if adds_noise(job) else 0,
    )


def check_secure(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError for what does not go together with secure aggregation, by name and reason."""
    how, algorithm = job.specs.secure.build(), job.specs.algorithm.build()
    if not how.masks:
        return
    who = say("secure")
    if how.ring not in (16, 32):
        raise ConfigError(f"{who}: ring is 16 or 32, not {how.ring}")
    if algorithm.control:
        raise ConfigError(f"{who}: {say('algorithm')} has control variates, which no public bound clips")
    if algorithm.divides:
        raise ConfigError(f"{who}: {say('algorithm')} must know each client's steps, which nobody is told")
    if algorithm.buffer and not how.helper:
        raise ConfigError(f"{who}: the clients of a buffer do not begin together, see {say('algorithm')}: take helper")
    aggregator = job.specs.aggregator
    if aggregator.name not in ("mean", "weighted"):
        raise ConfigError(
            f"{who}: {say('aggregator')} looks at single deltas, their norms or distances, and there is only a sum"
        )
    if aggregator.name == "weighted" and not how.weight:
        raise ConfigError(
            f"{who}: {say('aggregator')} needs the most examples that a client counts for, as in "
            f"{job.specs.secure.name}:weight=1000"
        )
    codec = job.specs.compress.name
    if codec not in ("none", "randomk"):
        reason = _CODECS.get(codec, f"{codec} rounds by itself, and masked deltas are rounded to bits= as they are")
        raise ConfigError(f"{who} and {say('compress')}: {reason}. none and randomk go with it")
    if codec == "randomk" and algorithm.buffer:
        raise ConfigError(f"{who} and {say('compress')}: the clients of a buffer are of different rounds, and so draw")
    table = settings_of(type(job))
    for name in _NORMS:
        if getattr(job, name) != table[name].default:
            raise ConfigError(f"{who} and {say(name)}: nobody sees a single delta's norm, or a client's examples")
    if job.late != "drop" and not algorithm.buffer:
        raise ConfigError(f"{who} and {say('late')}: masks are for one round's sum alone")
    _check_counts(job, say, algorithm.buffer)
    try:
        encoding_of(job)
    except ConfigError as error:
        raise ConfigError(f"{who}: {error}") from None


def _check_counts(job: JobConfig, say: Callable[[str], str], buffer: int) -> None:
    goal = buffer or job.goal
    if goal < FEWEST:
        raise ConfigError(f"{say('secure')}: a round has {goal} contributions, and {TOO_FEW}")
    if goal < job.secure_min:
        raise ConfigError(f"{say('secure_min')} is more than the {goal} contributions that close a round; {TOO_FEW}")
    if job.min_clients is not None and job.min_clients < job.secure_min:
        raise ConfigError(f"{say('min_clients')} is less than {say('secure_min')}; {TOO_FEW}")

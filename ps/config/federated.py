"""What a federated job's settings must not be together. Imported where needed: it knows algorithms and aggregators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ps.config.privacy import check_privacy
from ps.config.secure import check_secure
from ps.config.setting import settings_of
from ps.config.transport import shares_memory
from ps.errors import ConfigError
from ps.number import MOST_COMBINED, MOST_COMPARED

if TYPE_CHECKING:
    from ps.algorithms import Algorithm
    from ps.config.job import JobConfig


def local_optimizer(job: JobConfig, algorithm: Algorithm) -> str:
    """Return the text of the optimizer of a client's steps."""
    return job.local_optimizer or algorithm.local or job.optimizer


def unused_optimizer(job: JobConfig, algorithm: Algorithm) -> str:
    """Return a line that says that the job's optimizer is used nowhere, where somebody has set one; "" where it is."""
    default = settings_of(type(job))["optimizer"].default
    if job.local_optimizer or not algorithm.local or job.optimizer == default:
        return ""
    return (
        f"algorithm = {job.algorithm} has an optimizer of its own for clients, {algorithm.local}: optimizer = "
        f"{job.optimizer} is not used. --local-optimizer takes its place"
    )


def at_once(job: JobConfig, algorithm: Algorithm) -> int:
    """Return how many clients of an asynchronous job have a task at once: three buffers of them, unless it is set.

    With all clients at once the slow ones would always be hundreds of updates behind the fast.
    """
    return min(job.workers, job.clients_per_round or 3 * algorithm.buffer)


def most_stale(job: JobConfig, algorithm: Algorithm) -> int:
    """Return by how many updates a delta may be late; with FedBuff, which weighs them by that, nobody is left out."""
    return job.max_staleness or (1000 if algorithm.buffer else 10)


def check_federated(job: JobConfig, say: Callable[[str], str]) -> None:
    """Raise ConfigError when two settings contradict each other.

    ``say`` returns a setting with its value and where that came from.
    """
    from ps.algorithms import SUMS, Algorithm, sums_gradients

    algorithm = job.specs.algorithm.build()
    if algorithm.divides and not sums_gradients(job.specs.local_optimizer.build()):
        given = say("local_optimizer") if job.local_optimizer else say("optimizer")
        raise ConfigError(
            f"{say('algorithm')} takes deltas for sums of gradients and needs local_optimizer = {SUMS}, but {given}"
        )
    if job.server_optimizer is not None and algorithm.server != Algorithm().server:
        raise ConfigError(f"{say('algorithm')} is a server optimizer itself; leave out {say('server_optimizer')}")
    if shares_memory(job.transport):
        raise ConfigError(f"{say('transport')}: with {say('mode')} everything travels")
    if job.overlap:
        raise ConfigError(f"{say('overlap')} makes no sense with {say('mode')}: clients step on their own")
    if job.clients_per_round is not None and job.clients_per_round > job.workers:
        raise ConfigError(f"{say('clients_per_round')} must be at most {say('workers')}: there are no more clients")
    if job.goal > MOST_COMBINED:
        raise ConfigError(
            f"{say('workers')}: a round has at most {MOST_COMBINED} contributions. Try: --clients-per-round 100"
        )
    if job.min_clients is not None and job.min_clients > job.goal:
        raise ConfigError(f"{say('min_clients')} is more than the {job.goal} contributions that close a round")
    aggregator = job.specs.aggregator.build()
    if aggregator.kind == "weigh" and max(job.goal, algorithm.buffer) > MOST_COMPARED:
        raise ConfigError(
            f"{say('aggregator')} compares each contribution with each other, at most {MOST_COMPARED} of them, and a "
            f"round has {max(job.goal, algorithm.buffer)}. Try: --clients-per-round 100"
        )
    least = max(job.quorum, algorithm.buffer)
    if least < aggregator.least:
        raise ConfigError(
            f"{say('aggregator')} needs at least {aggregator.least} contributions, but a round may close with {least}: "
            f"raise --min-clients"
        )
    check_privacy(job, say)
    check_secure(job, say)

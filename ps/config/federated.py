"""What a federated job's settings must not be together. Imported where needed: it knows algorithms and aggregators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ps.errors import ConfigError

if TYPE_CHECKING:
    from ps.algorithms import Algorithm
    from ps.config.job import JobConfig


def aggregator_text(job: JobConfig, algorithm: Algorithm) -> str:
    """Return how contributions are combined: as the job has it, else as the algorithm does."""
    return job.aggregator if job.aggregator != "auto" else algorithm.aggregator


def local_optimizer(job: JobConfig, algorithm: Algorithm) -> str:
    """Return the text of the optimizer of a client's steps."""
    return job.local_optimizer or algorithm.local or job.optimizer


def unused_optimizer(job: JobConfig, algorithm: Algorithm) -> str:
    """Return a line that says that the job's optimizer is used nowhere, where somebody has set one; "" where it is."""
    from ps.config.job import JobConfig

    if job.local_optimizer or not algorithm.local or job.optimizer == JobConfig().optimizer:
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


def check_federated(job: JobConfig, say: Callable[[str], str], sources: Mapping[str, str]) -> None:
    """Raise ConfigError when two settings contradict each other, or a text names nothing that there is.

    ``say`` returns a setting with its value and where that came from.
    """
    from ps.aggregators import AGGREGATORS
    from ps.algorithms import ALGORITHMS, SUMS, Algorithm, sums_gradients
    from ps.optim import OPTIMIZERS
    from ps.partition import PARTITIONERS

    def parse(name: str, read: Callable[[str], object]) -> None:
        text = getattr(job, name)
        try:
            if text is not None:
                read(text)
        except ConfigError as error:
            raise ConfigError(f"{name} = {text!r} ({sources.get(name, 'given')}): {error}") from None

    parse("algorithm", ALGORITHMS.parse)
    parse("local_optimizer", OPTIMIZERS.parse)
    parse("server_optimizer", OPTIMIZERS.parse)
    parse("partition", PARTITIONERS.parse)
    if job.aggregator != "auto":
        parse("aggregator", AGGREGATORS.parse)
    algorithm = ALGORITHMS.parse(job.algorithm).build()
    if algorithm.divides and not sums_gradients(OPTIMIZERS.parse(local_optimizer(job, algorithm)).build()):
        given = say("local_optimizer") if job.local_optimizer else say("optimizer")
        raise ConfigError(
            f"{say('algorithm')} takes deltas for sums of gradients and needs local_optimizer = {SUMS}, but {given}"
        )
    if job.server_optimizer is not None and algorithm.server != Algorithm().server:
        raise ConfigError(f"{say('algorithm')} is a server optimizer itself; leave out {say('server_optimizer')}")
    if job.transport == "shm":
        raise ConfigError(f"{say('transport')}: with {say('mode')} everything travels")
    if job.overlap:
        raise ConfigError(f"{say('overlap')} makes no sense with {say('mode')}: clients step on their own")
    if job.clients_per_round is not None and job.clients_per_round > job.workers:
        raise ConfigError(f"{say('clients_per_round')} must be at most {say('workers')}")
    if job.min_clients is not None and job.min_clients > job.goal:
        raise ConfigError(f"{say('min_clients')} is more than the {job.goal} contributions that close a round")
    aggregator = AGGREGATORS.parse(aggregator_text(job, algorithm)).build()
    least = max(job.quorum, algorithm.buffer)
    if least < aggregator.least:
        raise ConfigError(
            f"{say('aggregator')} needs at least {aggregator.least} contributions, but a round may close with {least}: "
            f"raise --min-clients"
        )

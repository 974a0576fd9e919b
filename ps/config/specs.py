"""JobSpecs: what the texts of a job's settings name, each read once, with what they leave open filled in.

Imported where it is needed: it knows all that can be named, and so NumPy, for which ``psctl --help`` does not wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from ps.aggregators import AGGREGATORS, Aggregator
from ps.algorithms import ALGORITHMS, Algorithm
from ps.compress import ACTIVATION_CODECS, CODECS, ActivationCodec, Codec
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.optim import OPTIMIZERS, SCHEDULES, Optimizer, Schedule
from ps.partition import PARTITIONERS, Partitioner
from ps.privacy import Mechanism, parse_privacy
from ps.secure.registry import MASKINGS, Masking
from ps.spec import Spec

if TYPE_CHECKING:
    from ps.config.job import JobConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobSpecs:
    """A job's optimizers, codec, aggregator and so on; ``build()`` of each returns it."""

    optimizer: Spec[Optimizer]
    schedule: Spec[Schedule]
    compress: Spec[Codec]
    compress_activations: Spec[ActivationCodec]
    aggregator: Spec[Aggregator]
    """How contributions are combined: as the job has it, else as its algorithm does; without one, their mean."""
    algorithm: Spec[Algorithm]
    local_optimizer: Spec[Optimizer]
    """The optimizer of a client's steps."""
    step_optimizer: Spec[Optimizer]
    """What a script's gradients are applied with: by the servers, or in a federated job by the client itself."""
    server_optimizer: Spec[Optimizer]
    """What the servers of a federated job do with the combination of a round."""
    server_schedule: Spec[Schedule]
    """By what their learning rate is multiplied in each round."""
    partition: Spec[Partitioner]
    secure: Spec[Masking]
    """How single deltas are hidden."""
    privacy: Spec[Mechanism] | None
    """By which noise clients are protected, if they are to be."""

    @property
    def weighs(self) -> bool:
        """Whether contributions are combined by the weights that workers give them."""
        aggregator = self.aggregator.build()
        return aggregator.kind == "fold" and aggregator.weight(2.0) != aggregator.weight(1.0)

    @classmethod
    def read(cls, job: JobConfig, sources: Mapping[str, str]) -> JobSpecs:
        """Return the specs; ConfigError with the setting and where its value came from when one is wrong."""

        def read(parse: Callable[[str], Spec[T]], name: str, default: str = "") -> Spec[T]:
            text = getattr(job, name)
            is_open = text is None or (name == "aggregator" and text == "auto")
            try:
                return parse(default if is_open else text)
            except ConfigError as error:
                raise ConfigError(f"{name} = {text!r} ({sources.get(name, 'given')}): {error}") from None

        privacy = None if job.dp is None else read(parse_privacy, "dp")
        optimizer = read(OPTIMIZERS.parse, "optimizer")
        named = read(ALGORITHMS.parse, "algorithm")
        algorithm = named.build()
        secure = read(MASKINGS.parse, "secure")
        combined = algorithm.aggregator if job.federated and privacy is None else "mean"
        if secure.build().masks and not secure.build().weight:
            combined = "mean"
        if job.global_batch is not None:
            combined = "weighted"
        local = read(OPTIMIZERS.parse, "local_optimizer", algorithm.local or str(optimizer))
        return cls(
            optimizer=optimizer,
            schedule=read(SCHEDULES.parse, "schedule"),
            compress=read(CODECS.parse, "compress"),
            compress_activations=read(ACTIVATION_CODECS.parse, "compress_activations"),
            aggregator=read(AGGREGATORS.parse, "aggregator", combined),
            algorithm=named,
            local_optimizer=local,
            step_optimizer=local if job.federated else optimizer,
            server_optimizer=read(OPTIMIZERS.parse, "server_optimizer", algorithm.server),
            server_schedule=read(SCHEDULES.parse, "server_schedule"),
            partition=read(PARTITIONERS.parse, "partition"),
            secure=secure,
            privacy=privacy,
        )

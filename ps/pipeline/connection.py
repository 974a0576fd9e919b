"""Connection: what a pipeline needs of a worker's connection, which ``ps.connect`` makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ps.config.job import JobConfig
from ps.pipeline.execution import Execution
from ps.xp import Array, Device


class Connection(Protocol):
    """The part of ``ps.KV`` that a pipeline calls."""

    device: Device

    @property
    def job(self) -> JobConfig: ...

    @property
    def rank(self) -> int: ...

    @property
    def clock(self) -> int: ...

    @property
    def params(self) -> Any: ...

    @property
    def grads(self) -> dict[str, Array]: ...

    def execution(self, pipeline: Any, kv: Any, seed: int) -> Execution | None:
        """Return how a pipeline's stages are executed together with other workers; None: each worker has them all."""
        ...

    def note_stages(self, layers: Sequence[int], count: int, nbytes: int) -> None:
        """Have it written into the record which layers this worker has, of how many, and the bytes of their tensors."""
        ...

    def init(
        self, params: Any, kinds: Mapping[str, str] | None = None, groups: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Any: ...

    def step(
        self, grads: Any = None, *, examples: float | None = None, partial: bool = False, **metrics: Any
    ) -> None: ...

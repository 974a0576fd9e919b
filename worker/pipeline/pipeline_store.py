"""PipelineStore: what a pipeline needs of the store under its connection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ps.worker.store import WholeModel
from ps.worker.traffic import Traffic
from ps.worker.vote import StepVote


class PipelineStore(Protocol):
    """The part of ``ClusterStore`` that it calls, and what it sets there."""

    traffic: Traffic
    gather: Callable[[], None]
    end_waves: Callable[[], None]
    whole: Callable[[Mapping[str, Any]], WholeModel] | None

    vote: StepVote
    is_heir: bool
    barriers: int

    def meet(self) -> None: ...

    def turn(self) -> bool: ...

    def await_turn(self, also: Callable[[], bool]) -> None: ...

    def settle(self) -> None: ...

    def lag(self, clocks: int) -> None: ...

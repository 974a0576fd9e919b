"""ClientState: where one simulated client is in its life."""

from __future__ import annotations

from dataclasses import dataclass

from ps.simulate.task import TrainingResult


@dataclass(slots=True)
class ClientState:
    """``ticket`` changes whenever the client turns to something else: what was planned for it before is void.

    ``member`` is its id at the scheduler, 0 while it is none. Of the task it is at: ``task``, ``round`` and ``token``
    as they were assigned, the ``version`` of its weights, ``order``, the ticket that the pool trains it under (0 for
    none), its result once that is there, how many chunks are ``left`` to upload, and when it comes ``back`` if it drops
    out.
    """

    client: int
    ticket: int = 0
    member: int = 0
    task: int = 0
    round: int = 0
    token: int = 0
    version: int = -1
    order: int = 0
    result: TrainingResult | None = None
    left: int = 0
    back: float = 0.0

"""ClientState: where one simulated client is in its life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ps.dataclass import dataclass
from ps.simulate.visit import Visit
from ps.worker.conversation import Call
from ps.worker.federated.delta_masker import DeltaMasker


@dataclass(slots=True)
class ClientState:
    """``ticket`` changes whenever the client turns to something else: what was planned for it before is void.

    ``member`` is its id at the scheduler, 0 while it is none; ``version`` that of its weights; ``visit`` what it says
    to scheduler and servers, while it does. ``order`` is the ticket that the pool trains its task under, 0 for none,
    ``due`` when that is done, and ``back`` when it comes back if it drops out. It sends ``calls``, of which ``left``
    are on their way, and goes on with ``answer``.
    """

    client: int
    ticket: int = 0
    member: int = 0
    version: int = -1
    visit: Visit | None = None
    order: int = 0
    due: float = 0.0
    back: float = 0.0
    calls: Sequence[Call] = ()
    left: int = 0
    answer: Any = None
    masker: DeltaMasker | None = None

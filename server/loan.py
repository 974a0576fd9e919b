"""Loan: weights on their way to a reader. Nobody writes them before they have left."""

from __future__ import annotations

from ps.dataclass import dataclass
from ps.protocol.layout import Chunk
from ps.protocol.transports.listener import Tracker
from ps.xp import HostArray


class _Sent:
    done = True


SENT: Tracker = _Sent()
"""The tracker of what is out of this process's hands at once."""


@dataclass(slots=True, eq=False)
class Loan:
    """The weights as they were when an answer was decided; the sender sets ``tracker`` when it sends them.

    Those that ``stay`` must be out of the sender's hands when it has performed the answer: the chunk keeps its memory.
    """

    chunk: Chunk
    weights: HostArray
    stay: bool = False
    tracker: Tracker | None = None

    @property
    def done(self) -> bool:
        """Whether the weights have left. A loan that was not sent yet is not done."""
        return self.tracker is not None and self.tracker.done

"""Seeding: the first ``init`` wins, every other worker gets its values, and all must mean the same model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ps.dataclass import dataclass
from ps.errors import LayoutMismatch
from ps.protocol.layout import Layout
from ps.protocol.messages import Error, InitDone, InitGrant, InitRequest, Ok
from ps.server.scheduler.member_record import MemberRecord
from ps.server.send import ASKER, Send

Grant = tuple[int, int, bool]
"""(member, request, seed): answer this InitRequest."""


@dataclass(slots=True)
class Seeding:
    """Whose values count, and who waits for them."""

    layout: Layout | None = None
    owner: str = ""
    seed: int = 0
    done: bool = False
    parked: dict[int, int] = field(default_factory=dict)
    torn: bool = False
    """Whether a server was lost since these values were asked for."""
    refused: int = -1
    """The last request that was answered by asking for them again."""

    def request(self, member: int, name: str, request: int, layout: Layout) -> list[Grant]:
        """A worker asks; return the answers that can be given. Raises LayoutMismatch."""
        if self.layout is None or (not self.done and not self.seed):
            self.layout, self.owner, self.seed = layout, name, member
            self.torn, self.refused = False, -1
        layout.demand_equal(self.layout, name, self.owner)
        if self.done or self.seed == member:
            return [(member, request, not self.done)]
        self.parked[member] = request
        return []

    def tear(self) -> None:
        """A server is gone, and with it what it had of the first values."""
        self.torn = not self.done

    def is_torn(self, member: int, request: int) -> bool:
        """Whether the seeding worker, which says that it is done, must send its values again."""
        if self.done or member != self.seed:
            return False
        if self.torn:
            self.torn, self.refused = False, request
        return request == self.refused

    def finish(self, member: int) -> list[Grant]:
        """The seeding worker is done; return the answers to those that wait for its values."""
        if self.done or member != self.seed:
            return []
        self.done = True
        grants = [(waiting, request, False) for waiting, request in self.parked.items()]
        self.parked = {}
        return grants

    def forget(self, member: int) -> list[Grant]:
        """A worker is gone; if it was seeding, the next one that waits takes over."""
        self.parked.pop(member, None)
        if self.done or member != self.seed:
            return []
        self.seed = min(self.parked, default=0)
        self.torn, self.refused = False, -1
        return [(self.seed, self.parked.pop(self.seed), True)] if self.seed else []

    def dump(self) -> dict[str, Any]:
        """Return the state as plain values; those that wait ask again."""
        packed = self.layout.pack() if self.layout else None
        torn = {"torn": self.torn, "refused": self.refused}
        return {"layout": packed, "owner": self.owner, "seed": self.seed, "done": self.done, **torn}

    @staticmethod
    def load(values: dict[str, Any]) -> Seeding:
        """Return what ``dump`` wrote."""
        packed = values["layout"]
        tensors = tuple((name, dtype, tuple(shape)) for name, dtype, shape in packed) if packed else None
        layout = Layout.unpack(tensors) if tensors else None
        torn = values.get("torn", False), values.get("refused", -1)
        return Seeding(layout, values["owner"], values["seed"], values["done"], {}, *torn)


def heard(seeding: Seeding, name: str, message: InitRequest | InitDone) -> list[Send]:
    """Take what a worker called ``name`` says of the first values; return the answers."""
    if isinstance(message, InitRequest):
        try:
            layout = Layout.unpack(message.layout)
            return granted(seeding.request(message.member, name, message.request, layout))
        except LayoutMismatch as error:
            return [Send(ASKER, Error(message.request, "layout", str(error)))]
    if seeding.is_torn(message.member, message.request):
        text = "a server was lost while the first values were sent; they are to be sent again"
        return [Send(ASKER, Error(message.request, "server-lost", text))]
    return [Send(ASKER, Ok(message.request)), *granted(seeding.finish(message.member))]


def granted(grants: list[Grant]) -> list[Send]:
    """Return what those are told whose turn it is."""
    return [Send(member, InitGrant(request, seed)) for member, request, seed in grants]


def noted(sends: list[Send], members: Mapping[int, MemberRecord]) -> list[Send]:
    """Note in its record who is told what becomes of its first values."""
    for send in sends:
        if isinstance(send.message, InitGrant) and isinstance(send.to, int):
            members[send.to].has_model = True
    return sends

"""ChunkState: everything a server knows about one chunk, and the small records that hang off it.

Three things keep a chunk from going on, and each ends by itself or by its owner's death.

A *hold* is a promise to a worker that comes in: the clock it was told to begin with is not closed before it has the
weights of that clock's beginning. Attach makes it, for each chunk; Start moves it to the clock that the worker chose,
the latest of all servers'; the weights that answer its first pull, or its first push, redeem it; Suspend, death and a
new Attach drop it. Without it the others would close the clock while the newcomer still fetches the weights, and it
would compute a gradient for weights that are gone.

A *waiter* is a request that is not answered yet: a push for the clock under way, or a pull of weights to come. It has
no time-out, since whoever it waits for is live or declared dead, and every event ends in the question of whom it
frees. It is found by (member, request), so that one sent twice is answered once, and by a new connection's Inquire.

A *loan* is weights on their way out, which are sent from where they lie. Before weights change, loans that are not
done are paid off by a copy: the weights go on with the copy and the reader keeps the old memory, or, where workers
read the weights in place (``shown``), the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from typing import Any, TypeAlias

import numpy as np

from ps.compress import Decoded
from ps.dataclass import dataclass
from ps.errors import BadMessage
from ps.optim.absences import Absences
from ps.protocol.layout import Chunk
from ps.protocol.messages.rate import UNSAID, Rate
from ps.server.loan import Loan
from ps.server.send import Origin
from ps.server.shard.shadow import Shadow
from ps.xp import HostArray

MANY_WAITERS = 64
"""Waiters of one chunk beyond which a member may have no more than ``MOST_OWN``: the oldest are dropped, and asked for
again if somebody is there who wants them."""
MOST_OWN = 8
MANY_LOANS = 64
"""Loans of one chunk beyond which those that are done are forgotten, when nothing is pushed for long."""


Keep: TypeAlias = "Callable[[ChunkState, int], None]"
"""Makes a copy of a chunk, whose version is the last before the one that is given."""


@dataclass(slots=True)
class Participant:
    """A live worker as a server sees it.

    ``start`` is the first clock in which its contribution is waited for; None while it takes no part (it has not
    begun, or stands in a barrier). ``initial``: it counts from clock 0 on; ``fresh`` until its first Start.
    """

    member: int
    rank: int
    start: int | None = None
    initial: bool = False
    fresh: bool = True
    heir: bool = False
    """Whether it goes on for another worker, which is gone."""
    word: int = 0
    """The number of its last Attach, Start or Suspend: of two servers the one with the later one knows more of it."""
    attached: bool = False
    """Whether that was an Attach: it is about to start."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """One worker's gradient for one chunk at one clock; ``gradient`` is None when it has none.

    Then it skipped the step, or, with ``examples``, had no gradient for any of the chunk's tensors: zeros stand for it.
    They do for the ``absent`` ones among them too. ``rates`` is what it says of the learning rate: the latest that
    servers have passed on, then what is new.
    """

    member: int
    rank: int
    clock: int
    version: int
    examples: float
    scale: float
    gradient: HostArray | Decoded | None
    rates: tuple[Rate, ...] = ()
    absent: frozenset[int] = frozenset()


@dataclass(slots=True)
class Waiter:
    """A request that is answered later: with weights when ``pull``, else with a mere Pushed.

    ``clock`` is the number of steps that must be in the weights, in the mode's sense of that.
    """

    origin: Origin
    member: int
    request: int
    clock: int
    pull: bool
    since: float
    aside: bool = False
    in_place: bool = False
    """Whether its worker reads the weights where they are kept, so that none go with the answer."""
    version: int = -1
    """The version of the weights that its worker has, as far as it said."""
    staleness: int = 0


@dataclass(slots=True)
class Combined:
    """Clipping by global norm: a clock's combined gradient, None when all skipped, which waits for its Scale.

    ``scalers`` are the members that were told its squared norm and will send the Scale; ``rate`` is what counts for it.
    """

    clock: int
    gradient: HostArray | None
    squares: float
    scalers: set[int]
    rate: Rate
    absent: frozenset[int] = frozenset()
    """The tensors of which nobody had a gradient."""
    examples: float = 0.0


@dataclass(slots=True)
class ChunkState:
    """One chunk: its weights and optimizer state, and who has contributed and who waits."""

    chunk: Chunk
    weights: HostArray
    slots: dict[str, HostArray]
    master: HostArray | None = None
    """What is updated, float32, where the weights are its copy in half precision."""
    shown: bool = False
    """Whether workers read the weights where they are, so that they must stay there."""
    vetoed: int | None = None
    """The last clock that a worker has vetoed: nothing is applied in it."""
    version: int = 0
    """Number of clocks closed (sync) or updates applied (async, ssp)."""
    updates: int = 0
    """Number of optimizer steps taken."""
    absences: Absences = field(default_factory=Absences)
    """Where each tensor's part lies, and which steps it took no part in."""
    examples: float = 0.0
    """Examples of which there are gradients in the weights."""
    tally: tuple[int, int, float] = (-1, 0, 0.0)
    """The clock that was closed last, how many contributed to it, and of how many examples."""
    crew: tuple[int, tuple[int, ...]] = (-1, ())
    """A clock, and the ranks of the workers that share it, once somebody has asked."""
    reached: int = 0
    """The highest number of clocks that any worker has done."""
    rate: Rate = UNSAID
    """The latest word about the learning rate that came with a contribution that counts."""
    filled: bool = False
    done: dict[int, int] = field(default_factory=dict)
    """Live member -> number of its clocks that are counted; the whole memory of what was received."""
    pending: dict[int, Contribution] = field(default_factory=dict)
    """Member -> contribution that is not applied yet."""
    waiters: list[Waiter] = field(default_factory=list)
    holds: dict[int, int] = field(default_factory=dict)
    """Member -> clock that must not be closed before the member has the weights of its beginning."""
    slowest: tuple[int, set[int]] | None = None
    """The least clock that workers are at, and who is at it, once a mode has looked, until that may be another one."""
    loans: list[Loan] = field(default_factory=list)
    shadows: dict[int, Shadow] = field(default_factory=dict)
    """Compression: the weights as workers have them; by member, or under 0 what all have."""
    mark: int = -1
    """The next version that somebody wants a copy of, -1 for none: it is kept before the weights go on."""
    keepers: dict[str, tuple[int, Keep]] = field(default_factory=dict, repr=False, compare=False)
    """Who wants one, of which version, and what makes it."""
    gone: dict[int, int] = field(default_factory=dict)
    """Rank -> clocks of a worker that are counted, which has left."""
    combined: Combined | None = None
    squares: tuple[int, float] | None = None
    """The last combined gradient's clock and squared L2 norm, for those who ask again."""

    def __post_init__(self) -> None:
        if not self.absences.spans:
            self.absences = Absences(((0, self.chunk.size),))

    @property
    def collected(self) -> int:
        """The first clock that nothing is combined of: a contribution to one before, which is not there, is late."""
        return self.version + (self.combined is not None)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What answers say of the learning rate."""
        return () if self.rate == UNSAID else (self.rate,)

    def count(self, member: int, clocks: int) -> None:
        """Note that a member has done this many clocks; never fewer than before."""
        self.done[member] = max(clocks, self.done.get(member, 0))
        self.reached = max(clocks, self.reached)
        if self.slowest is not None:
            self.slowest[1].discard(member)
            if not self.slowest[1]:
                self.slowest = None

    def hold(self, member: int, clock: int) -> None:
        """Do not close a clock before a member that is to begin with it has its weights."""
        self.holds[member] = clock
        self.slowest = None

    def release(self, member: int) -> None:
        """Hold no clock for a member any more."""
        if self.holds.pop(member, None) is not None:
            self.slowest = None

    def wish(self, who: str, version: int, keep: Keep) -> None:
        """Have ``keep`` called before the weights of a version change; -1: not any more."""
        self.keepers.pop(who, None)
        if version >= 0:
            self.keepers[who] = version, keep
        self.mark = min((wanted for wanted, _ in self.keepers.values()), default=-1)

    def keep(self, version: int) -> None:
        """Have kept what is wanted of the versions before this one."""
        for wanted, keep in list(self.keepers.values()) if 0 <= self.mark < version else ():
            if wanted < version:
                keep(self, version)

    def close(self) -> None:
        """Go on with the next version. Who has the weights that a vetoed clock began with has those of the next."""
        if self.vetoed == self.version:
            for shadow in self.shadows.values():
                shadow.keep(self.version + 1)
        self.go_to(self.version + 1)

    def go_to(self, version: int) -> None:
        """Go on with a later version; the weights are what they are."""
        self.keep(version)
        self.version = version

    def park(self, waiter: Waiter) -> None:
        """Keep a request until it can be answered; a repeated one takes the place of the first."""
        if self.waiters:
            self.waiters = [w for w in self.waiters if (w.member, w.request) != (waiter.member, waiter.request)]
        if len(self.waiters) >= MANY_WAITERS:
            own = [w for w in self.waiters if w.member == waiter.member]
            if len(own) >= MOST_OWN:
                self.waiters.remove(own[0])
        self.waiters.append(waiter)

    def retire(self, member: int) -> None:
        """Wait for nothing more from a member.

        When the last that could send a Scale is gone, the gradient it was for is dropped.
        """
        self.holds.pop(member, None)
        self.slowest = None
        if self.combined is not None:
            self.combined.scalers.discard(member)
            if not self.combined.scalers:
                self.combined = None

    def forget(self, member: int, rank: int = -1) -> None:
        """Drop what is remembered of a member that is gone; what it contributed counts."""
        self.retire(member)
        if rank >= 0 and member in self.done:
            self.gone[rank] = max(self.done[member], self.gone.get(rank, 0))
        self.done.pop(member, None)
        self.shadows.pop(member, None)
        self.waiters = [waiter for waiter in self.waiters if waiter.member != member]

    def succeed(self, former: int, heir: int) -> None:
        """Have one that is gone be another from now on: what that one gave and said is what this one did."""
        self.holds.pop(former, None)
        self.slowest = None
        self.waiters = [waiter for waiter in self.waiters if waiter.member != former]
        if former in self.done:
            self.done[heir] = self.done.pop(former)
        if former in self.pending:
            self.pending[heir] = replace(self.pending.pop(former), member=heir)
        if self.combined is not None and former in self.combined.scalers:
            self.combined.scalers ^= {former, heir}

    def lend(self) -> Loan:
        """Return the weights as a loan, which keeps them from being changed until it is done."""
        if len(self.loans) >= MANY_LOANS:
            self.loans = [loan for loan in self.loans if not loan.done]
        self.loans.append(Loan(self.chunk, self.weights, self.shown))
        return self.loans[-1]

    def own(self) -> None:
        """Make the weights safe to change: if a reader may still hold them, go on with a copy.

        Where they must stay in place, what was not sent yet is the copy. A version that is marked is kept first.
        """
        self.keep(self.version + 1)
        held = [loan for loan in self.loans if not loan.done]
        self.loans.clear()
        if held:
            copy = self.weights.copy()
            if not self.shown:
                self.weights = copy
                return
            for loan in held:
                loan.weights = copy


def read_raw(chunk: Chunk, payload: Any) -> HostArray:
    """Return a frame as the values of a chunk. Raises BadMessage when it has another size."""
    if (got := memoryview(payload).nbytes) != chunk.nbytes:
        raise BadMessage(f"chunk {chunk.index} has {chunk.nbytes} bytes, the frame {got}", "payload size")
    return np.frombuffer(payload, chunk.dtype)

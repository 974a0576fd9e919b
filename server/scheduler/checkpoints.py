"""Checkpoints: when a job's checkpoints are made, of whose parts, and what becomes of one. No sockets, clock or disk.

A cut goes through phases. *ask*: servers say which clock they are at. *mark*: all are told after which clock their part
is to be written; it is a little ahead, so that workers, which are told too, have come to it with what they keep of
their own, and further ahead after somebody was beyond it already. *seal*: all parts are written, and whoever has the
disk writes the manifest. A cut that somebody cannot make is given up by name, and all let go of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from ps.checkpoint.manifest import folder_of
from ps.config.checkpoint import Every
from ps.protocol.messages import CheckpointOrder, CheckpointPart
from ps.protocol.messages.words import OrderedCut
from ps.server.scheduler.checkpoint_cut import CheckpointCut, CutNames, Seal
from ps.server.scheduler.member_record import MemberRecord
from ps.server.scheduler.roster import Roster
from ps.server.send import Send

log = logging.getLogger("ps.scheduler")

AGAIN = 1.0
"""Seconds after which an order is said again to those who have not done it."""
MOST_TRIES = 8
"""Times that a cut is tried further ahead, at most, before what a worker keeps is done without."""
MOST_MARGIN = 1 << 20
_NONE = CutNames()


class Checkpoints:
    """The checkpoints of one life of a job; only one cut at a time."""

    def __init__(
        self,
        every: Callable[[], Every],
        life: int,
        newest: tuple[int, str] = (-1, ""),
        now: float = 0.0,
        names: CutNames = _NONE,
    ) -> None:
        """``every`` returns how often there is one; ``newest``: step and folder of what the job goes on from.

        ``names``: those of a scheduler before this one. What it had begun is begun anew, so that members let go of it.
        """
        self._cadence = every
        self._life = life
        self.newest = newest
        self.seal: Seal | None = None
        """What whoever has the disk is to write now."""
        self.trouble = ""
        """Why the last cut was given up; nothing where it was not."""
        self.finished = 0
        """How many cuts have come to their end, good or bad."""
        self.verdict: str | None = None
        """What became of the last cut of all, once that is known: nothing, or why it failed."""
        self._cut: CheckpointCut | None = None
        self._number = self._marked = names.number
        self._highest = self._before = names.highest
        self._used: set[int] = set()
        """The clocks that cuts were of, beside those before a restart, up to the highest."""
        self._margin = 1
        self._last_began, self._took = now, 0.0
        """When the last one began that was due, and the seconds that the last whole one took."""
        self._whole_at: float | None = None
        """When the newest was found to be whole, if it was made in this life."""
        self._wanted = names.under_way
        self._hurry: float | None = None
        self.last_told = False
        """Whether members know that no other one comes."""
        self._end, self._failed = names.is_last, names.failed
        self._last_clock = 0

    @property
    def _every(self) -> Every:
        return self._cadence()

    @property
    def names(self) -> CutNames:
        """What is to be kept of it over a restart, before anything of it is said to anybody."""
        under_way = self._cut is not None and self._cut.phase != "ask"  # else members have nothing to let go of
        return CutNames(self._marked, self._highest, under_way, self._end, self._failed)

    # What is asked for

    def request(self) -> tuple[int, list[Send]]:
        """Somebody wants a checkpoint now; return how many cuts will have finished with it, and what is to be said.

        One whose clock is chosen already may be of less than was done by now, so another one follows it.
        """
        cut, self.last_told = self._cut, False
        if cut is not None and cut.phase == "ask" and not cut.planned:
            return self.finished + 1, []
        self._wanted = True
        if cut is not None and not cut.planned:
            return self.finished + 2, []
        return self.finished + 1, self._drop() if cut is not None else []

    def hasten(self, until: float) -> None:
        """After this time it is made without the workers: they are about to be ended."""
        self._hurry = until

    def end(self, *, failed: bool = False) -> list[Send]:
        """The last worker has left: make the last one. ``verdict`` tells what became of it.

        ``failed``: it did so for want of anything better, so that a later run has something left to do.
        """
        if self._end:
            return []
        self._end, self._failed = True, failed
        return self._drop() if self._cut is not None and self._cut.phase != "seal" else []

    def describe(self) -> str:
        """Say what was whole last, for people."""
        trouble = f"the last checkpoint failed: {self.trouble}; " if self.trouble else ""
        step, folder = self.newest
        return trouble + (f"the newest whole checkpoint is {folder}, of step {step}" if folder else "none is whole")

    @property
    def marked(self) -> int:
        """The number of the cut that members were told the clock of; 0 where there is none."""
        cut = self._cut
        return cut.number if cut is not None and cut.phase in ("mark", "seal") else 0

    @property
    def is_last(self) -> bool:
        """Whether the job waits for the last one."""
        return self._end

    def status(self, now: float) -> dict[str, Any]:
        """Return what the status shows of it."""
        found: dict[str, Any] = {"step": self.newest[0], "folder": self.newest[1], "life": self._life}
        if self._whole_at is not None:
            found["ago_s"] = round(now - self._whole_at, 1)
        if self.trouble:
            found["trouble"] = self.trouble
        if (cut := self._cut) is not None and not cut.planned:
            found["waiting_for"] = [f"{record.role} {record.rank}" for record in list(cut.awaited.values())[:10]]
            found |= {"clock": cut.clock, "waiting_s": round(now - cut.since, 1)}
        return found

    def needs_stillness(self, now: float) -> bool:
        """Whether no chunk is to move: a checkpoint is being made, or is to be by now; one that is planned can wait."""
        if self._cut is not None:
            return not self._cut.planned
        is_planned = bool(self._every.steps) and not self._wanted and not self._end and self._hurry is None
        return not is_planned and self._is_due(now)

    def give_way(self) -> list[Send]:
        """Chunks move: let go of what is only planned."""
        return self._drop() if self._cut is not None and self._cut.planned else []

    # Events

    def tick(self, now: float, roster: Roster) -> list[Send]:
        """Begin what is due, and say again what was not done."""
        cut = self._cut
        if cut is None:
            return self._begin(now, roster) if self._is_due(now) else self._tell_last(roster)
        is_late = self._hurry is not None and now > self._hurry
        if (is_late or not roster.count("worker")) and not cut.alone and cut.phase == "mark":  # nobody comes there
            sends, another = self._drop(), self._wanted
            self._wanted = True
            sends += self._begin(now, roster)
            self._wanted = another
            return sends
        sends = self._take_in(cut, roster) if cut.planned and cut.phase == "mark" else []
        if cut.phase in ("ask", "mark") and now - cut.told >= AGAIN:
            cut.told = now
            return self._say(cut, cut.awaited) + self._reached(cut)
        return sends

    def _tell_last(self, roster: Roster) -> list[Send]:
        """Tell all, once, that no other one comes: whoever was asked to end waits for nothing more."""
        if self._hurry is None or self.last_told:
            return []
        self.last_told = True
        order = CheckpointOrder(self._number, "last", max(self.newest[0], 0), "")
        return [Send(record.member, order) for role in ("server", "worker") for record in roster.live(role)]

    def _reached(self, cut: CheckpointCut) -> list[Send]:
        """Tell the workers that are waited for, once all servers have come to the clock of a cut, that they have."""
        if cut.phase != "mark" or any(record.role == "server" for record in cut.awaited.values()):
            return []
        return self._say(cut, cut.awaited, "reached")

    def _take_in(self, cut: CheckpointCut, roster: Roster) -> list[Send]:
        """Have workers that came since take part in a cut that is to be."""
        new = {w.member: w for w in roster.live("worker") if w.has_model and w.member not in cut.members}
        cut.members |= new
        cut.awaited |= new
        return self._say(cut, new)

    def hear(
        self, record: MemberRecord, part: CheckpointPart, roster: Roster, now: float, lockstep: bool
    ) -> list[Send]:
        """Take what a member says of its part."""
        cut = self._cut
        if cut is None or part.number != cut.number or record.member not in cut.awaited:
            return []
        if cut.phase == "ask":
            cut.high = max(cut.high, part.high)
            cut.low = part.low if cut.low is None else min(cut.low, part.low)
            del cut.awaited[record.member]
            return [] if cut.awaited else self._mark(cut, roster, now, lockstep)
        if cut.phase != "mark":
            return []
        if part.state == "late" and (record.role == "server" or (cut.tries < MOST_TRIES and not cut.alone)):
            self._margin = min(2 * self._margin, MOST_MARGIN)
            return self._again(cut, max(part.high, cut.clock), now)
        if part.state == "failed":
            return self._give_up(f"{record}: {part.why}")
        if part.state in ("late", "written"):
            del cut.awaited[record.member]
            if record.role == "worker" and (part.state == "written" or record.rank not in cut.workers):
                lost = {"lost": "it was beyond the clock of the checkpoint"} if part.state == "late" else {}
                cut.workers[record.rank] = {**part.about, **lost, "member": record.member}
            cut.planned = False
            return self._seal_if_done(cut) or self._reached(cut)
        return []

    def lost(self, record: MemberRecord) -> list[Send]:
        """A member is gone."""
        cut = self._cut
        if cut is None or record.member not in cut.members or cut.phase == "seal":
            return []
        cut.members.pop(record.member)
        waited = cut.awaited.pop(record.member, None) is not None
        if record.role == "server":
            return self._give_up(f"{record} is gone")
        if waited and cut.phase == "mark":
            cut.workers.setdefault(record.rank, {"lost": f"it {record.state} before the checkpoint: {record.why}"})
        return self._seal_if_done(cut) if cut.phase == "mark" else []

    def sealed(self, number: int, why: str, now: float) -> list[Send]:
        """The manifest was written, or ``why`` it was not."""
        cut, seal, self.seal = self._cut, self.seal, None
        if cut is None or cut.number != number or seal is None:
            return []
        if why:
            return self._give_up(why)
        self.newest = seal.step, seal.folder
        self._over("")
        self._whole_at, self._took = now, now - cut.since
        if not seal.only_end:
            log.info("the checkpoint %s is whole, after %.1f s", seal.folder, now - cut.since)
        return self._say(cut, cut.members, "done")

    # The way of a cut

    def _is_due(self, now: float) -> bool:
        if self.verdict is not None:
            return False
        if self._end or self._wanted or self._hurry is not None:  # no other one comes after the last
            return self._end or self._wanted
        if self._every.steps:
            return True
        # as long as the last one took there is none, so that chunks can move, and workers have the disk for theirs
        return bool(self._every.seconds) and now - self._last_began >= max(self._every.seconds, 2 * self._took)

    def _begin(self, now: float, roster: Roster) -> list[Send]:
        servers = roster.live("server")
        if not servers:
            return []
        planned = bool(self._every.steps) and not self._wanted and not self._end
        is_deserted = not roster.count("worker")
        if planned and is_deserted:  # until somebody comes there is nothing new
            return []
        self._last_began = now
        alone = self._end or (self._hurry is not None and now > self._hurry) or is_deserted
        self._wanted = False
        return self._ask(servers, now, since=now, alone=alone, planned=planned, final=self._end)

    def _ask(self, servers: Iterable[MemberRecord], now: float, **about: Any) -> list[Send]:
        """Have a cut from now on, and ask servers which clock they are at. ``about``: what is known of it."""
        self._number += 1
        members = {record.member: record for record in servers}
        cut = self._cut = CheckpointCut(self._number, "ask", awaited=dict(members), members=members, told=now, **about)
        return self._say(cut, members)

    def _mark(self, cut: CheckpointCut, roster: Roster, now: float, lockstep: bool) -> list[Send]:
        """All servers have said where they are: choose the clock."""
        if lockstep and cut.low != cut.high and not roster.count("worker"):  # nobody brings what is missing of a step
            return self._give_up(f"of step {cut.high} only a part was taken: whoever took it is gone")
        every = self._every.steps
        if cut.alone or not lockstep:
            cut.clock = cut.high
        elif cut.planned:
            cut.clock = -(-(cut.high + self._margin) // every) * every
        else:
            cut.clock = cut.high + self._margin
        if lockstep and self.newest[0] == cut.clock and cut.alone:  # there is nothing new to be written
            return self._seal(cut, only_end=True)
        if not lockstep and cut.planned and cut.clock < every + max(self._last_clock, self.newest[0]):
            self._cut = None  # it is asked again; nothing was marked
            return []
        workers = [] if cut.alone else [w for w in roster.live("worker") if w.has_model]
        cut.members |= {worker.member: worker for worker in workers}
        cut.awaited, cut.phase, cut.told = dict(cut.members), "mark", now
        self._last_clock = cut.clock
        is_new = cut.clock > self._before and cut.clock not in self._used
        cut.folder = folder_of(cut.clock, self._life, 1 if is_new else cut.number)
        self._used.add(cut.clock)
        self._marked = cut.number
        self._highest = max(self._highest, cut.clock)
        return self._say(cut, cut.members)

    def _again(self, cut: CheckpointCut, high: int, now: float) -> list[Send]:
        """Somebody is beyond the clock already: try one that is further ahead."""
        sends = self._drop()
        servers = [record for record in cut.members.values() if record.role == "server"]
        about = {"since": cut.since, "alone": cut.alone, "planned": cut.planned, "final": cut.final}
        return sends + self._ask(servers, now, high=high, tries=cut.tries + 1, **about)

    def _seal_if_done(self, cut: CheckpointCut) -> list[Send]:
        return [] if cut.awaited else self._seal(cut)

    def _seal(self, cut: CheckpointCut, *, only_end: bool = False) -> list[Send]:
        cut.phase, cut.planned = "seal", False
        servers = tuple(sorted(record.rank for record in cut.members.values() if record.role == "server"))
        folder = self.newest[1] if only_end else cut.folder
        self.seal = Seal(
            cut.number, cut.clock, folder, servers, dict(cut.workers), cut.final and not self._failed, only_end
        )
        return []

    def _drop(self) -> list[Send]:
        """Let go of a cut that another one takes the place of."""
        cut, self._cut, self.seal = self._cut, None, None
        assert cut is not None
        return self._say(cut, cut.members, "drop")

    def _give_up(self, why: str) -> list[Send]:
        cut = self._cut
        assert cut is not None
        name = cut.folder or "that was asked for"
        if why != self.trouble:
            log.warning("the checkpoint %s is given up: %s%s", name, why, self._whole)
        self._over(why)
        self.seal = None
        return self._say(cut, cut.members, "drop")

    @property
    def _whole(self) -> str:
        return f"; the newest whole one is {self.newest[1]}" if self.newest[1] else "; none is whole yet"

    def _over(self, why: str) -> None:
        """A cut has come to its end."""
        final = self._cut is not None and self._cut.final
        self._cut, self.trouble = None, why
        self.finished += 1
        if final:
            self.verdict = f"the last checkpoint is not written: {why}{self._whole}" if why else ""

    @staticmethod
    def _say(cut: CheckpointCut, to: Iterable[int], phase: OrderedCut | None = None) -> list[Send]:
        """Return the order of a cut's phase, or of another one, for these members."""
        word: Any = phase or cut.phase
        return [Send(member, CheckpointOrder(cut.number, word, cut.clock, cut.folder)) for member in to]

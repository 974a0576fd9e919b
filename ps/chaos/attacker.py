"""Attacker: performs a plan on a job, as long as both last, and undoes in the end what can be undone."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ps import sigterm
from ps.chaos.plan import Fault
from ps.chaos.victim import Victim, identity
from ps.dataclass import dataclass
from ps.errors import ConfigError, ConnectTimeout
from ps.protocol import pid

Status = Mapping[str, Any]
Tell = Callable[[dict[str, Any]], None]

NAP = 0.02
DUTY, PERIOD = 0.2, 0.1
"""A slow process runs for this part of each so many seconds."""
GONE = 30.0
"""Seconds without the scheduler after which the job is taken for over."""
LOOK = 1.0
"""Seconds between looks whether the job goes on."""


@dataclass(slots=True)
class _Harmed:
    victim: Victim
    until: float
    slow: bool
    runs: bool = False
    turn: float = 0.0


class Attacker:
    """``roles``: who may be harmed; ``least``: of each of these, so many are left alone at any time."""

    def __init__(
        self,
        fetch: Callable[[], Status],
        roles: Iterable[str],
        least: int,
        tell: Tell,
        *,
        dry: bool = False,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._fetch, self._roles, self._least, self._tell, self._dry = fetch, tuple(roles), least, tell, dry
        self._now, self._sleep = now, sleep
        self._harmed: list[_Harmed] = []
        self._killed: set[tuple[int, str]] = set()
        """Process and mark of those that a status may still show as live."""
        self._realm = pid.realm()
        self._heard = self._looked = now()
        """When the scheduler last answered, and when it was last asked whether the job goes on."""
        self.count = 0

    def run(self, faults: Iterator[Fault], duration: float) -> str:
        """Perform faults for so many seconds; return why it ended. Raises what keeps it from asking the scheduler."""
        self._fetch()
        began = self._heard = self._looked = self._now()
        try:
            for fault in faults:
                if fault.at > duration:
                    break
                if over := self._wait(began + fault.at) or self._perform(fault):
                    return over
            if over := self._wait(began + duration):
                return over
            while self._harmed:
                self._tend(self._now())
                self._sleep(NAP)
            return f"{duration:g} s are over"
        finally:
            with sigterm.closing():
                self.release()

    def _wait(self, until: float) -> str:
        """Look after those that are harmed until then; return why the job is over, if it is by now."""
        while not self._dry and (now := self._now()) < until:
            if now - self._looked >= LOOK:
                self._looked = now
                if over := self._over():
                    return over
            self._tend(now)
            sigterm.check()
            self._sleep(NAP)
        return ""

    def release(self) -> None:
        """Have all go on that were stopped."""
        for one in self._harmed:
            one.victim.signal(signal.SIGCONT)
            one.victim.close()
        self._harmed.clear()

    def _over(self) -> str:
        status = self._status()
        if status is None:
            return f"the scheduler is silent for {GONE:g} s" if self._now() - self._heard > GONE else ""
        return _end_of(status)

    def _status(self) -> Status | None:
        try:
            status = self._fetch()
        except ConnectTimeout:
            return None
        self._heard = self._now()
        return status

    def _perform(self, fault: Fault) -> str:
        status = self._status()
        said: dict[str, Any] = {"at": round(fault.at, 2), "action": fault.action}
        if status is None:
            self._tell({**said, "done": False, "why": "the scheduler does not answer"})
            return ""
        if over := _end_of(status):
            return over
        rows, why = self._candidates(status)
        if not rows:
            self._tell({**said, "done": False, "why": why})
            return ""
        role, row = rows[fault.of(len(rows))]
        try:
            victim = Victim(role, row, self._realm)
        except ConfigError as error:
            self._tell({**said, "role": role, "rank": row.get("rank"), "done": False, "why": str(error)})
            return ""
        said |= {"role": role, "rank": victim.rank, "pid": victim.pid}
        if fault.action != "kill":
            said["seconds"] = round(fault.seconds, 2)
        self._harm(victim, fault, said)
        return ""

    def _harm(self, victim: Victim, fault: Fault, said: dict[str, Any]) -> None:
        if self._dry:
            victim.close()
            self._tell({**said, "done": False, "why": "dry run"})
            return
        wrong = victim.signal(signal.SIGKILL if fault.action == "kill" else signal.SIGSTOP)
        self.count += not wrong
        self._tell({**said, "done": not wrong, **({"why": wrong} if wrong else {})})
        if fault.action == "kill" or wrong:
            victim.close()
            self._killed |= set() if wrong else {victim.identity}
            return
        now = self._now()
        self._harmed.append(_Harmed(victim, now + fault.seconds, fault.action == "slow", turn=now))

    def _candidates(self, status: Status) -> tuple[list[tuple[str, Mapping[str, Any]]], str]:
        """Return who may be harmed now, in an order that is the job's, and why nobody may be."""
        busy, found = {one.victim.pid for one in self._harmed}, list[tuple[str, Mapping[str, Any]]]()
        for role in self._roles:
            if role == "scheduler":
                found += [(role, status["scheduler"])] if status.get("scheduler", {}).get("pid") not in busy else []
                continue
            rows = (row for row in status.get(f"{role}s", []) if row.get("state") == "live")
            live = [row for row in rows if identity(row) not in self._killed]
            free = [row for row in live if row.get("pid") not in busy]
            if len(free) > self._least:
                found += [(role, row) for row in sorted(free, key=lambda row: row.get("rank") or 0)]
        return found, f"{self._least} of each role is left alone (--least)"

    def _tend(self, now: float) -> None:
        """Have those go on whose time is over, and let the slow run for a moment now and then."""
        for one in list(self._harmed):
            if now >= one.until:
                one.victim.signal(signal.SIGCONT)
                one.victim.close()
                self._harmed.remove(one)
                self._tell({"action": "resume", "role": one.victim.role, "rank": one.victim.rank, "done": True})
            elif one.slow and now >= one.turn:
                one.runs = not one.runs
                one.turn = now + PERIOD * (DUTY if one.runs else 1 - DUTY)
                one.victim.signal(signal.SIGCONT if one.runs else signal.SIGSTOP)


def _end_of(status: Status) -> str:
    """Return in words that a job is over; nothing while it is not."""
    phase = status.get("phase")
    return f"the job has {phase}" if phase in ("ended", "failed") else ""

"""Progress: asks the scheduler how the job is doing while it runs, and puts that into a few words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from ps.dataclass import dataclass
from ps.launch import rounds
from ps.launch.pace import Pace, with_speed
from ps.text import counted, waited

Status = Mapping[str, Any]
Fetch = Callable[[str, float], Status]


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is. ``done`` of ``total`` steps or rounds; ``total`` is 0 where nobody knows it."""

    done: float
    total: int
    where: str
    what: tuple[str, ...]
    """What else there is to say, each in a line of its own."""

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else None


def progress_of(status: Status) -> JobProgress:
    """Return how far a job is: its step or round, then speed, loss and what was measured, then who waits for whom."""
    workers = [worker for worker in _live(status, "workers") if not worker.get("spare")]
    federated: Status = status.get("federated") or {}
    waits = tuple(waiting_lines(status)[:1])
    if status.get("phase") == "waiting":
        return JobProgress(0, 0, _lacking(status, workers), waits)
    what = []
    if workers:
        parts = [counted(len(workers), "client" if federated else "worker")]
        if speed := sum(worker.get("samples_per_s") or 0 for worker in workers):
            parts.append(f"{speed:,.0f} samples/s")
        if losses := [loss for worker in workers if (loss := loss_of(worker)) is not None]:
            parts.append(f"loss {sum(loss / len(losses) for loss in losses):.4g}")
        what.append(" · ".join([*parts, *measured(status)]))
    if federated:
        done, total = federated.get("round") or 0, federated.get("rounds") or 0
        share = (federated.get("accepted") or 0) / (federated.get("goal") or 1)
        return JobProgress(done + min(share, 1.0) * (done < total), total, rounds.progress(federated), (*what, *waits))
    clocks = [worker.get("clock") or 0 for worker in workers]
    done, plans = min(clocks, default=0), [worker.get("planned_steps") or 0 for worker in workers]
    total = max(plans) if plans and min(plans) > 0 else 0
    where = f"step {done:,} of {total:,}" if total else f"step {max(clocks, default=0):,}"
    return JobProgress(done, total, where if workers else str(status.get("phase", "?")), (*what, *waits))


def last_measured(workers: Iterable[Status]) -> dict[str, Any] | None:
    """Return what ``kv.evaluate`` measured last, as ``{"clock", "rank", "metrics"}``, of the members of a status."""
    rows = [row for row in workers if row.get("measured")]
    if not rows:
        return None
    last = max(rows, key=lambda row: row.get("measured_clock") or 0)
    return {"clock": last.get("measured_clock") or 0, "rank": last.get("rank"), "metrics": last["measured"]}


def measured(status: Status) -> list[str]:
    """Return what was measured last, in words."""
    last = last_measured(status.get("workers", []))
    metrics = {} if last is None else last["metrics"]
    return [f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, int | float)][:3]


def _lacking(status: Status, workers: list[Status]) -> str:
    """Return for whom a job waits that has not begun."""
    job = status.get("job") or {}
    servers, all_servers = len(_live(status, "servers")), job.get("servers") or 1
    members = [f"{servers} of {counted(all_servers, 'server')}"]
    if job.get("mode") == "federated":
        members.append(f"{counted(len(workers), 'client')}")
    else:
        members.append(f"{len(workers)} of {counted(job.get('workers') or 1, 'worker')}")
    return f"waiting for members: {', '.join(members)} here"


def _live(status: Status, role: str) -> list[Status]:
    return [member for member in status.get(role, []) if member.get("state") == "live"]


def loss_of(worker: Status) -> float | None:
    """Return the metric called loss that a worker's script gave last, if that is a number."""
    loss = (worker.get("metrics") or {}).get("loss")
    return loss if isinstance(loss, int | float) else None


def waiting_lines(status: Status, longer_than: float = 1.0) -> list[str]:
    """Return who has waited for whom for more than ``longer_than`` seconds, the longest first."""
    found = []
    for worker in status.get("workers", []):
        seconds = worker.get("waiting_s") or 0
        if worker.get("waiting_for") and seconds >= longer_than:
            clock = f", clock {worker['clock']}" if "clock" in worker else ""
            who = _workers(worker["waiting_for"])
            found.append((seconds, f"worker {worker['rank']} has waited {seconds:.0f} s for {who}{clock}"))
    for server in status.get("servers", []):
        for wait in server.get("waiting", []):
            seconds = wait.get("seconds") or 0
            if wait.get("for") and seconds >= longer_than:
                who = _workers(wait["for"])
                text = f"server {server['rank']} has waited {seconds:.0f} s for {who}, clock {wait['clock']}"
                found.append((seconds, text))
    rows = {f"{role} {row.get('rank')}": row for role in ("worker", "server") for row in status.get(f"{role}s", [])}
    for wait in status.get("waits", []):
        row, seconds = rows.get(wait["who"], {}), wait.get("seconds") or 0
        is_told = row.get("waiting_for") or any(one.get("for") for one in row.get("waiting", ()))
        if seconds >= longer_than and not is_told:
            found.append((seconds, waited(wait["who"], wait["for"], wait["what"], seconds)))
    return [text for _, text in sorted(found, key=lambda item: -item[0])]


class Poller:
    """A thread that fetches the status every ``interval`` seconds; a failure to do so is nobody's problem.

    ``show`` is given what every status comes to, and the seconds left if they can be told; ``note`` every status.
    """

    def __init__(
        self,
        fetch: Fetch,
        address: str,
        show: Callable[[JobProgress, float | None], None],
        interval: float = 0.5,
        note: Callable[[Status], None] = lambda status: None,
    ) -> None:
        self.latest: Status = {}
        self.told = 0.0
        """When that was, on the monotonic clock."""
        self._fetch = fetch
        self._address = address
        self._show = show
        self._note = note
        self._pace = Pace()
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Show nothing more, and ask nothing more."""
        self._stop.set()

    def stop(self, timeout: float) -> Status:
        """Stop asking, and return the latest status there is."""
        self.cancel()
        self._thread.join(timeout)
        return self.latest

    def ask(self) -> None:
        """Fetch once; the latest status stays when that fails."""
        try:
            self.latest = self._fetch(self._address, 1.0)
            self.told = time.monotonic()
            self._note(self.latest)
            progress = progress_of(self.latest)
            if progress.total or progress.done:  # what goes before the first step says nothing of the others
                self._pace.note(self.told, progress.done)
            if not self.latest.get("federated"):
                progress = replace(progress, where=with_speed(progress.where, self._pace.speed()))
            left = self._pace.left(progress.total) if progress.total else None
        except Exception:
            return
        if not self._stop.is_set():
            self._show(progress, left)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.ask()
            self._stop.wait(self._interval)


def _workers(ranks: list[int]) -> str:
    return f"worker{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"

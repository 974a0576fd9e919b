"""Progress: asks the scheduler how the job is doing while it runs, and puts that into one line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ps.launch import rounds

Status = Mapping[str, Any]
Fetch = Callable[[str, float], Status]


def describe_status(status: Status) -> str:
    """Return a status in one line: phase, clock or round, members, speed, loss and who waits for whom."""
    workers = [worker for worker in status.get("workers", []) if worker.get("state") == "live"]
    parts = [str(status.get("phase", "?"))]
    federated = status.get("federated")
    if federated:
        parts.append(rounds.progress(federated))
    if workers:
        if not federated:
            parts.append(f"clock {max(worker.get('clock') or 0 for worker in workers)}")
        parts.append(f"{len(workers)} {'client' if federated else 'worker'}{'s' if len(workers) > 1 else ''}")
        parts.append(f"{sum(worker.get('samples_per_s') or 0 for worker in workers):,.0f} samples/s")
        losses = [loss for worker in workers if (loss := loss_of(worker)) is not None]
        if losses:
            parts.append(f"loss {sum(loss / len(losses) for loss in losses):.4g}")
    parts += waiting_lines(status)[:1]
    return " · ".join(parts)


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
    return [text for _, text in sorted(found, key=lambda item: -item[0])]


class Poller:
    """A thread that fetches the status every ``interval`` seconds; a failure to do so is nobody's problem.

    ``show`` is given every status in a line, ``note`` every status itself.
    """

    def __init__(
        self,
        fetch: Fetch,
        address: str,
        show: Callable[[str], None],
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
            text = describe_status(self.latest)
        except Exception:
            return
        if not self._stop.is_set():
            self._show(text)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.ask()
            self._stop.wait(self._interval)


def _workers(ranks: list[int]) -> str:
    return f"worker{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"

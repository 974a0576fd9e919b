"""Exposition: a snapshot as Prometheus reads it, by its own client library. Made anew each time: the dead vanish."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any

from ps.json_lines import finite
from ps.monitor.job_watcher import STALE, Seen
from ps.monitor.values import amount

ADVICE = "/metrics is written by prometheus-client, which is not installed. Try: pip install 'paramserver[monitor]'"
LIVE = "live"


def has_library() -> bool:
    """Whether there is what writes it."""
    return importlib.util.find_spec("prometheus_client") is not None


def exposition(seen: Seen, silence: float) -> bytes:
    """Return the text format of a snapshot that is ``silence`` seconds old."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(seen, silence))
    written: bytes = generate_latest(registry)
    return written


class _Collector:
    def __init__(self, seen: Seen, silence: float) -> None:
        self._found, self._silence = seen.snapshot, silence

    def describe(self) -> Iterable[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        """Yield the families; only whether there is news, where there is none."""
        fresh = self._silence < STALE
        yield _gauge("ps_up", "whether the scheduler answers", float(fresh))
        yield _gauge("ps_snapshot_age_seconds", "how old the rest is", self._silence)
        if fresh:
            yield from self._job()
            yield from self._members()
            yield from self._training()
            if (rounds := self._found["federated"]) is not None:
                yield from _rounds(rounds)
            yield from self._kept()

    def _job(self) -> Iterator[Any]:
        found = self._found
        labels = {"mode": str(found["job"].get("mode", "")), "phase": found["phase"]}
        yield _gauge("ps_job_info", "the job's mode and phase", 1.0, **labels)
        yield _gauge("ps_uptime_seconds", "since the scheduler began", found["uptime_s"])
        yield _gauge("ps_epoch", "how often the members have changed", found["epoch"])
        yield _gauge("ps_step", "steps or rounds that are done everywhere", found["done"])
        yield _gauge("ps_steps_planned", "steps or rounds in all; 0: not known", found["total"])
        if found["left_s"] is not None:
            yield _gauge("ps_left_seconds", "until all is done, at this pace", found["left_s"])
        yield _rows("ps_members", "how many there are", _totals(found), "role", "state")
        wanted = [((role,), amount(finite(found["job"].get(f"{role}s")))) for role in ("server", "worker")]
        yield _rows("ps_members_wanted", "how many the job was made for", wanted, "role")
        yield _counter("ps_deaths", "members that were declared dead", found["died"])
        yield _gauge("ps_waits", "waits of more than a second", len(found["waits"]))
        refused = [((why,), count) for why, count in found["rejected"].items()]
        yield _counters("ps_rejected", "messages that the scheduler has refused", refused, "reason")

    def _members(self) -> Iterator[Any]:
        live = [row for row in self._found["members"] if row["state"] == LIVE]
        workers = [row for row in live if "lag" in row]
        names = {id(row): (row["role"], str(row["rank"])) for row in live}
        labels = ("role", "rank")
        gauges = (
            ("ps_member_up", "of each member that lives", live, lambda row: 1.0),
            ("ps_member_last_seen_seconds", "since it was heard", live, lambda row: row["seen_s"]),
            ("ps_member_clock", "steps or rounds that it has done", live, lambda row: row["clock"]),
            ("ps_worker_lag", "steps behind the first", workers, lambda row: row["lag"]),
            ("ps_worker_staleness", "the greatest of its steps", workers, lambda row: row["staleness"]),
            ("ps_worker_samples_per_second", "examples", workers, lambda row: row.get("samples_per_s")),
        )
        for name, about, rows, value in gauges:
            yield _rows(name, about, [(names[id(row)], v) for row in rows if (v := value(row)) is not None], *labels)
        for name, about, key in (
            ("ps_worker_sent_bytes", "bytes of tensors to servers", "up"),
            ("ps_worker_received_bytes", "bytes of tensors from servers", "down"),
            ("ps_worker_wait_seconds", "seconds that it has waited", "wait_s"),
        ):
            yield _counters(name, about, [(names[id(row)], row[key]) for row in workers], *labels)

    def _training(self) -> Iterator[Any]:
        now, found = self._found["now"], self._found
        for name, about, key in (
            ("ps_steps_per_second", "steps of a worker; of a federated job local steps of all", "steps_per_s"),
            ("ps_samples_per_second", "examples of all workers", "samples_per_s"),
            ("ps_sent_bytes_per_second", "of all workers", "up_per_s"),
            ("ps_received_bytes_per_second", "of all workers", "down_per_s"),
            ("ps_waiting_ratio", "part of the workers' time in which they wait", "waiting"),
            ("ps_staleness", "the greatest of any worker", "staleness"),
            ("ps_lag", "steps between the first and the last worker", "lag"),
        ):
            if now.get(key) is not None:
                yield _gauge(name, about, now[key])
        metrics = found["metrics"].items()
        means = [((name,), _value(row["mean"], row["shown"])) for name, row in metrics]
        yield _rows("ps_metric", "what kv.step was given last, the mean of the workers", means, "name")
        odd = [((name,), row["odd"]) for name, row in metrics]
        yield _rows("ps_metric_not_finite", "steps of late in which it was NaN or infinite", odd, "name")
        if (measured := found["measured"]) is not None:
            rows = [((name,), _value(finite(value), value)) for name, value in measured["values"].items()]
            yield _rows("ps_evaluation", "what kv.evaluate measured last", rows, "name")
            yield _gauge("ps_evaluation_clock", "after how many steps or rounds", measured["clock"])

    def _kept(self) -> Iterator[Any]:
        if (kept := self._found["checkpoint"]) is not None:
            yield _gauge("ps_checkpoint_step", "of the newest whole checkpoint", kept["step"])
            yield _gauge("ps_checkpoint_failed", "whether the last one has", float(bool(kept["trouble"])))
            if kept["ago_s"] is not None:
                yield _gauge("ps_checkpoint_age_seconds", "since it was made", kept["ago_s"])
        if (moves := self._found["moves"]) is not None:
            yield _gauge("ps_chunks_left_to_move", "chunks on their way to another server", moves["left"])


def _rounds(rounds: Any) -> Iterator[Any]:
    yield _gauge("ps_round_goal", "contributions that close a round", rounds["goal"])
    yield _gauge("ps_round_accepted", "contributions of the round under way that count", rounds["accepted"])
    yield _gauge("ps_round_clients_training", "clients with a task", rounds["active"])
    refused = [((why,), count) for why, count in rounds["refused"].items()]
    yield _counters("ps_contributions_refused", "by reason", refused, "reason")
    yield _counter("ps_rounds_abandoned", "attempts that were begun anew", rounds["abandoned"])
    if rounds["history"]:
        yield _gauge("ps_round_seconds", "what the last round took", rounds["history"][-1]["seconds"])


def _totals(found: Any) -> list[tuple[tuple[str, ...], float]]:
    return [
        ((role.removesuffix("s"), state), count)
        for role, counts in found["totals"].items()
        for state, count in counts.items()
    ]


def _value(finite: float | None, shown: Any) -> float:
    """Return a number as Prometheus has it, which knows NaN and infinity."""
    return finite if isinstance(finite, int | float) else float(shown) if isinstance(shown, str) else float("nan")


def _gauge(name: str, about: str, value: float | None, **labels: str) -> Any:
    return _rows(name, about, [(tuple(labels.values()), amount(value))], *labels)


def _counter(name: str, about: str, value: float) -> Any:
    return _counters(name, about, [((), value)])


def _rows(name: str, about: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _counters(name: str, about: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family

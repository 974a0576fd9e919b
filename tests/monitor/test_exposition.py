"""Promises of /metrics: what Prometheus' own parser reads, names of ours, bounded labels, and the dead vanish."""

from __future__ import annotations

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from ps.monitor.job_watcher import STALE, JobWatcher, Seen
from support.watched import FEDERATED, HOSTILE, job, large, server, worker

pytest.importorskip("prometheus_client", reason="writes /metrics: pip install 'paramserver[monitor]'")

from ps.monitor.exposition import exposition

SCRIPTS = Path(__file__).parents[2] / "scripts" / "monitoring"


def seen_of(*statuses: dict[str, Any]) -> Seen:
    told, now = list(statuses), [0.0]
    watcher = JobWatcher(lambda: told.pop(0), lambda: now[0], lambda: now[0])
    while told:
        watcher.look()
        now[0] += 1.0
    assert watcher.seen is not None
    return watcher.seen


def samples(seen: Seen, silence: float = 0.0) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the samples by name and values of labels, as Prometheus' parser has them."""
    from prometheus_client.parser import text_string_to_metric_families

    text = exposition(seen, silence).decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert all(re.fullmatch(r"ps_[a-z_]+", sample.name) for sample in found)
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items(), reverse=True))): sample.value
        for sample in found
    }


def test_what_the_job_is_doing_is_there() -> None:
    first = job([worker(0, clock=8, measured={"accuracy": 0.9}, measured_clock=8), worker(1)], [server(0)])
    second = job([worker(0, measured={"accuracy": 0.9}, measured_clock=8), worker(1, clock=12)], [server(0)])
    found = samples(seen_of(first, {**second, "deaths": [{"role": "worker", "rank": 2, "why": "x"}]}))
    assert found["ps_up", ()] == 1 and found["ps_job_info", ("running", "sync")] == 1
    assert found["ps_members", ("live", "worker")] == 2 and found["ps_members_wanted", ("worker",)] == 2
    assert found["ps_member_clock", ("worker", "1")] == 12 and found["ps_steps_per_second", ()] == 2.0
    assert found["ps_worker_sent_bytes_total", ("worker", "0")] == 4000 and found["ps_deaths_total", ()] == 1
    assert found["ps_metric", ("loss",)] == 0.5 and found["ps_evaluation", ("accuracy",)] == 0.9


def test_the_dead_vanish_and_so_does_all_when_there_is_no_news() -> None:
    seen = seen_of(job([worker(0), worker(1, state="dead"), worker(2, state="left")]))
    found = samples(seen)
    assert {labels for name, labels in found if name == "ps_member_up"} == {("server", "0"), ("worker", "0")}
    assert found["ps_members", ("dead", "worker")] == 1
    assert samples(seen, STALE + 1.0) == {("ps_up", ()): 0.0, ("ps_snapshot_age_seconds", ()): STALE + 1.0}


def test_names_of_a_job_are_values_of_labels_and_nan_is_nan() -> None:
    for name in HOSTILE:
        rows = [worker(0, metrics={name: "nan", "x": "-inf"}, ranges={name: [None, None, 2]}, measured={name: "inf"})]
        found = samples(seen_of(job(rows, federated={**FEDERATED, "refused": {name: 3}})))
        [shown] = [key[1][0] for key in found if key[0] == "ps_metric" and key[1][0] != "x"]
        assert len(shown) <= 100 and math.isnan(found["ps_metric", (shown,)])
        assert found["ps_metric", ("x",)] == -math.inf and found["ps_evaluation", (shown,)] == math.inf
        assert found["ps_metric_not_finite", (shown,)] == 2


def test_rounds_are_there_and_of_a_private_job_nothing_of_a_client() -> None:
    status = job([worker(0)], federated=FEDERATED, checkpoint={"step": 7, "folder": "x", "ago_s": 3.0})
    found = samples(seen_of(status))
    assert found["ps_contributions_refused_total", ("nan",)] == 2 and found["ps_round_seconds", ()] == 2.5
    assert found["ps_checkpoint_step", ()] == 7 and found["ps_checkpoint_age_seconds", ()] == 3
    status["job"]["dp"] = "eps=8"
    names = {name for name, _ in samples(seen_of(status))}
    assert (
        "ps_metric" not in names
        and "ps_worker_samples_per_second" not in names
        and "ps_samples_per_second" not in names
    )


def test_a_thousand_members_take_less_than_half_a_second() -> None:
    seen = seen_of(large(1000))
    began = time.process_time()
    text = exposition(seen, 0.0)
    assert time.process_time() - began < 0.5 and len(text) < 2_000_000
    assert text.count(b"\nps_member_up{") == 1002


def test_dashboard_and_alerts_ask_for_what_there_is() -> None:
    row = worker(0, measured={"accuracy": 0.9}, measured_clock=8)
    status = job([row], federated=FEDERATED, checkpoint={"step": 7, "ago_s": 3.0, "trouble": "x"})
    status["scheduler"]["rejected"] = {"bad header": 3}
    later = {**status, "moves": {"moved": 1, "left": 2}, "federated": {**FEDERATED, "round": 5}}
    there = {name for name, _ in samples(seen_of(status, status, status, later))}
    dashboard = json.loads((SCRIPTS / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += re.findall(r"expr: (.*)", (SCRIPTS / "alerts.yml").read_text())
    assert len(asked) > 15
    for expression in asked:
        names = set(re.findall(r"\bps_[a-z_]+", expression))
        assert names and names <= there, (expression, names - there)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len({*ids})

"""Promises of the snapshot: valid JSON whatever a job says, bounded however many members, private where the job is."""

from __future__ import annotations

import json
import time
from typing import Any

from ps.monitor.job_rates import JobRates
from ps.monitor.member_rows import MOST_ROWS, outstanding
from ps.monitor.snapshot import Snapshot, snapshot_of
from support.watched import FEDERATED, HOSTILE, job, large, server, worker


def strict(snapshot: Snapshot) -> Any:
    """Return a snapshot as whoever reads strict JSON gets it."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(json.dumps(snapshot, allow_nan=False), parse_constant=refuse)


def test_all_that_matters_is_in_it() -> None:
    workers = [worker(0), worker(1, clock=8, lag=2, waiting_for=[0], waiting_s=3.0, metrics={"loss": 1.5})]
    waits = [{"clock": 10, "for": [1], "seconds": 3.0}]
    more = {"deaths": [{"role": "worker", "rank": 2, "why": "killed", "clock": 7}], "epoch": 4}
    found = strict(snapshot_of(job(workers, [server(0, waiting=waits)], **more), {"steps_per_s": 2.5}, 99.0, 12.0))
    assert found["now"] == {"steps_per_s": 2.5, "samples_per_s": 128.0, "staleness": 1, "lag": 2, "loss": 1.0}
    assert (found["done"], found["total"], found["left_s"]) == (8, 100, 12.0)
    assert [row["role"] for row in found["members"]] == ["server", "worker", "worker"]
    assert found["members"][0]["waits"] == ["worker 1, clock 10"] and found["members"][2]["waited_for"]
    assert found["deaths"] == ["worker 2 died: killed, at clock 7"]
    assert "worker 1 has waited 3 s for worker 0, clock 8" in found["waits"]
    assert found["totals"] == {"servers": {"live": 1}, "workers": {"live": 2}}


def test_nan_and_infinity_are_shown_as_what_they_are() -> None:
    workers = [worker(0, metrics={"loss": "nan", "x": "inf"}, ranges={"loss": [0.5, 900.0, 3]}), worker(1)]
    found = strict(snapshot_of(job(workers), {}, 1.0))
    assert found["members"][1]["loss"] == "NaN"
    assert found["metrics"]["loss"] == {"mean": 0.5, "low": 0.5, "high": 900.0, "odd": 3, "shown": "NaN"}
    assert found["metrics"]["x"] == {"mean": None, "low": None, "high": None, "odd": 1, "shown": "Infinity"}
    odd = worker(0, metrics={"loss": float("nan")}, bytes_up=float("inf"), clock=float("nan"), wait_s=10**400)
    assert strict(snapshot_of(job([odd]), {}, 1.0))["members"][1]["loss"] == "NaN"


def test_names_that_a_job_brings_are_text_in_one_line_and_not_long() -> None:
    for name in HOSTILE:
        workers = [worker(0, host=name, metrics={name: 1.0}, why=name, rejected={name: 3}, measured={name: 0.5})]
        federated = {**FEDERATED, "refused": {name: 1}, "algorithm": name}
        status = job(workers, reason=name, federated=federated, deaths=[{"role": name, "rank": 0, "why": name}])
        status["job"]["optimizer"] = name
        found = strict(snapshot_of(status, {}, 1.0))
        written = json.dumps(found, ensure_ascii=False)
        assert "\x1b" not in written and "\\u001b" not in json.dumps(found) and "\\n" not in written
        assert len(written) < 12_000


def test_a_status_of_nothing_but_nonsense_is_no_reason_to_show_nothing() -> None:
    for nonsense in ({}, {"phase": None}, {"totals": 3}, {"federated": {"history": [None, 3]}}, {"deaths": None}):
        strict(snapshot_of({"workers": [], "servers": [], **nonsense}, {}, 1.0))


def test_of_a_private_job_nothing_of_a_single_client_is_shown() -> None:
    for setting in ({"secure": "pairwise"}, {"dp": "eps=8"}):
        status = job([worker(0, metrics={"loss": 0.123}, samples_per_s=77.0, steps=55)], federated=FEDERATED)
        status["job"] |= setting
        found = strict(snapshot_of(status, {}, 1.0))
        assert found["private"] and not found["metrics"] and found["now"]["loss"] is None
        row = found["members"][1]
        assert not {"loss", "samples_per_s", "steps"} & set(row)
        assert found["federated"]["history"][0]["metrics"] == {"loss": {"mean": 0.5, "n": 4}}
    assert (
        "p90"
        in strict(snapshot_of(job([], federated=FEDERATED), {}, 1.0))["federated"]["history"][0]["metrics"]["loss"]
    )


def test_a_thousand_members_take_little_time_and_those_that_stand_out_are_shown() -> None:
    status = large(1000)
    status["workers"][777] |= {"lag": 99, "clock": 1}
    began = time.process_time()
    found = snapshot_of(status, {}, 1.0)
    text = json.dumps(found, allow_nan=False)
    assert time.process_time() - began < 0.5
    assert len(found["members"]) == 1002 and found["others"] == 0 and len(text) < 500_000
    shown = outstanding(found["members"])
    assert len(shown) == MOST_ROWS and [row["role"] for row in shown[:2]] == ["server", "server"]
    assert 777 in {row["rank"] for row in shown} and outstanding(shown) is shown


def test_rates_are_those_of_the_last_seconds_of_who_was_there_all_the_time() -> None:
    rates = JobRates()
    assert rates.look(job([worker(0)]), 0.0) == {}
    for second in range(1, 20):
        row = worker(0, clock=10 + 4 * second, bytes_up=1000 * second, bytes_down=0, wait_s=0.25 * second)
        found = rates.look(job([row, worker(7, clock=9999)]), float(second))
    assert found["steps_per_s"] == 2.0 and found["up_per_s"] == 1000.0 and found["waiting"] == 0.125
    assert rates.look(job([worker(3)]), 21.0) == {}
    assert rates.look({"workers": [worker(0, state="dead")]}, 22.0) == {}

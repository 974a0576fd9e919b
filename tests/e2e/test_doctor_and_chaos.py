"""A running job, examined by the doctor and then harmed: what is well is said, and only what is the job's is harmed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from support.cluster import Cluster, Process, live_workers

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


def test_a_job_is_examined_and_harmed_and_goes_on(
    start: Callable[..., Cluster], forked: Callable[..., Process]
) -> None:
    cluster = start(workers=3)
    gate = cluster.path("gate")
    workers = cluster.train(3, "--steps", 2000, "--nap", 0.01, "--gate", f"1999:{gate}")
    cluster.wait_clock(3)

    doctor = forked("doctor", "--json", "--scheduler", cluster.address)
    assert doctor.wait() == 0, doctor.text
    findings = json.loads(doctor.text)["findings"]
    assert {"server 0", "worker 2", "scheduler"} <= {each["about"] for each in findings}
    states = {(each["what"], each["state"]) for each in findings}
    assert {state for what, state in states if what in ("clocks", "versions")} == {"ok"}
    fine = {"ok", "warning"}  # on a busy machine it takes longer than would be good
    assert {state for what, state in states if what in ("reached", "bandwidth")} <= fine

    options = ("--scheduler", cluster.address, "--mtbf", "300ms", "--duration", "20s", "--seed", 1, "--json")
    chaos = forked("chaos", *options, "--for", "200ms")
    status = cluster.wait_status(lambda status: len(live_workers(status)) == 1)
    assert len(status["deaths"]) == 2
    gate.touch()
    assert chaos.wait() == 0, chaos.text
    entries = [json.loads(line) for line in chaos.lines]
    killed = {entry["rank"] for entry in entries if entry["action"] == "kill" and entry["done"]}
    left = ({0, 1, 2} - killed).pop()
    assert len(killed) == 2 and workers[left].wait() == 0, workers[left].text
    assert "the job has ended" in entries[-1]["why"] or "silent" in entries[-1]["why"] or "over" in entries[-1]["why"]
    assert [process.wait() for process in (cluster.scheduler, *cluster.servers)] == [0, 0]

"""Members are waited for, not processes: a run ends without those that were given up, and with those that joined."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ps.launch.members import Members, joined, lacking, read_last, read_members, without

Start = Callable[..., Any]


def row(pid: int, state: str, host: str = "here", rank: int = 0) -> dict[str, Any]:
    return {"rank": rank, "pid": pid, "host": host, "state": state}


def test_ours_are_known_by_host_and_process_and_may_have_been_members_before() -> None:
    rows = [row(5, "dead"), row(6, "dead"), row(6, "live"), row(7, "left"), row(5, "live", host="there", rank=4)]
    ours = {5: 0, 6: 1, 7: 2}
    found = Members(frozenset({0}), ("worker 4 (there, pid 5)",), frozenset({0, 1, 2}))
    assert read_members(rows, ours, "here") == found
    assert [other["rank"] for other in joined(rows, ours, "here")] == [4]


def test_whoever_was_started_again_is_not_spoken_of_as_it_was_before() -> None:
    rows = without([row(5, "dead"), row(6, "live"), row(5, "live", host="there", rank=4)], {5}, "here")
    assert read_members(rows, {6: 0}, "here") == Members(frozenset(), ("worker 4 (there, pid 5)",), frozenset({0}))
    assert [other["rank"] for other in joined(rows, {6: 0}, "here")] == [4]


def test_a_job_that_has_not_begun_lacks_whom_nobody_can_be_any_more() -> None:
    def status(phase: str, live: int, *rows: dict[str, Any]) -> dict[str, Any]:
        return {"phase": phase, "job": {"workers": 3}, "workers": rows, "totals": {"workers": {"live": live}}}

    assert lacking(status("waiting", 0), [5, 6, 7], "here") == 0
    assert lacking(status("waiting", 0), [5, 6], "here") == 1
    assert lacking(status("waiting", 1, row(5, "live")), [5, 6], "here") == 1
    assert lacking(status("waiting", 2, row(5, "live"), row(4, "live")), [5, 6], "here") == 0, "its death is not known"
    assert lacking(status("waiting", 2, row(5, "live"), row(5, "live", host="there")), [5, 6], "here") == 0
    assert lacking(status("running", 1, row(5, "live")), [5], "here") == 0
    assert lacking({}, [], "here") == 0


def test_a_scheduler_that_has_ended_waits_for_nobody_and_has_seen_all_whom_it_shows() -> None:
    rows = [row(5, "left"), row(6, "dead"), row(4, "dead"), row(5, "live", host="there", rank=4)]
    ours = {5: 0, 6: 1, 7: 2}
    status = {"workers": rows, "totals": {"workers": {"left": 1, "dead": 2, "live": 1, "shown": 4}}}
    assert read_last(status, ours, {4}, "here") == Members(frozenset({1}), (), frozenset({0, 1}), last=True)
    status["totals"] = {"workers": {"left": 1001, "dead": 2, "live": 1, "shown": 4}}
    assert read_last(status, ours, {4}, "here") == Members(frozenset({1}), (), frozenset({0, 1}))
    assert read_last({}, ours, set(), "here") == Members()


STANDS_STILL = """
import json, signal, socket
path = os.environ["FAKE_STATUS"]
if os.environ["PS_RANK"] == "1":
    me = {"rank": 1, "pid": os.getpid(), "host": socket.gethostname(), "state": "dead"}
    with open(path + ".draft", "w") as file: json.dump({"workers": [me]}, file)
    os.rename(path + ".draft", path)
    os.kill(os.getpid(), signal.SIGSTOP)
    sys.exit(4)
while not os.path.exists(path): time.sleep(0.01)
"""


@pytest.mark.e2e
@pytest.mark.timeout(60)
def test_a_run_ends_without_a_process_that_was_declared_dead_and_stands_still(launch: Start, tmp_path: Path) -> None:
    run = launch(STANDS_STILL, FAKE_STATUS=str(tmp_path / "status.json"))
    assert run.finish(40.0) == 4
    assert "worker 1 was declared dead, though its process runs" in run.err
    assert "failed first: worker 1" in run.err
    run.assert_nothing_left()


@pytest.mark.e2e
@pytest.mark.timeout(60)
def test_a_run_whose_job_cannot_begin_any_more_ends_at_once_and_says_why(launch: Start) -> None:
    waiting = {"phase": "waiting", "job": {"workers": 2}, "workers": [], "totals": {"workers": {"live": 0}}}
    dies = "rendezvous(4)\nif os.environ['PS_RANK'] == '0': os.kill(os.getpid(), 9)\ntime.sleep(60)"
    run = launch(dies, FAKE_STATUS=json.dumps(waiting))
    assert run.finish(30.0) == 137
    assert "worker 0 failed before the job had begun, which wants 1 more worker: ending the others" in run.err
    run.assert_nothing_left()


@pytest.mark.e2e
@pytest.mark.timeout(60)
def test_a_run_goes_on_for_a_worker_that_joined_and_counts_it(launch: Start) -> None:
    guest = {**row(1, "live", host="elsewhere", rank=7), "steps": 1234, "metrics": {"loss": 0.5}}
    until_told = "ready(); rendezvous(4); time.sleep(2)"  # it ends when the job does
    run = launch("", FAKE_STATUS=json.dumps({"workers": [guest]}), FAKE_SCHEDULER=until_told)
    assert run.finish(40.0) == 0
    assert "waiting for worker 7 (elsewhere, pid 1), joined from elsewhere" in run.err
    [line] = [line for line in run.out.splitlines() if "from elsewhere" in line]
    assert "1,234" in line
    run.assert_nothing_left()


ENDS = """
import json, socket
ready()
path = os.path.join(os.environ["PS_RUNTIME_DIR"], "came")
while not os.path.exists(path): time.sleep(0.01)
row = {"rank": 0, "pid": int(open(path).read()), "host": socket.gethostname(), "state": "left"}
told = {"workers": [row], "totals": {"workers": {"left": 1, "shown": 1}}}
os.write(int(os.environ["PS_ACCOUNT_FD"]), json.dumps({"t": 1.0, **told}).encode() + b"\\n")
sys.exit(11)
"""
COMES_LATE = """
path = os.path.join(os.environ["PS_RUNTIME_DIR"], "came")
if os.environ["PS_RANK"] == "1": time.sleep(60)
with open(path + ".draft", "w") as file: file.write(str(os.getpid()))
os.rename(path + ".draft", path)
"""


@pytest.mark.e2e
@pytest.mark.timeout(60)
def test_a_run_whose_job_is_over_does_not_wait_for_a_client_that_has_not_come_and_ends_with_the_jobs_code(
    launch: Start,
) -> None:
    run = launch(COMES_LATE, FAKE_SCHEDULER=ENDS)
    assert run.finish(40.0) == 11
    assert "failed first: scheduler" in run.err
    run.assert_nothing_left()

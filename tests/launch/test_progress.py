"""Promises of the progress line: readable, and harmless when the scheduler does not answer."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from io import StringIO
from typing import Any

from ps.launch.progress import Poller, progress_of, waiting_lines
from ps.launch.screen import Screen

STATUS: dict[str, Any] = {
    "phase": "running",
    "workers": [
        {"rank": 0, "state": "live", "clock": 417, "samples_per_s": 600.0, "metrics": {"loss": 0.5}},
        {
            "rank": 1,
            "state": "live",
            "clock": 417,
            "samples_per_s": 700.0,
            "metrics": {"loss": 0.3},
            "waiting_for": [3],
            "waiting_s": 12.1,
        },
        {"rank": 2, "state": "dead", "clock": 900, "metrics": {"loss": 9.0}},
    ],
    "servers": [{"rank": 0, "waiting": [{"clock": 417, "for": [3, 4], "seconds": 2.2}]}],
}


def test_a_status_says_how_far_the_job_is_how_fast_and_who_waits() -> None:
    progress = progress_of(STATUS)
    assert (progress.where, progress.fraction) == ("step 417", None)
    assert progress.what == (
        "2 workers · 1,300 samples/s · loss 0.4",
        "worker 1 has waited 12 s for worker 3, clock 417",
    )
    assert progress_of({}).where == "?"


def test_where_all_workers_plan_their_steps_it_is_known_how_much_of_the_job_the_slowest_has_done() -> None:
    workers = [
        {"rank": 0, "state": "live", "clock": 70, "planned_steps": 200},
        {"rank": 1, "state": "live", "clock": 50, "planned_steps": 200},
    ]
    progress = progress_of({"phase": "running", "workers": workers})
    assert (progress.where, progress.fraction, progress.done) == ("step 50 of 200", 0.25, 50)
    progress = progress_of({"phase": "running", "workers": [*workers, {"rank": 2, "state": "live", "clock": 9}]})
    assert (progress.where, progress.fraction) == ("step 70", None)  # one of them does as it likes


def test_what_was_measured_last_is_shown_with_the_step() -> None:
    worker = {"state": "live", "clock": 9}
    rows = [
        {**worker, "rank": 0, "measured": {"accuracy": 0.5}, "measured_clock": 4},
        {**worker, "rank": 1, "measured": {"accuracy": 0.75}, "measured_clock": 8},
    ]
    assert progress_of({"phase": "running", "workers": rows}).what == ("2 workers · accuracy 0.75",)


def test_a_job_that_has_not_begun_says_for_how_many_it_waits() -> None:
    status = {"phase": "waiting", "job": {"servers": 2, "workers": 3}, "servers": [{"state": "live"}], "workers": []}
    assert progress_of(status).where == "waiting for members: 1 of 2 servers, 0 of 3 workers here"


def test_a_federated_job_shows_its_round_instead_of_a_step() -> None:
    rounds = {"round": 3, "rounds": 10, "accepted": 2, "goal": 4, "refused": {"nan": 2}, "spare": 3}
    progress = progress_of({**STATUS, "federated": rounds})
    assert progress.where == "round 4 of 10 · 2 of 4 accepted · refused 2 × nan"
    assert progress.fraction == 0.35
    assert progress.what[0] == "2 clients · 1,300 samples/s · loss 0.4"


def test_every_status_is_noted() -> None:
    noted: list[Mapping[str, Any]] = []
    seen = threading.Event()

    def note(status: Mapping[str, Any]) -> None:
        noted.append(status)
        seen.set()

    poller = Poller(
        lambda address, timeout: STATUS, "tcp://a:1", lambda progress, left: None, interval=0.001, note=note
    )
    assert seen.wait(5.0)
    poller.stop(5.0)
    assert noted[0] is STATUS


def test_the_longest_wait_comes_first_and_short_ones_not_at_all() -> None:
    assert waiting_lines(STATUS)[1] == "server 0 has waited 2 s for workers 3, 4, clock 417"
    assert len(waiting_lines(STATUS, longer_than=5.0)) == 1


def test_a_scheduler_that_does_not_answer_is_asked_again() -> None:
    shown = threading.Event()
    answers = iter([None, {"workers": [{"state": "live", "clock": None}]}, None])

    def fetch(address: str, timeout: float) -> Mapping[str, Any]:
        answer = next(answers, STATUS)
        if answer is None:
            raise OSError("gone")
        return answer

    poller = Poller(fetch, "tcp://a:1", lambda progress, left: shown.set(), interval=0.001)
    assert shown.wait(5.0)
    assert poller.stop(5.0)["workers"]


def test_without_a_terminal_there_is_no_progress_line_and_no_colour() -> None:
    out, err = StringIO(), StringIO()
    screen = Screen(out, err)
    screen.progress("running")
    screen.line("worker 0", False, "hello")
    screen.say("two\nlines")
    screen.close()
    assert out.getvalue() == "worker 0 | hello\n"
    assert err.getvalue() == "psctl | two\npsctl | lines\n"


def test_what_only_the_scheduler_knows_of_a_wait_is_told_and_what_a_row_has_is_not_told_twice() -> None:
    rows = {"workers": [{"rank": 0, "waiting_for": [3], "waiting_s": 2.0, "clock": 7}]}
    barrier = {"who": "workers 0, 1", "for": "worker 2", "what": "a barrier", "seconds": 9.0}
    own = {"who": "worker 0", "for": "worker 3", "what": "clock 7", "seconds": 2.0}
    assert waiting_lines({**rows, "waits": [barrier, own]}) == [
        "workers 0, 1 have waited 9 s for worker 2: a barrier",
        "worker 0 has waited 2 s for worker 3, clock 7",
    ]

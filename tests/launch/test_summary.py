"""Promises of ps.launch.summary: a run's record is whole, plain JSON, and forgiving about what it reads."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ps.launch.policy import Exit
from ps.launch.summary import Ends, fold, kernels_of, last_measured, summarize, write_summary
from ps.launch.table import format_bytes, summary_table


def line(rank: int, clock: int, t: float, **more: object) -> str:
    step = {"t": t, "rank": rank, "clock": clock, "loss": 1 / clock, "samples": 10, "samples_per_s": 10.0}
    return json.dumps({**step, "bytes_up": 4, "bytes_down": 6, "wait_s": 0.5, "staleness": clock % 3, **more})


def test_steps_are_added_up_per_worker_and_in_all() -> None:
    records = fold([line(rank, clock, 100.0 + clock) for clock in range(1, 5) for rank in (1, 0)])
    summary = summarize(records, Ends(0, 12.3456), {"mode": "ssp", "servers": 1, "workers": 2})
    assert [row["rank"] for row in summary["per_worker"]] == [0, 1]
    assert summary["per_worker"][0] == {
        "rank": 0,
        "steps": 4,
        "clock": 4,
        "samples": 40,
        "samples_per_s": 10.0,
        "bytes_up": 16,
        "bytes_down": 24,
        "wait_s": 2.0,
        "max_staleness": 2,
        "loss": 0.25,
    }
    assert (summary["steps"], summary["total_steps"], summary["clock"]) == (4, 8, 4)
    assert (summary["samples"], summary["samples_per_s"], summary["train_s"]) == (80, 20.0, 4.0)
    assert (summary["bytes_up"], summary["bytes_down"], summary["max_staleness"]) == (32, 48, 2)
    assert (summary["mode"], summary["wall_s"], summary["exit_status"]) == ("ssp", 12.346, 0)


@given(st.integers(0, 200))
def test_a_torn_last_line_is_passed_over(cut: int) -> None:
    whole, torn = line(0, 1, 1.0), line(0, 2, 2.0)
    records = fold([whole + "\n", torn[: min(cut, len(torn) - 1)]])
    assert [record.steps for record in records] == [1]


@given(st.lists(st.text() | st.sampled_from(["[]", "3", '{"rank": "a"}', '{"rank": 0, "t": "x"}'])))
def test_lines_that_hold_no_step_do_no_harm(lines: list[str]) -> None:
    json.dumps(summarize(fold(lines), Ends(0, 1.0), {}), allow_nan=False)


def test_what_is_not_finite_is_written_as_null(tmp_path: Path) -> None:
    text = '{"rank": 0, "t": 1.0, "loss": NaN, "samples_per_s": Infinity, "samples": 1}'
    summary = summarize(fold([text]), Ends(0, 1.0), {"mode": "sync"})
    write_summary(summary, tmp_path / "summary.json")
    assert json.loads((tmp_path / "summary.json").read_text())["per_worker"][0]["loss"] is None
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON"):
        write_summary({"x": float("nan")}, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_deaths_are_those_the_scheduler_saw_and_those_the_launcher_did() -> None:
    first = Exit("worker", 1, -9)
    ends = Ends(137, 1.0, first, [first, Exit("worker", 0, 0), Exit("server", 0, 143)], frozenset({"server 0"}))
    summary = summarize(fold([line(1, 3, 1.0)]), ends, {}, [{"role": "worker", "rank": 5, "why": "silent"}])
    assert summary["deaths"] == [
        {"role": "worker", "rank": 5, "why": "silent"},
        {"role": "worker", "rank": 1, "why": "killed by SIGKILL", "clock": 3},
    ]
    assert summary["failed_first"] == {"process": "worker 1", "why": "killed by SIGKILL"}
    assert [p["outcome"] for p in summary["processes"]] == ["killed by SIGKILL", "done", "stopped"]


def test_a_server_that_was_started_again_is_one_member_and_its_death_is_told() -> None:
    exits = [Exit("server", 0, 0), Exit("server", 1, 143), Exit("worker", 0, 0)]
    ends = Ends(0, 1.0, None, exits, frozenset({"server 1"}), (Exit("server", 1, -9),))
    summary = summarize([], ends, {"mode": "federated"}, rounds={"round": 3, "total_accepted": 6})
    assert summary["members"]["servers"] == [0, 1]
    assert summary["restarts"] == [{"process": "server 1", "why": "killed by SIGKILL"}]
    assert [(death["role"], death["rank"]) for death in summary["deaths"]] == [("server", 1)]
    assert summary["federated"] == {"round": 3, "total_accepted": 6}
    assert "federated" not in summarize([], ends, {"mode": "sync"})


def test_the_table_has_a_row_for_every_worker_also_for_one_without_a_step() -> None:
    ends = Ends(1, 2.0, None, [Exit("worker", 0, 0), Exit("worker", 1, 1)])
    summary = summarize(fold([line(0, 1, 1.0), line(7, 1, 1.0)]), ends, {"mode": "async"})
    out = StringIO()
    Console(file=out, width=120).print(summary_table(summary))
    rows = [row.split() for row in out.getvalue().splitlines() if row.strip()]
    assert "async ended with exit status 1 after 2.0 s" in out.getvalue()
    assert [row[0] for row in rows if row[0] in ("0", "1", "7", "all")] == ["0", "1", "7", "all"]
    assert "from elsewhere" in out.getvalue()


def test_bytes_are_shown_for_people() -> None:
    assert [format_bytes(n) for n in (0, 999, 1000, 3_400_000, 5e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "3.4 MB",
        "5.0 TB",
    ]


def lines_of(summary: dict[str, Any], width: int = 80) -> list[str]:
    out = StringIO()
    Console(file=out, width=width).print(summary_table(summary))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("mode", ["sync", "async", "ssp", "federated"])
def test_the_table_fits_80_columns_with_all_its_figures_whatever_their_size(mode: str) -> None:
    step = {"clock": 9_876_543, "samples": 123_456_789, "samples_per_s": 123_456.7, "bytes_up": 12_345_678_901_234}
    more = {"bytes_down": 12_345, "wait_s": 12_345.6, "staleness": 12_345, "loss": -0.00012345, "t": 100.0}
    round = {"verdict": "accepted", "steps": 4_321} if mode == "federated" else {}
    records = fold([json.dumps({"rank": rank, **step, **more, **round}) for rank in (0, 1, 1234)])
    rounds = {"round": 3, "rounds": 9} if mode == "federated" else None
    exits = [Exit("worker", rank, -9) for rank in (0, 1)]  # somebody else has started 1234
    lines = lines_of(summarize(records, Ends(1, 12345.6, exits[0], exits), {"mode": mode}, rounds=rounds))
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "…" not in "".join(lines)
    [row] = [line for line in lines if line.strip().startswith("1234")]
    assert "123.5M" in row and "12.3" in row and "-0.000123" in row
    assert row.rstrip().endswith(" from elsewhere" if mode in ("sync", "federated") else " from")  # and goes on below
    assert ("stale" in "".join(lines)) == (mode in ("async", "ssp"))
    head = lines[1]
    assert "up TB" in head and "down TB" in head
    assert ("rounds" in head) == (mode == "federated")


def test_the_steps_of_a_client_are_those_that_it_took_and_its_rounds_are_counted_beside_them() -> None:
    lines = [
        json.dumps({"rank": 0, "clock": 0, "t": 1.0, "steps": 12, "samples": 96, "verdict": "accepted"}),
        json.dumps({"rank": 0, "clock": 2, "t": 2.0, "steps": 0, "verdict": "declined"}),
        json.dumps({"rank": 0, "clock": 3, "t": 3.0, "steps": 12, "samples": 96, "verdict": "late"}),
    ]
    summary = summarize(fold(lines), Ends(0, 3.0), {"mode": "federated"}, rounds={"round": 4, "rounds": 4})
    assert (summary["per_worker"][0]["steps"], summary["per_worker"][0]["rounds"]) == (24, 3)
    assert (summary["steps"], summary["total_steps"], summary["rounds"]) == (24, 24, 3)
    assert "wait s" not in "".join(lines_of(summary))


def test_what_was_measured_last_stands_below_the_table() -> None:
    lines = [
        json.dumps({"accuracy": 0.5, "t": 1.0, "rank": 0, "clock": 5}),
        json.dumps({"accuracy": 0.9749, "f1": 0.9, "t": 2.0, "rank": 0, "clock": 138}),
        "torn",
    ]
    measured = last_measured(lines)
    assert measured == {"clock": 138, "rank": 0, "metrics": {"accuracy": 0.9749, "f1": 0.9}}
    summary = summarize(fold([line(0, 1, 1.0)]), Ends(0, 1.0), {"mode": "sync"}, measured=measured)
    assert "measured at step 138: accuracy 0.9749, f1 0.9" in "\n".join(lines_of(summary))
    assert last_measured([]) is None


def test_samples_that_nobody_counts_are_no_zeros_and_it_is_said_how_they_are_counted() -> None:
    steps = [json.dumps({"rank": 0, "clock": 1, "t": 1.0, "samples": 0, "bytes_up": 5})]
    text = "\n".join(lines_of(summarize(fold(steps), Ends(0, 1.0), {"mode": "sync"})))
    assert text.count("–") == 4 and "kv.step(…, examples=N)" in text  # samples and their speed, of the worker and all


def test_of_a_pipeline_it_is_told_for_which_share_its_workers_were_idle() -> None:
    def of(rank: int, seconds: float) -> str:
        return line(rank, 1, 5.0, busy_s=0.5, pipeline_s=seconds, bubble_s=0.2 * seconds)

    summary = summarize(fold([of(0, 1.0), of(1, 0.8)]), Ends(0, 3.0), {"mode": "pipeline"})
    assert summary["bubble"] == {"measured": 0.5, "schedule": 0.2}
    assert summary["per_worker"][1]["busy_s"] == 0.5
    assert "idle in the passes 50%, by the schedule alone 20%" in lines_of(summary)
    assert "bubble" not in summarize(fold([line(0, 1, 5.0)]), Ends(0, 3.0), {})


def test_the_record_says_whose_loops_did_the_arithmetic() -> None:
    status = {"servers": [{"rank": 0, "kernels": "native"}, {"rank": 1}], "workers": [{"rank": 0, "kernels": "numpy"}]}
    assert kernels_of(status) == ["native", "numpy"]
    assert kernels_of(status, "native") == ["native", "numpy"]
    assert (kernels_of({}), kernels_of({}, "numpy")) == ([], ["numpy"])

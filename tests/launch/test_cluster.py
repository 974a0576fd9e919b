"""Promises of the launcher, on real processes: who decides the end, and that nothing is left behind."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.chrome import process_names, read_trace

Start = Callable[..., Any]
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

SLEEP = "rendezvous(4)\ntime.sleep(60)"


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_workers_that_succeed_end_the_run_with_zero_and_every_line_says_whose_it_is(launch: Start) -> None:
    run = launch(
        "import sys, os\nprint('rank', os.environ['PS_RANK'], *sys.argv[1:])\nprint('oops', file=sys.stderr)",
        args=["--lr", "3 4"],
    )
    assert run.finish() == 0, run.err
    assert "worker 0 | rank 0 --lr 3 4" in run.out
    assert "worker 1 | rank 1 --lr 3 4" in run.out
    assert "worker 0 | oops" in run.err
    assert "ssp finished after" in run.out
    assert "join with: psctl worker --scheduler tcp://127.0.0.1:45678 " in run.err
    assert "--lr '3 4'" in run.err
    run.assert_nothing_left()


def test_children_get_the_environment_that_the_plan_says(launch: Start) -> None:
    run = launch(
        "import os, stat\n"
        "print({k: v for k, v in os.environ.items() if k.startswith('PS_') or k.endswith('_THREADS')})\n"
        "print('mode', oct(stat.S_IMODE(os.stat(os.environ['PS_RUNTIME_DIR']).st_mode)))",
        workers=1,
        process={"device": "cpu", "rank": 9},
        PS_MODE="async",
        OMP_NUM_THREADS="7",
    )
    assert run.finish() == 0, run.err
    assert "'PS_RANK': '0'" in run.out
    assert "'PS_SCHEDULER': 'tcp://127.0.0.1:45678'" in run.out
    assert "'PS_DEVICE': 'cpu'" in run.out
    assert "PS_MODE" not in run.out
    assert "'OMP_NUM_THREADS': '7'" in run.out
    assert "'OPENBLAS_NUM_THREADS'" in run.out
    assert "mode 0o700" in run.out


def test_a_failed_worker_leaves_the_others_running_and_its_code_to_the_run(launch: Start) -> None:
    run = launch(
        "rendezvous(4)\nif os.environ['PS_RANK'] == '1': print('I give up'); sys.exit(3)\n"
        "time.sleep(0.5); print('went on')"
    )
    assert run.finish() == 3
    assert "worker 0 | went on" in run.out
    assert "worker 1 failed (exit code 3: nobody answered in time); 1 of 2 workers go on" in run.err
    assert "failed first: worker 1" in run.err
    assert run.err.rstrip().endswith("I give up")
    run.assert_nothing_left()


def test_a_killed_worker_is_reported_by_its_signal(launch: Start) -> None:
    run = launch("rendezvous(4)\nif os.environ['PS_RANK'] == '0': os.kill(os.getpid(), 9)")
    assert run.finish() == 137
    assert "failed first: worker 0 (killed by SIGKILL)" in run.err
    run.assert_nothing_left()


@pytest.mark.parametrize("code", [2, 7])
def test_a_mistake_that_all_workers_share_ends_the_run_at_once(launch: Start, code: int) -> None:
    run = launch(f"rendezvous(4)\nif os.environ['PS_RANK'] == '0': sys.exit({code})\ntime.sleep(60)")
    assert run.finish() == code
    run.assert_nothing_left()


def test_a_failed_server_ends_everybody_and_is_named(launch: Start) -> None:
    run = launch(SLEEP, FAKE_SERVER="rendezvous(4); print('disk on fire'); sys.exit(99)")
    assert run.finish() == 99
    assert "server 0 failed (exit code 99), and its share of the model with it" in run.err
    assert "disk on fire" in run.err
    run.assert_nothing_left()


def test_workers_that_lost_a_server_are_not_blamed_for_it(launch: Start) -> None:
    run = launch("rendezvous(4)\nsys.exit(4)", FAKE_SERVER="rendezvous(4); time.sleep(0.4); sys.exit(99)")
    assert run.finish() == 99
    assert "failed first: server 0" in run.err


def test_without_its_scheduler_training_goes_on_and_the_run_says_how_to_restart_it(launch: Start) -> None:
    run = launch(
        "rendezvous(4)\ntime.sleep(0.8); print('went on')", FAKE_SCHEDULER="ready(); rendezvous(4); sys.exit(5)"
    )
    assert run.finish() == 0
    assert run.out.count("went on") == 2
    assert "scheduler failed (exit code 5: the port or path to listen on is taken); training goes on" in run.err
    assert "psctl scheduler --host 127.0.0.1 --port 45678 --state " in run.err
    assert "--servers 1 --workers 2 --mode ssp --chunk-size 4KiB" in run.err
    run.assert_nothing_left()


def test_a_scheduler_that_dies_before_it_is_ready_ends_the_run_with_its_last_lines(launch: Start) -> None:
    run = launch(SLEEP, FAKE_SCHEDULER="print('port taken'); sys.exit(5)")
    assert run.finish() == 5
    assert "before it was ready" in run.err
    assert run.err.rstrip().endswith("port taken")
    assert len(run.children()) == 1
    run.assert_nothing_left()


@pytest.mark.parametrize(
    "body", ["print('thinking'); time.sleep(60)", "os.close(int(os.environ['PS_READY_FD'])); time.sleep(60)"]
)
def test_a_scheduler_that_is_never_ready_is_not_waited_for_longer_than_the_timeout(launch: Start, body: str) -> None:
    run = launch(SLEEP, FAKE_SCHEDULER=body, process={"connect_timeout": 0.5})
    assert run.finish() == 3
    assert "error: the scheduler was not ready after 0.5 s" in run.err
    run.assert_nothing_left()


def test_processes_that_ignore_sigterm_are_killed_within_five_seconds(launch: Start) -> None:
    run = launch("rendezvous(4)", FAKE_SERVER="stubborn(); grandchild(); time.sleep(60)", process={"grace": 1.5})
    assert run.finish() == 0
    assert time.monotonic() - run.begun < 8
    run.assert_nothing_left()


def test_what_a_worker_leaves_in_its_group_ends_with_it(launch: Start) -> None:
    run = launch("grandchild()")
    assert run.finish() == 0
    assert len(run.children()) == 6
    run.assert_nothing_left()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything_within_five_seconds(launch: Start, signum: int, code: int) -> None:
    run = launch("stubborn()\ngrandchild()\ntime.sleep(60)", process={"grace": 1.5})
    run.wait_for_processes(6)
    asked = time.monotonic()
    run.process.send_signal(signum)
    assert run.finish() == code
    assert time.monotonic() - asked < 5
    run.assert_nothing_left()


def test_a_second_signal_does_not_wait(launch: Start) -> None:
    run = launch("stubborn()\nprint('up', flush=True)\ntime.sleep(60)")
    run.wait_for_processes(4)
    for _ in range(2):
        run.process.stdout.readline()
    asked = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    while "once more" not in run.process.stderr.readline():
        pass
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 130
    assert time.monotonic() - asked < 2
    run.assert_nothing_left()


def test_a_signal_while_the_scheduler_starts_ends_it_too(launch: Start) -> None:
    run = launch(SLEEP, FAKE_SCHEDULER="time.sleep(60)")
    run.wait_for_processes(1)
    run.process.send_signal(signal.SIGTERM)
    assert run.finish() == 143
    run.assert_nothing_left()


def test_kill_9_of_the_launcher_leaves_no_process_and_no_file(launch: Start) -> None:
    run = launch("stubborn()\ngrandchild()\ntime.sleep(60)", process={"grace": 1.5})
    run.wait_for_processes(6)
    run.process.kill()
    run.finish()
    wait_until(lambda: not run.left(), 5.0)
    run.assert_nothing_left()


def test_a_run_leaves_a_record(launch: Start, tmp_path: Path) -> None:
    step = {"t": 10.0, "clock": 1, "loss": 0.5, "samples": 32, "samples_per_s": 64.0, "bytes_up": 10}
    run = launch(
        "import json\nwith open(os.environ['PS_RUN_DIR'] + '/metrics.jsonl', 'a') as f:\n"
        f"    f.write(json.dumps({step!r} | {{'rank': int(os.environ['PS_RANK'])}}) + chr(10))",
        process={"run_dir": str(tmp_path / "runs" / "first")},
        FAKE_STATUS=json.dumps({"job": {"mode": "async"}, "deaths": [{"role": "worker", "rank": 7, "why": "x"}]}),
    )
    assert run.finish() == 0, run.err
    summary = json.loads((tmp_path / "runs" / "first" / "summary.json").read_text())
    assert summary["mode"] == "async"
    assert (summary["steps"], summary["total_steps"], summary["samples"]) == (1, 2, 64)
    assert summary["members"] == {"servers": [0], "workers": [0, 1]}
    assert summary["deaths"] == [{"role": "worker", "rank": 7, "why": "x"}]
    assert summary["exit_status"] == 0
    assert sorted(path.name for path in (tmp_path / "runs" / "first").iterdir()) == [
        "metrics.jsonl",
        "summary.json",
    ]
    run.assert_nothing_left()


FEDERATED = {"mode": "federated"}
ONCE = """rendezvous(4)
path = os.environ['PS_STATE']
if os.path.exists(path): time.sleep(60)
open(path, 'w').close()
os.kill(os.getpid(), 9)"""


def test_a_federated_client_that_dies_is_started_again_with_the_same_state_file(launch: Start, tmp_path: Path) -> None:
    """The scheduler still takes its former self for alive: that is nobody who has joined from elsewhere."""
    status = """
import json, socket
rows = [{"rank": int(os.environ["PS_RANK"]), "pid": os.getpid(), "host": socket.gethostname(), "state": "live"}]
path = os.environ["FAKE_STATUS"]
if os.environ["PS_RANK"] == "0" and not os.path.exists(os.environ["PS_STATE"]):
    with open(path + ".draft", "w") as file: json.dump({"workers": rows}, file)
    os.rename(path + ".draft", path)
"""
    dies = "    os.kill(os.getpid(), 9)"
    once = f"""{status}
if os.environ["PS_RANK"] == "0" and not os.path.exists(os.environ["PS_STATE"]):
    open(os.environ["PS_STATE"], "w").close()
{dies}
rendezvous(5)"""
    process = {"run_dir": str(tmp_path / "run")}
    run = launch(once, job=FEDERATED, process=process, FAKE_STATUS=str(tmp_path / "status.json"))
    assert run.finish() == 0, run.err
    assert "worker 0 failed (killed by SIGKILL): starting it again with the state that it has kept" in run.err
    assert "joined from elsewhere" not in run.err and "declared dead" not in run.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["restarts"] == [{"process": "worker 0", "why": "killed by SIGKILL"}]
    run.assert_nothing_left()


def test_a_federated_server_that_dies_is_started_again_with_the_same_state_file(launch: Start, tmp_path: Path) -> None:
    run = launch(
        "rendezvous(5)",
        FAKE_SERVER=ONCE,
        job=FEDERATED,
        process={"run_dir": str(tmp_path / "run")},
        FAKE_STATUS=json.dumps({"federated": {"round": 1, "rounds": 2, "history": [{"round": 0, "at": 0.5}]}}),
    )
    assert run.finish() == 0, run.err
    assert "server 0 failed (killed by SIGKILL): starting it again with the state that it has kept" in run.err
    assert "1 of 2 rounds · 0 contributions accepted" in run.out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["restarts"] == [{"process": "server 0", "why": "killed by SIGKILL"}]
    assert summary["federated"]["round"] == 1
    [line] = (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()
    assert json.loads(line)["round"] == 0
    run.assert_nothing_left()


def test_a_federated_server_that_dies_again_and_again_ends_the_run_and_is_named(launch: Start) -> None:
    run = launch("time.sleep(60)", FAKE_SERVER="rendezvous(4); print('disk on fire'); sys.exit(99)", job=FEDERATED)
    assert run.finish() == 99
    assert run.err.count("starting it again") == 3
    assert "server 0 failed (exit code 99) once more: ending the others" in run.err
    assert run.err.rstrip().endswith("disk on fire")
    run.assert_nothing_left()


def test_a_federated_client_that_is_refused_leaves_the_others_at_work(launch: Start) -> None:
    run = launch("rendezvous(4)\nif os.environ['PS_RANK'] == '1': sys.exit(7)\nprint('went on')", job=FEDERATED)
    assert run.finish() == 7
    assert "worker 0 | went on" in run.out


TRACED = (
    "import os; from ps.trace import start\n"
    "trace = start(os.environ['PS_TRACE'], 'worker', int(os.environ['PS_RANK']))\n"
    "trace.add('compute', trace.now())\nrendezvous(4)\n"
)


@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ("trace.close()", 0),
        ("trace.close(); sys.exit(3)", 3),
        ("trace.flush()\nif os.environ['PS_RANK'] == '1': os.kill(os.getpid(), 9)", 137),
    ],
    ids=["finished", "failed", "killed"],
)
def test_a_traced_run_leaves_one_timeline_however_it_ended(launch: Start, tmp_path: Path, rest: str, code: int) -> None:
    run = launch(TRACED + rest, process={"trace": str(tmp_path / "t.json")})
    assert run.finish() == code
    assert process_names(read_trace(tmp_path / "t.json")) == ["worker 0", "worker 1"]
    assert f"the timeline of 2 processes is in {tmp_path}/t.json: open it in" in run.err
    assert list(tmp_path.glob("*.part")) == []
    run.assert_nothing_left()


def test_an_interrupted_run_leaves_its_timeline(launch: Start, tmp_path: Path) -> None:
    run = launch(
        TRACED + "trace.flush()\nprint('up', flush=True)\ntime.sleep(60)", process={"trace": f"{tmp_path}/t.json"}
    )
    for _ in range(2):
        run.process.stdout.readline()
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 130
    assert process_names(read_trace(tmp_path / "t.json")) == ["worker 0", "worker 1"]
    assert list(tmp_path.glob("*.part")) == []
    run.assert_nothing_left()


def test_a_timeline_that_nowhere_fits_is_said_before_anything_starts(launch: Start, tmp_path: Path) -> None:
    run = launch("", process={"trace": str(tmp_path / "no" / "t.json")})
    assert run.finish() == 2
    assert "error: cannot write the trace to" in run.err
    assert run.children() == []
    run.assert_nothing_left()


def test_a_torrent_of_output_is_kept_apart_by_line(launch: Start) -> None:
    run = launch("for i in range(5000): print(os.environ['PS_RANK'], i)\nprint('no newline', end='')")
    assert run.finish() == 0
    lines = [line for line in run.out.splitlines() if line.startswith("worker 1 | ")]
    assert lines[:5000] == [f"worker 1 | 1 {i}" for i in range(5000)]
    assert lines[5000] == "worker 1 | no newline"


def test_a_reader_that_goes_away_does_not_stop_the_run(launch: Start) -> None:
    run = launch("for i in range(20000): print(i)")
    run.process.stdout.close()
    run.process.stdout = None
    assert run.finish() == 0
    run.assert_nothing_left()

"""The comparison does the same work in every way, survives who fails in it, and leaves nothing behind. Not how fast."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from race import report
from race.adam import adam
from race.case import Case, Peer, Setup
from race.models import models
from race.parts import OTHERS, PARTS, Scale, members, title
from race.plot import plot
from race.process import Failed, Process, hear
from race.targets import targets
from race.turns import Result, Table, in_groups, take_turns

import compare
from support.long import is_long

BENCH = Path(compare.__file__).parent

BY_ANOTHER = ("ps shm, private params", "ps shm, no NaN check", "gloo, default threads")
"""Cases of two workers with --long: the whole run has ours with one, and gloo's differs in a number of threads."""

ONE, TWO = Setup(1, 1, 40_000), Setup(2, 2, 40_000, chunk=10_000)

BROKEN = """
import os, sys
from peers import memory
def start(setup, options, launch): return launch.server(0) if options["how"] == "server" else ""
def serve(setup, options, index, announce): sys.exit("the server would not serve")
class Rank:
    def __init__(self, setup, how): self.w, self.how, self.done = setup.weights(), how, 0
    def steps(self, count):
        self.done += count
        self.w -= 0.125
        if self.how == "later" and self.done > 3: os._exit(3)
    def weights(self): return self.w if self.how != "wrong" else self.w * 2
    def close(self): pass
def join(setup, options, rank, meeting):
    if options["how"] == "join": raise RuntimeError("two\\nlines")
    return Rank(setup, options["how"])
"""


def children() -> set[int]:
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


def descendants(pid: int) -> set[int]:
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def race(setup: Setup, cases: list[Case]) -> list[Result]:
    before = children()
    results = take_turns(setup, cases, 2, 0.01, lambda line: None)
    assert children() == before
    return results


def cases_of(module: str, setup: Setup) -> list[Case]:
    peer: Peer = importlib.import_module(f"peers.{module}")
    found = peer.cases(setup)
    reasons = {peer.absent(case.options) for case in found}
    if reasons != {""}:
        pytest.skip("; ".join(filter(None, reasons)))
    return found


@pytest.mark.e2e
@pytest.mark.parametrize("module", ["memory", "raw_socket", "zmq_echo", "zmq_server", "ray_actor"])
def test_one_worker_does_the_work(module: str) -> None:
    results = race(ONE, cases_of(module, ONE))
    assert [result.error for result in results] == [""] * len(results)
    assert all(0 < result.median < 10 for result in results)


@pytest.mark.e2e
@pytest.mark.parametrize("module", ["zmq_server", "gloo", "ddp", "ray_actor", "paramserver"])
def test_two_workers_end_with_the_mean_of_their_gradients_applied(module: str) -> None:
    results = race(TWO, [case for case in cases_of(module, TWO) if is_long() or case.name not in BY_ANOTHER])
    assert [result.error for result in results] == [""] * len(results)
    assert all(len(result.seconds) == 2 for result in results)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("join", "RuntimeError: two lines"),
        ("server", "the server would not serve"),
        ("wrong", "not 10000 times 0.875"),
        ("later", "rank 0 ended"),
    ],
)
def test_who_fails_is_reported_and_the_others_go_on(
    how: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"broken_{how}.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = Case("broken", f"broken_{how}", "peer", "none", options={"how": how})
    good = cases_of("memory", ONE)[0]
    first, last = race(ONE, [broken, good])
    assert says in first.error
    assert "\n" not in first.error
    assert math.isnan(first.median)
    assert (last.error, len(last.seconds)) == ("", 2)


def test_every_wait_has_a_bound_and_an_end_that_is_certain(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    process = Process("stubborn", [sys.executable, "-c", stubborn], {}, tmp_path / "log")
    try:
        with pytest.raises(Failed, match=r"no answer from stubborn after 0\.1 s"):
            hear([process], 0.1)
    finally:
        process.end(0.0, 0.2)
    assert not alive(process.pid)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose name leaves room for sockets."""
    with tempfile.TemporaryDirectory(prefix="t", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.mark.e2e
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_nothing_is_left_however_it_ends(signum: int, code: int, tmp_path: Path, short_path: Path) -> None:
    command = [sys.executable, str(BENCH / "compare.py"), "--only", "two", "--size", "400KB", "--peers", "none"]
    env = {**os.environ, "TMPDIR": str(short_path)}
    log = tmp_path / "log"
    with log.open("w") as output:
        running = subprocess.Popen([*command, "--seconds", "5"], env=env, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while len(below := descendants(running.pid)) < 5:
            assert time.monotonic() < deadline, log.read_text()
            assert running.poll() is None, log.read_text()
            time.sleep(0.05)
        running.send_signal(signum)
        assert running.wait(60) == code, log.read_text()
        while any(map(alive, below)):
            assert time.monotonic() < deadline + 30
            time.sleep(0.05)
    finally:
        running.kill()
        running.wait()
    if signum != signal.SIGKILL:
        assert list(short_path.iterdir()) == []
        assert "interrupted" in log.read_text()


def test_a_process_that_is_being_started_when_it_is_interrupted_is_ended_as_well(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **options: Any) -> None:
            super().__init__(*given, **options)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    before = children()
    with pytest.raises(KeyboardInterrupt):
        take_turns(ONE, [Case("memory", "peers.memory", "peer", "", "", {})], 1, 0.01, lambda line: None)
    assert children() == before
    assert list(short_path.iterdir()) == []


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("part", "workers"),
    [("one", 1), pytest.param("two", 2, marks=pytest.mark.long("the cases are run by the test of two workers"))],
)
def test_a_whole_run_prints_and_writes_everything(part: str, workers: int, tmp_path: Path) -> None:
    files = [
        "--json",
        str(tmp_path / "a.json"),
        "--markdown",
        str(tmp_path / "a.md"),
        "--plot",
        str(tmp_path / "a.png"),
    ]
    given = ["--only", part, "--size", "400KB", "--repeats", "2", "--seconds", "0.01", "--peers", "zmq_server"]
    command = [sys.executable, str(BENCH / "compare.py"), *given, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{workers} worker{'s' * (workers > 1)}, 1 server: 400 KB" in done.stdout
    assert "not measured" in done.stdout
    written = json.loads((tmp_path / "a.json").read_text())
    (table,) = written["tables"]
    assert table["setup"]["workers"] == workers
    names = [case["name"] for case in table["cases"]]
    assert {"in place", "memcpy", "ps tcp", "ps ipc", "ps shm", "pyzmq server, ipc"} <= set(names) | set(
        table["absent"]
    )
    for case in table["cases"]:
        assert case["settings"]
        assert case["median"] > 0
        assert len(case["seconds_per_step"]) == 2
    assert {"cpu", "cores", "python", "pyzmq"} <= set(written["machine"])
    assert {row["verdict"] for row in written["targets"]} <= {"reached", "missed", "not measured"}
    assert "| ps ipc |" in (tmp_path / "a.md").read_text()
    assert (tmp_path / "a.png").exists() or "no plot: matplotlib is not installed" in done.stdout


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--only", "one,nine"], "'nine' is not one of one, two, four"),
        (["--peers", "carrier_pigeon"], "is not one of raw_socket"),
        (["--size", "3"], "not a size of whole float32 numbers"),
        (["--size", "much"], "not a size of whole float32 numbers"),
        (["--repeats", "0"], "not a whole number from 1"),
        (["--seconds", "0"], "not a time above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(given: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.arguments().parse_args(given)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_parts_come_in_their_own_order_and_peers_can_be_left_out() -> None:
    options = compare.arguments().parse_args(["--only", "latency,one", "--peers", "none"])
    assert options.only == ["one", "latency"]
    assert options.peers == []
    found, _ = members("one", ONE, [])
    assert {case.kind for case in found} == {"ps", "limit"}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("quick", [False, True])
def test_every_part_has_someone_to_compare_and_a_title_of_its_own(name: str, quick: bool) -> None:
    setups = PARTS[name].setups(Scale(quick=quick))
    titles = [title(name, setup) for setup in setups]
    assert len(set(titles)) == len(setups) >= 1
    for setup in setups:
        found, absent = members(name, setup, OTHERS)
        assert "ps tcp" in {case.name for case in found}
        assert all(absent.values())
        assert all(case.settings for case in found)


def test_what_does_not_fit_into_memory_together_takes_turns_in_groups() -> None:
    case = Case("a", "a", "peer", "none")
    cases = [dataclasses.replace(case, name=str(number)) for number in range(5)]
    large = Setup(2, 1, 400_000_000)
    assert in_groups(large, cases, math.inf) == [cases]
    assert [len(group) for group in in_groups(large, cases, 8e9)] == [2, 2, 1]
    assert [len(group) for group in in_groups(large, cases, 1e6)] == [1] * 5


def made_table(part: str = "one", **seconds: float) -> Table:
    kinds = {"in place": "limit", "gloo, 1 thread": "peer", "DDP": "peer"}
    results = [
        Result(Case(name, "m", kinds.get(name, "ps"), "as it comes"), 1, [taken, taken])  # type: ignore[arg-type]
        for name, taken in seconds.items()
    ]
    return Table(part, "a title", Setup(2, 1, 40_000_000), results)


def test_targets_are_ratios_within_the_run_and_the_best_of_a_peer_counts() -> None:
    one = made_table(**{"in place": 0.004, "ps shm": 0.005, "ps shm, private params": 0.009})
    two = made_table("two", **{"gloo, 1 thread": 0.03, "gloo, default threads": 0.04, "ps shm": 0.02})
    alone = {"ps.optim": 0.02, "fused loop": 0.019}
    found = targets([one, two], alone, {"CNN": {"ps.models": 1.1, "torch": 1}})
    rows = {(row.what[:9], row.case): row for row in found}
    assert rows["1 worker:", "ps shm"].ratio == pytest.approx(0.8)
    assert rows["1 worker:", "ps shm"].verdict == "reached"
    assert rows["1 worker:", "ps shm, private params"].verdict == "missed"
    assert rows["2 workers", "ps shm"].ratio == pytest.approx(1.5)
    assert rows["4 workers", "ps shm"].verdict == "not measured"
    assert rows["Adam: spe", "ps.optim"].verdict == "reached"
    assert rows["CNN: time", "ps.models"].verdict == "reached"


def test_reports_hold_failures_and_gaps() -> None:
    table = made_table(
        **{"in place": 0.004, "ps shm": 0.005, "gloo, 1 thread": 0.02, "DDP": 0.03, "in place, 2 threads": 0.003}
    )
    table.results[1].case = dataclasses.replace(table.results[1].case, passes=4)
    table.results[3].error = "it | broke"
    lines = "\n".join(report.text(table))
    assert "failed: it | broke" in lines
    assert "0.800        0.80        4.00" in lines
    steps = {"CNN": {"ps.models": 0.012, "torch": 0.01}}
    marked = "\n".join(report.markdown({"cores": 2}, [table], {}, steps, targets([table], {}, steps)))
    assert "| DDP | failed: it / broke | | | | |" in marked
    assert "| ps shm | 5.000 | 8.00 | 0.800 | 0.80 | 4.00 |" in marked
    assert "| CNN | 12.00 | 10.00 |" in marked
    written = json.loads(json.dumps(report.as_json({}, [table], {}, steps, []), allow_nan=False))
    assert written["tables"][0]["cases"][3]["error"]
    assert written["models"] == steps


def test_without_matplotlib_there_is_a_line_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "not installed" in plot([made_table(**{"ps shm": 1.0})], "", tmp_path / "a.png")


def test_a_sweep_is_one_table_and_one_plot(tmp_path: Path) -> None:
    bars = made_table(**{"in place": 0.004, "ps shm": 0.005, "gloo, 1 thread": 0.02})
    sweep = []
    for workers in (1, 2, 4):
        table = made_table("workers", **{"in place": 0.004, "ps shm": 0.005 * workers})
        sweep.append(dataclasses.replace(table, x="workers", setup=Setup(workers, 2, 40_000_000)))
    marked = list(report.markdown({}, sweep, {}, {}, []))
    assert "| ps shm | 5.00 | 10.00 | 20.00 |" in marked
    pytest.importorskip("matplotlib", reason="the bench extra is not installed")
    assert plot([bars, *sweep], "words", tmp_path / "a.png") == ""
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_the_fused_adam_does_what_ours_does() -> None:
    seconds, words = adam(10_000, 2)  # raises when the weights differ
    if "fused loop" not in seconds:
        pytest.skip(words)
    assert seconds.keys() == {"in place", "ps.optim", "fused loop"}


@pytest.mark.parametrize("name", ["CNN", "MLP"])
def test_models_learn_what_torchs_do(name: str) -> None:
    pytest.importorskip("torch", reason="the torch extra is not installed")
    steps = dict(models(1, 1, (name,), (10,)))  # raises where they do not
    assert steps.keys() == {f"{name}, batches of 10, 1 thread"}
    assert all(set(taken) == {"ps.models", "torch"} for taken in steps.values())


def test_the_limits_touch_every_byte() -> None:
    memory = importlib.import_module("peers.memory")
    ways = [({"what": "update"}, 0.5), ({"what": "update", "shared": True}, 0.5), ({"what": "copy"}, 0.25)]
    ways += [({"what": "update", "threads": 2}, 0.5)]
    for options, value in ways:
        loop = memory.join(ONE, options, 0, "")
        loop.steps(2)
        assert np.all(loop.model == np.float32(value))


@pytest.mark.e2e
def test_a_soak_watches_every_process(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    given = ["--minutes", "0.02", "--transport", "ipc", "--size", "4MB", "--json", str(file)]
    command = [sys.executable, str(BENCH / "soak.py"), *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert "GB/s of model" in done.stdout, done.stderr
    written = json.loads(file.read_text())
    assert set(written["memory"]) == {"scheduler", "server 0", "rank 0", "rank 1"}
    assert all(10e6 < row["first"] <= row["most"] for row in written["memory"].values())
    grown = any(row["most"] > 1.02 * row["first"] for row in written["memory"].values())
    assert done.returncode == int(grown)


@pytest.mark.e2e
@pytest.mark.long("worker/test_shm.py counts the memory of one worker")
def test_a_job_in_shared_memory_shares_one_model_and_a_gradient_for_each_worker() -> None:
    command = [sys.executable, str(BENCH / "footprint.py"), "--size", "4096KB", "--workers", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    found = json.loads(done.stdout)
    assert found["shared"] == 3 * 4096 * 1000
    assert set(found["own"]) == {"scheduler", "server 0", "rank 0", "rank 1"}

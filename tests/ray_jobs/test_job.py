"""Promises of a job on Ray: who is lost is started again where the mode allows it, and in the end nothing is left."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ps.launch.screen import Screen
from ps.ray.cluster import RayProcess
from ps.ray.commands import RayCommands
from ps.ray.job import RayJob
from ps.ray.options import RayOptions, read_options
from ps.ray.start import ProcessLost, ProcessNews, ProcessStart, StartedAt
from support.rendered import workload

Step = Callable[["FakeRoom"], None]


class FakeRoom:
    """Room on no cluster: each process begins at once, and a test says what becomes of it, one step a look."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.made: list[int] = []
        self.released: list[Any] = []
        self.begun: list[ProcessStart] = []
        self.there: dict[str, RayProcess] = {}
        self.happens: list[tuple[RayProcess, Any]] = []
        self.time = 0.0
        self.is_full = False
        self.asked: list[str] = []

    def prepare(self, number: int, bundle: Any) -> int:
        self.made.append(number)
        return number

    def release(self, actor: Any) -> None:
        self.released.append(actor)

    def begin(self, actor: Any, start: ProcessStart) -> RayProcess:
        self.begun.append(start)
        process = self.there[start.name] = RayProcess(start, actor)
        if self.is_full:
            self.happens.append((process, ProcessLost("its node has died", begun=False)))
            return process
        process.place = StartedAt("n1", "10.0.0.1", 100 + len(self.begun))
        self.happens.append((process, process.place))
        if start.role == "scheduler":
            self.happens.append((process, ProcessNews(0, (), "tcp://10.0.0.1:7070")))
        return process

    def events(self, limit: float) -> Iterator[tuple[RayProcess, Any]]:
        self.time += max(limit, 0.1)
        if not self.happens and self.steps:
            self.steps.pop(0)(self)
        found, self.happens = self.happens, []
        yield from found

    def ask(self, process: RayProcess, grace: float) -> None:
        self.asked.append(process.start.name)
        self.end(process.start.name, 143)

    def forget(self, process: RayProcess) -> None:
        process.is_over = True

    def end(self, name: str, code: int, *lines: str) -> None:
        self.happens.append((self.there[name], ProcessNews(0, tuple((True, line) for line in lines), None, code)))

    def lose(self, name: str) -> None:
        self.happens.append((self.there[name], ProcessLost("its node has died", begun=True)))


def ended(*names: str, code: int = 0) -> Step:
    return lambda room: [room.end(name, code, f"{name} says") for name in names] and None


def lost(name: str) -> Step:
    return lambda room: room.lose(name)


def passing(seconds: float) -> Step:
    def pass_time(room: FakeRoom) -> None:
        room.time += seconds

    return pass_time


def played(
    tmp_path: Path, *steps: Step, received: list[int] | None = None, retries: int = 3, **settings: Any
) -> tuple[Any, FakeRoom, str]:
    work = workload("--epochs", "3", **{"servers": 1, "workers": 2, "insecure": True, **settings})
    options = RayOptions({"CPU": 2.0}, {"CPU": 1.0}, retries=retries)
    room, out = FakeRoom(*steps), io.StringIO()
    commands = RayCommands(work, options, tmp_path, is_placed=False)
    result = RayJob(
        work, commands, room, Screen(out, out), [] if received is None else received, options, lambda: room.time
    ).run()
    return result, room, out.getvalue()


def test_scheduler_first_then_everybody_by_its_address_and_all_ends_with_the_workers(tmp_path: Path) -> None:
    result, room, said = played(tmp_path, ended("worker 0", "worker 1"), ended("scheduler", "server 0"))
    assert (result.status, result.failed_first) == (0, None)
    assert [start.name for start in room.begun] == ["scheduler", "server 0", "worker 0", "worker 1"]
    scheduler, server, worker, _ = room.begun
    assert "--gather" in scheduler.words and "--scheduler" not in scheduler.words
    for each in (server, worker):
        assert each.words[each.words.index("--scheduler") + 1] == "tcp://10.0.0.1:7070"
    assert worker.words[-4:] == ("--", "train.py", "--epochs", "3") and worker.cwd == str(Path.cwd())
    assert "worker 1 | worker 1 says" in said and "worker 0 is on n1 (10.0.0.1), process" in said


def test_threads_follow_what_ray_was_asked_for(tmp_path: Path) -> None:
    _, room, said = played(tmp_path, ended("worker 0", "worker 1"))
    threads = {start.role: start.env["OMP_NUM_THREADS"] for start in room.begun}
    assert threads == {"scheduler": "1", "server": "1", "worker": "2"}
    assert room.begun[2].words[room.begun[2].words.index("--threads") + 1] == "2" and ", 2 threads" in said


def test_a_lost_worker_is_started_again_and_that_is_no_failure(tmp_path: Path) -> None:
    result, room, said = played(
        tmp_path, lost("worker 1"), passing(2), passing(0), ended("worker 0", "worker 1"), ended("scheduler")
    )
    assert result.status == 0 and [start.name for start in room.begun].count("worker 1") == 2
    assert room.begun[-1].env["PS_SUGGESTED_RANK"] == "1" and "--rank" not in room.begun[-1].words
    assert "worker 1 is lost: its node has died" in said and "starting it again, 1 of at most 3 times" in said


def test_a_worker_that_no_node_has_room_for_is_tried_again_and_then_given_up(tmp_path: Path) -> None:
    def fill(room: FakeRoom) -> None:
        room.is_full = True
        room.lose("worker 1")

    result, room, said = played(tmp_path, fill, *[passing(10)] * 30, ended("worker 0"), ended("scheduler"))
    assert result.status == 0 and [start.name for start in room.begun].count("worker 1") > 3
    assert "worker 1 is tried again elsewhere: its node has died" in said
    assert "Ray had no room for worker 1 in 120 s" in said and "1 of 2 workers go on" in said


def test_a_lost_server_without_anything_kept_ends_the_job_with_its_code(tmp_path: Path) -> None:
    result, room, said = played(tmp_path, lost("server 0"))
    assert result.status == 137 and result.failed_first.name == "server 0"
    assert len(room.begun) == 4 and "and its share of the model with it" in said
    assert {"worker 0", "worker 1", "scheduler"} <= set(room.asked)


@pytest.mark.parametrize("kept", [{}, {"checkpoint_dir": "kept"}])
def test_no_other_scheduler_is_started_beside_the_members_of_one_that_is_lost(
    tmp_path: Path, kept: dict[str, Any]
) -> None:
    _, room, said = played(tmp_path, lost("scheduler"), *[passing(2)] * 3, ended("worker 0", "worker 1"), **kept)
    assert "starting it again" not in said
    names = [start.name for start in room.begun]
    assert names.count("scheduler") == names.count("server 0"), "each life has one"


@pytest.mark.parametrize("who", ["server 0", "scheduler"])
def test_a_job_that_keeps_checkpoints_begins_again_as_a_whole(who: str, tmp_path: Path) -> None:
    result, room, said = played(
        tmp_path, lost(who), *[passing(0)] * 3, ended("worker 0", "worker 1"), ended("scheduler"), checkpoint_dir="kept"
    )
    assert result.status == 0 and [start.name for start in room.begun].count("scheduler") == 2
    assert "the job begins again from what it has kept, 1 of at most 3 times" in said


def test_it_does_so_only_as_often_as_was_said(tmp_path: Path) -> None:
    result, room, _ = played(
        tmp_path, lost("server 0"), lost("server 0"), lost("server 0"), checkpoint_dir="kept", retries=1
    )
    assert result.status == 137 and [start.name for start in room.begun].count("scheduler") == 2


def test_a_server_with_a_standby_is_started_again(tmp_path: Path) -> None:
    result, room, _ = played(
        tmp_path, lost("server 0"), passing(2), passing(0), ended("worker 0", "worker 1"), replicas=1
    )
    assert result.status == 0 and [start.role for start in room.begun].count("server") == 3
    assert all("--rank" not in start.words for start in room.begun)


def test_a_script_that_fails_is_not_started_again_and_its_code_and_lines_are_the_jobs(tmp_path: Path) -> None:
    steps = ended("worker 1", code=1), ended("worker 0"), ended("scheduler")
    result, room, said = played(tmp_path, *steps, checkpoint_dir="kept")
    assert (result.status, result.failed_first.name, result.tail) == (1, "worker 1", ("worker 1 says",))
    assert len(room.begun) == 4 and "begins again" not in said


def test_a_signal_ends_all_and_begins_nothing_again(tmp_path: Path) -> None:
    received: list[int] = []
    result, room, said = played(
        tmp_path, lambda room: received.append(signal.SIGTERM), received=received, checkpoint_dir="kept"
    )
    assert (result.status, result.signal) == (143, signal.SIGTERM)
    assert room.asked[:2] == ["worker 0", "worker 1"] and sorted(room.asked[2:]) == ["scheduler", "server 0"]
    assert "begins again" not in said


def test_a_scheduler_that_cannot_begin_ends_it_and_frees_what_was_made_for_the_others(tmp_path: Path) -> None:
    room_steps = ended("scheduler", code=5)
    work = workload(servers=1, workers=2, insecure=True)
    options, out = RayOptions({"CPU": 1.0}, {"CPU": 1.0}), io.StringIO()
    room = FakeRoom(room_steps)

    def begin(actor: Any, start: ProcessStart) -> RayProcess:
        room.there[start.name] = RayProcess(start, actor)
        return room.there[start.name]

    room.begin = begin  # type: ignore[method-assign]
    commands = RayCommands(work, options, tmp_path, is_placed=True)
    result = RayJob(work, commands, room, Screen(out, out), [], options, lambda: room.time).run()
    assert result.status == 5 and sorted(room.released) == [1, 2, 3]


def test_each_process_has_keys_of_its_own(tmp_path: Path) -> None:
    _, room, said = played(tmp_path, ended("worker 0", "worker 1"), insecure=False)
    keys = {start.name: start.keys["private.key"] for start in room.begun}
    assert len(set(keys.values())) == 4 and "psctl status --scheduler tcp://10.0.0.1:7070 --keys " in said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"worker": {"CPU": -1}}, "resources has 'CPU' = -1"),
        ({"worker": {"GPU": 1.5}}, "resources has GPU = 1.5: Ray divides one of it"),
        ({"server": {"": 1}}, "server_resources has ''"),
        ({"server": {"x": float("nan")}}, "server_resources has 'x' = nan"),
        ({"strategy": "tight"}, "strategy 'tight' is none"),
        ({"wait": 0}, "wait = 0"),
        ({"env": {"A=B": "1"}}, "env has 'A=B'"),
    ],
)
def test_what_ray_cannot_give_is_refused(given: dict[str, Any], why: str) -> None:
    whole = {"worker": None, "server": None, "address": "auto", "strategy": "pack", "wait": 1.0, "retries": 0}
    whole |= {"working_dir": None, "env": None, "caller": "ps.ray.run"}
    with pytest.raises(Exception, match=why.replace("(", r"\(")):
        read_options(**{**whole, **given})

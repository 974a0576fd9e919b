"""Promises of a record that several lives have written: it shows one run, and loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ps.compare.record import read
from ps.launch.summary import read_record
from ps.record_files import EVALUATIONS, LIVES, METRICS
from ps.record_lives import RecordLife, RecordLives, go_on

RUN = "20261127-120000-abcdef"


def life(number: int, parent: int = 0, step: int = 0, **more: Any) -> RecordLife:
    return RecordLife(number, parent, step, RUN, RUN, **more)


def steps(folder: Path, number: int, begin: int, end: int, ranks: tuple[int, ...] = (0, 1)) -> None:
    """Have a life write of its steps, and evaluate after every tenth."""
    of = {} if number == 1 else {"life": number}
    with (folder / METRICS).open("a") as metrics, (folder / EVALUATIONS).open("a") as evaluations:
        for clock in range(begin, end):
            for rank in ranks:
                line = {"t": 1000.0 + clock, "rank": rank, "clock": clock, "samples": 1, "loss": float(number), **of}
                metrics.write(json.dumps(line) + "\n")
            if (clock + 1) % 10 == 0:
                line = {"t": 1000.0 + clock, "rank": 0, "clock": clock + 1, "accuracy": number / 10, **of}
                evaluations.write(json.dumps(line) + "\n")


def shown(folder: Path) -> list[tuple[int, float]]:
    """Return the clocks of rank 0 that are of the run, and the life that each is of by its loss."""
    lives = RecordLives.read(folder)
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [(line["clock"], line["loss"]) for line in lines if line["rank"] == 0 and lives.has_step(line)]


def test_what_a_crash_and_going_back_have_lost_stays_in_the_files_and_is_not_of_the_run(tmp_path: Path) -> None:
    go_on(tmp_path, life(1))
    steps(tmp_path, 1, 0, 48)
    now, lost = go_on(tmp_path, life(2, parent=1, step=42))  # killed at 48, gone on from 42
    assert (lost, now.tracked, now.before) == (12, f"{RUN}.2", RUN)
    steps(tmp_path, 2, 42, 60)
    assert shown(tmp_path) == [*((c, 1.0) for c in range(42)), *((c, 2.0) for c in range(42, 60))]
    kept = (tmp_path / METRICS).read_text()
    _, lost = go_on(tmp_path, life(3, parent=1, step=20))  # gone back to 20, of the first life
    steps(tmp_path, 3, 20, 30)
    assert lost == 2 * (22 + 18) + 2 + 2
    assert shown(tmp_path) == [*((c, 1.0) for c in range(20)), *((c, 3.0) for c in range(20, 30))]
    assert (tmp_path / METRICS).read_text().startswith(kept)
    workers, measured = read_record(tmp_path)
    assert [(worker.steps, worker.clock, worker.loss) for worker in workers] == [(30, 29, 3.0)] * 2
    assert measured == {"clock": 30, "rank": 0, "metrics": {"accuracy": 0.3}}
    record = read(tmp_path)
    assert [(point.clock, point.value) for point in record.points] == [(10, 0.1), (20, 0.1), (30, 0.3)]
    assert [one.examples for one in record.participants] == [30, 30] and record.clock == 30


def test_going_back_to_what_a_line_in_between_had_left_has_its_steps_again(tmp_path: Path) -> None:
    steps(tmp_path, 1, 0, 40)
    for number, parent, step, end in ((2, 1, 10, 20), (3, 1, 30, 35)):
        go_on(tmp_path, life(number, parent=parent, step=step))
        steps(tmp_path, number, step, end)
    assert shown(tmp_path) == [*((c, 1.0) for c in range(30)), *((c, 3.0) for c in range(30, 35))]


def test_where_workers_have_clocks_of_their_own_each_loses_its_own_steps(tmp_path: Path) -> None:
    go_on(tmp_path, life(1))
    steps(tmp_path, 1, 0, 20, ranks=(0,))
    steps(tmp_path, 1, 0, 14, ranks=(1,))
    _, lost = go_on(tmp_path, life(2, parent=1, step=15, steps={0: 15, 1: 12}))
    assert lost == 5 + 2 + 1
    assert RecordLives.read(tmp_path).latest == RecordLife(2, 1, 15, RUN, f"{RUN}.2", {0: 15, 1: 12}, RUN)


def test_a_run_that_began_anew_before_its_first_checkpoint_shows_none_of_the_steps_before(tmp_path: Path) -> None:
    go_on(tmp_path, life(1))
    steps(tmp_path, 1, 0, 5)
    assert go_on(tmp_path, life(2))[1] == 10
    steps(tmp_path, 2, 0, 3)
    assert shown(tmp_path) == [(c, 2.0) for c in range(3)]


def test_a_life_that_lost_nothing_is_tracked_as_the_one_before(tmp_path: Path) -> None:
    go_on(tmp_path, life(1))
    steps(tmp_path, 1, 0, 20)
    now, lost = go_on(tmp_path, life(2, parent=1, step=20))
    assert (lost, now.tracked, now.before) == (0, RUN, "")
    steps(tmp_path, 2, 20, 25)
    assert go_on(tmp_path, life(3, parent=2, step=22))[0].tracked == f"{RUN}.3"
    assert go_on(tmp_path, life(4, parent=3, step=22))[0].tracked == f"{RUN}.3"


def test_a_line_that_a_death_has_cut_off_spoils_none_after_it_and_a_torn_life_is_passed_over(tmp_path: Path) -> None:
    go_on(tmp_path, life(1))
    steps(tmp_path, 1, 0, 3)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"t": 1.0, "rank": 0, "clo')
    with (tmp_path / LIVES).open("a") as file:
        file.write('{"life": 2, "par')
    go_on(tmp_path, life(2, parent=1, step=3))
    steps(tmp_path, 2, 3, 4)
    lines = (tmp_path / METRICS).read_text().splitlines()
    assert json.loads(lines[-1])["life"] == 2 and len(lines) == 9
    assert [worker.steps for worker in read_record(tmp_path)[0]] == [4, 4]


def test_a_record_without_lives_is_whole(tmp_path: Path) -> None:
    steps(tmp_path, 1, 0, 4)
    assert [worker.steps for worker in read_record(tmp_path)[0]] == [4, 4]
    assert RecordLives.read(tmp_path).latest is None

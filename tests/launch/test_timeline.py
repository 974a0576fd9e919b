"""Promises of ps.launch.timeline: a file that can be written is known at the start, parts are cleared away."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.errors import UsageError
from ps.launch.timeline import Timeline
from ps.trace import start
from support.chrome import process_names, read_trace


def filled(timeline: Timeline, role: str, rank: int) -> Path:
    path = timeline.part(role, rank)
    start(path, role, rank).close()
    return Path(path)


def test_the_parts_lie_beside_the_file_and_go_when_it_is_there(tmp_path: Path) -> None:
    timeline = Timeline(str(tmp_path / "t.json"))
    paths = [filled(timeline, "server", 0), filled(timeline, "worker", 3)]
    assert [path.name for path in paths] == ["t.json.server-0.part", "t.json.worker-3.part"]
    timeline.part("worker", 4)  # this one never came as far as to begin a part, and the next one no further
    Path(timeline.part("worker", 5)).touch()
    said: list[str] = []
    timeline.finish(said.append, lambda: False)
    assert process_names(read_trace(tmp_path / "t.json")) == ["worker 3", "server 0"]
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    [line] = said
    assert line.startswith(f"the timeline of 2 processes is in {tmp_path}/t.json: open it in https://ui.perfetto.dev")


def test_a_process_that_is_started_again_has_one_part(tmp_path: Path) -> None:
    timeline = Timeline(str(tmp_path / "t.json"))
    assert timeline.part("server", 0) == str(filled(timeline, "server", 0))
    timeline.finish(lambda text: None, lambda: False)
    assert process_names(read_trace(tmp_path / "t.json")) == ["server 0"]


def test_an_earlier_runs_parts_are_not_taken_for_this_runs(tmp_path: Path) -> None:
    filled(Timeline(str(tmp_path / "t.json")), "worker", 9)
    (tmp_path / "t.json.notes.part").touch()
    timeline = Timeline(str(tmp_path / "t.json"))
    filled(timeline, "worker", 0)
    timeline.finish(lambda text: None, lambda: False)
    assert process_names(read_trace(tmp_path / "t.json")) == ["worker 0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.json", "t.json.notes.part"]


def test_a_file_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "no file"), (tmp_path / "no" / "t", "No such file"), (Path("/dev/null"), "no file")):
        with pytest.raises(UsageError, match=rf"cannot write the trace to {path}: .*{why}"):
            Timeline(str(path))
    assert Path("/dev/null").is_char_device()


def test_the_parts_stay_when_they_cannot_be_merged(tmp_path: Path) -> None:
    timeline = Timeline(str(tmp_path / "t.json"))
    path = filled(timeline, "worker", 0)
    said: list[str] = []
    timeline.finish(said.append, lambda: True)
    (tmp_path / "t.json").mkdir()
    timeline.finish(said.append, lambda: False)
    assert path.exists()
    assert said[0].startswith("the trace was not merged; its parts are ")
    assert said[1].startswith(f"cannot write the trace to {tmp_path}/t.json: Is a directory; its parts are ")
    assert all(f"try: psctl trace merge OUT {tmp_path}/t.json.*.part" in text for text in said)


def test_a_run_that_was_never_traced_leaves_an_earlier_timeline(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("an earlier run's")
    timeline = Timeline(str(tmp_path / "t.json"))
    Path(timeline.part("worker", 0)).touch()
    said: list[str] = []
    timeline.finish(said.append, lambda: False)
    assert said == [f"no process came as far as to be traced: there is no {tmp_path}/t.json of this run"]
    assert (tmp_path / "t.json").read_text() == "an earlier run's"
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]

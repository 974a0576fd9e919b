"""Promises of --trace on the command line, and of psctl trace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ps.cli import main
from ps.server.shard import service
from ps.trace import BEGIN, END, PASS, events, start
from support.chrome import read_trace


def recorded(name: str, role: str = "worker", rank: int = 0, chunks: int = 2) -> str:
    trace = start(name, role, rank)
    for chunk in range(chunks):
        for station, lane in ((BEGIN, "send"), (END, "land")) if role == "worker" else ((PASS, "apply"),):
            begun = trace.now()
            trace.add(lane, begun, clock=0, chunk=chunk)
            trace.link(station, lane, begun, 0, 0, chunk)
    trace.close()
    return name


@pytest.mark.parametrize("command", ["run", "server", "worker"])
def test_the_help_page_has_the_flag(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert "--trace PATH" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "server", "worker"])
@pytest.mark.parametrize(("path", "why"), [("no/t.json", "No such file or directory"), (".", ""), ("fifo", "")])
def test_a_trace_that_cannot_be_written_is_said_at_once(
    command: str, path: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.py").write_text("raise SystemExit('it ran')")
    os.mkfifo("fifo")
    script = [] if command == "server" else ["x.py"]
    assert main([command, "--trace", path, *script]) == 2
    assert f"psctl: error: cannot write the trace to {path}: {why}" in capsys.readouterr().err


def test_a_member_is_given_the_file_wherever_its_script_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(service, "serve", lambda process, ready: found.append(process.trace) or 0)
    monkeypatch.setenv("PS_TRACE", "t.json")
    assert main(["server"]) == 0
    assert found == [str(Path("t.json").absolute())]


def test_merge_makes_one_file_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [recorded("a.json"), recorded("b.json", "server")]
    assert main(["trace", "merge", "all.json", *parts]) == 0
    assert "events of 2 processes are in all.json" in capsys.readouterr().out
    assert len({event["pid"] for event in read_trace(Path("all.json"))}) == 2


def test_merge_says_what_it_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.json").write_text("{}")
    assert main(["trace", "merge", "all.json", recorded("a.json"), "bad.json"]) == 0
    assert capsys.readouterr().err == "psctl: bad.json is left out: it is no trace of psctl's\n"


def test_a_merge_of_nothing_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = Path(recorded("good.json")).read_bytes()
    Path("bad.json").write_text("{}")
    assert main(["trace", "merge", "good.json", "bad.json"]) == 1
    assert "psctl: error: nothing was merged" in capsys.readouterr().err
    assert Path("good.json").read_bytes() == before
    assert main(["trace", "merge", "new.json", "bad.json"]) == 1
    assert not Path("new.json").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["merge", "all.json"], "Missing argument 'PARTS...'"),
        (["merge", "all.json", "gone"], "there is no file gone"),
        (["merge", "no/all.json", "a.json"], "cannot write the trace to no/all.json: No such file or directory"),
        (["merge", ".", "a.json"], "cannot write the trace to .: it is there, and is no file"),
        (["show", "gone"], "there is no file gone"),
        (["show", "foreign.json"], "cannot read the trace foreign.json: it lacks 'name'"),
        (["show", "garbage.json"], "garbage.json cannot be read as a trace of psctl's: it has no events"),
    ],
)
def test_what_cannot_be_meant_gets_one_line_and_exit_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded("a.json")
    Path("foreign.json").write_text('[\n{"ph":"M","name":"process_name","pid":1,"tid":1,"ts":1,"args":{}}\n]')
    Path("garbage.json").write_text("garbage\n")
    assert main(["trace", *argv]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("psctl: error: ") and shown.count("\n") == 1
    assert words in shown


def test_show_has_a_row_for_each_process_and_chunk(capsys: pytest.CaptureFixture[str]) -> None:
    main(["trace", "merge", "all.json", recorded("a.json", chunks=30), recorded("b.json", "server", 1)])
    capsys.readouterr()
    assert main(["trace", "show", "all.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split() for line in lines if line.strip()]
    assert heads[0][:2] == ["process", "seconds"] and {"send", "land", "apply"} <= set(heads[0])
    assert any(line.strip().startswith("worker 0 ") for line in lines)
    assert any(line.strip().startswith("server 1 ") for line in lines)
    assert ["chunk", "times", "way", "worker", "send", "server", "apply", "worker", "land"] in heads
    assert "Shares of a process's time; what goes on at once counts twice." in lines
    below = heads[heads.index(["median", "milliseconds"]) + 3 :]
    assert below[0][0] == "all"
    assert len(below) == 21, "all of them, and the slowest twenty"


def test_a_trace_without_spans_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.json").write_text("[\n" + events.header(1, "worker", "h", 0, "t") + "\n]\n")
    assert main(["trace", "show", "a.json"]) == 0
    assert capsys.readouterr().out.startswith("a.json has no spans")

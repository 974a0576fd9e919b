"""Promises of ps.launch.screen: whole lines, bars on a terminal, and no waiting to say something."""

from __future__ import annotations

import itertools
import json
import threading
from io import StringIO

import pytest
from rich.text import Text

from ps.launch.screen import Screen


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class Slow(StringIO):
    """A stream whose first write blocks until it is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.allowed = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.begun.set()
        assert self.allowed.wait(20.0)
        return super().write(text)


def test_the_launcher_says_something_without_waiting_for_a_slow_reader() -> None:
    out, err = Slow(), StringIO()
    screen = Screen(out, err)
    thread = threading.Thread(target=screen.line, args=("worker 0", False, "hello"))
    thread.start()
    assert out.begun.wait(20.0)
    screen.say("a signal came")  # would hang here
    out.allowed.set()
    thread.join(20.0)
    assert (out.getvalue(), err.getvalue()) == ("worker 0 | hello\n", "psctl | a signal came\n")


def test_a_bar_stands_below_the_progress_line_of_a_terminal_until_its_line_ends() -> None:
    err = Terminal()
    screen = Screen(StringIO(), err)
    screen.progress("running")
    screen.unfinished("worker 1", True, "40%")
    assert screen._live is not None
    screen._live.refresh()
    assert "worker 1 | 40%" in err.getvalue()
    screen.line("worker 1", True, "100%")
    err.truncate(0)
    screen._live.refresh()
    assert "40%" not in err.getvalue()
    screen.close()


def test_no_line_stands_behind_the_progress_line_whoever_prints_it_when() -> None:
    err = Terminal()
    for _ in range(30):  # the first lines are where it went wrong
        screen = Screen(err, err)
        threads = [
            threading.Thread(target=screen.progress, args=("waiting",)),
            threading.Thread(target=screen.line, args=("worker 0", False, "hello")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20.0)
        assert not any(type(thread).__name__ == "_RefreshThread" for thread in threading.enumerate())
        screen.close()
    rows = [part for row in err.getvalue().split("\n") for part in row.split("\x1b[2K")]
    assert not [row for row in rows if "waiting" in row and "hello" in row]


def test_a_part_that_is_known_is_a_bar_and_more_lines_stand_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    err = Terminal()
    screen = Screen(StringIO(), err)
    screen.progress("step 50 of 200 · 42 s left", ["4 workers · loss 0.3"], 0.25)
    assert screen._live is not None
    screen._live.refresh()
    shown = err.getvalue()
    assert "━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  25% step 50 of 200 · 42 s left" in shown
    assert "  4 workers · loss 0.3" in shown
    screen.close()


def test_without_a_terminal_there_is_a_line_every_so_often_less_often_with_time() -> None:
    now, err = [0.0], StringIO()
    screen = Screen(StringIO(), err, lambda: now[0])
    told = []
    for second in range(600):
        now[0] = float(second)
        screen.progress(f"step {second}", ["loss 0.3"], second / 600)
        if err.getvalue():
            told.append(second)
            assert err.getvalue() == f"psctl | {second / 600:.0%} · step {second} · loss 0.3\n"
            err.truncate(0)
            err.seek(0)
    assert told[:3] == [10, 25, 48]
    assert 8 <= len(told) <= 14 and max(b - a for a, b in itertools.pairwise(told)) <= 60


def test_without_a_terminal_a_table_is_80_columns_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = StringIO()
    Screen(out, StringIO()).show(Text("word " * 100))
    assert {len(line.rstrip()) for line in out.getvalue().splitlines()[:-1]} == {79}


def test_without_a_terminal_a_bar_is_a_line() -> None:
    err = StringIO()
    screen = Screen(StringIO(), err)
    screen.unfinished("worker 1", True, "40%")
    assert err.getvalue() == "worker 1 | 40%\n"


def test_what_a_stream_cannot_spell_is_written_otherwise() -> None:
    import io

    raw = io.BytesIO()
    screen = Screen(io.TextIOWrapper(raw, "ascii"), StringIO())
    screen.line("worker 0", False, "é")
    assert raw.getvalue() == b"worker 0 | \\xe9\n"


def test_in_json_each_line_is_an_object_tables_and_progress_too() -> None:
    out, err, now = StringIO(), StringIO(), [0.0]
    screen = Screen(out, err, lambda: now[0], as_json=True)
    screen.line("worker 0", False, 'said "this"')
    screen.say("begun")
    now[0] = 100.0
    screen.progress("step 5 of 10", fraction=0.5)
    screen.show("a table\nof two lines")
    first, table = map(json.loads, out.getvalue().splitlines())
    begun, progress = map(json.loads, err.getvalue().splitlines())
    assert (first["process"], first["message"], first["stream"]) == ("worker 0", 'said "this"', "stdout")
    assert begun["message"] == "begun" and progress["message"] == "50% · step 5 of 10"
    assert table["message"] == "a table\nof two lines" and table["process"] == "psctl"

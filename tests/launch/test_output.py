"""Promises of ps.launch.output: every line comes, progress bars show as they go, and nothing stops the reading."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from ps.launch.child import Child
from ps.launch.output import Output


def child(body: str) -> Child:
    return Child("worker", 0, [sys.executable, "-u", "-c", f"import os, sys, time\n{body}"], os.environ, ())


def collect(body: str, write: Callable[[str], None], show: Callable[[str], None] | None = None) -> Child:
    """Run a child to its end with its lines given to ``write``, and unfinished ones to ``show``."""
    output = Output(
        lambda name, is_error, text: write(text),
        None if show is None else lambda name, is_error, text: show(text),
        interval=0.0,
    )
    one = child(body)
    output.add(one)
    one.wait(20.0)
    output.close(10.0)
    assert one.exit is not None and one.exit.code == 0
    return one


def test_lines_come_whole_and_the_last_one_without_its_end() -> None:
    lines: list[str] = []
    collect("os.write(1, b'one\\r\\ntw'); time.sleep(0.05); os.write(1, b'o\\nthree')", lines.append)
    assert lines == ["one", "two", "three"]


def test_a_progress_bar_shows_before_its_line_ends() -> None:
    shown, lines = list[str](), list[str]()
    seen = threading.Event()
    read, write = os.pipe()

    def show(text: str) -> None:
        shown.append(text)
        if text == "20%":
            os.write(write, b"go")
            seen.set()

    output = Output(lambda n, e, text: lines.append(text), lambda n, e, text: show(text), interval=0.0)
    body = f"os.write(2, b'\\r10%\\r20%'); os.read({read}, 2); os.write(2, b'\\r100%\\n')"
    one = Child("worker", 0, [sys.executable, "-c", f"import os\n{body}"], os.environ, (read,))
    output.add(one)
    assert seen.wait(20.0), "the bar is shown only when its line is complete"
    one.wait(20.0)
    output.close(10.0)
    os.close(read), os.close(write)
    assert lines == ["100%"]


def test_a_bar_that_is_drawn_for_ever_takes_no_memory() -> None:
    lines: list[str] = []
    collect("for i in range(20_000): os.write(2, b'\\r%20d' % i)\nprint(file=sys.stderr)", lines.append)
    assert lines == [f"{19_999:20d}"]


@pytest.mark.filterwarnings("error")
def test_a_line_that_cannot_be_shown_does_not_stop_the_reading() -> None:
    lines: list[str] = []

    def write(text: str) -> None:
        if text == "bad":
            raise ValueError("no such colour")
        lines.append(text)

    one = collect("print('bad'); print('x' * 200_000); print('good')", write)
    assert lines[-1] == "good"
    assert one.tail[0] == "bad"

"""Promises of ps.sink: what is printed never ends or blocks a process, and what can be written is."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ps.sink import Sink, open_sink

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def fill(fd: int) -> int:
    """Write to a pipe until it takes no more; return how much it took."""
    os.set_blocking(fd, False)
    count = 0
    try:
        while True:
            count += os.write(fd, bytes(512))
    except BlockingIOError:
        os.set_blocking(fd, True)
        return count


def run(body: str, **streams: object) -> subprocess.CompletedProcess[bytes]:
    code = "import os, sys\nfrom ps.sink import kept_going, open_closed_descriptors\n" + textwrap.dedent(body)
    return subprocess.run([sys.executable, "-c", code], timeout=30, **streams)  # type: ignore[call-overload, no-any-return]


def test_everything_that_is_read_arrives_in_order() -> None:
    read, write = os.pipe()
    sink = Sink(write, "out")
    assert sink.write(b"one\n") == 4
    assert sink.write(memoryview(b"two\n")) == 4
    assert os.read(read, 100) == b"one\ntwo\n"
    assert sink.lost == 0


@needs_full
def test_a_full_disk_loses_what_is_written_and_says_why() -> None:
    with FULL.open("wb") as full:
        sink = Sink(full.fileno(), "out")
        assert sink.write(b"x" * 10_000) == 10_000
        assert (sink.lost, sink.why) == (10_000, os.strerror(errno.ENOSPC))


def test_a_reader_that_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    sink = Sink(write, "out")
    assert sink.write(b"hello\n") == 6
    assert sink.lost == 6


def test_a_terminal_that_has_gone_is_no_error() -> None:
    ours, theirs = pty.openpty()
    os.close(ours)
    sink = Sink(theirs, "out")
    assert sink.write(b"hello\n") == 6
    assert sink.lost == 6


def test_a_reader_that_stopped_is_waited_for_once_and_written_to_again_when_it_reads() -> None:
    read, write = os.pipe()
    sink = Sink(write, "out", patience=0.05)
    assert sink.write(b"begun\n") == 6
    fill(write)
    begun = time.monotonic()
    for _ in range(200):
        sink.write(b"nobody reads this\n")
    assert time.monotonic() - begun < 200 * 0.05 / 2
    assert sink.lost == 200 * 18
    while len(os.read(read, 1 << 16)) == 1 << 16:
        pass
    sink.write(b"again\n")
    assert os.read(read, 1 << 16).endswith(b"again\n")
    assert "nobody has read it" in sink.why


def test_what_follows_half_a_line_begins_a_new_one() -> None:
    read, write = os.pipe()
    sink = Sink(write, "out", patience=0.01)
    sink.write(b"x" * (1 << 20))  # more than a pipe holds: the end of this line is lost
    while len(os.read(read, 1 << 20)) == 1 << 20:
        pass
    sink.write(b"next\n")
    assert os.read(read, 100).endswith(b"\nnext\n")


def test_a_file_of_its_own_is_written_line_by_line(tmp_path: Path) -> None:
    with open_sink(tmp_path / "out") as file:
        file.write("one\n")
        assert (tmp_path / "out").read_text() == "one\n"
        fd = file.fileno()
    with pytest.raises(OSError):
        os.fstat(fd)


@needs_full
def test_a_process_on_a_full_disk_goes_on_and_says_in_the_end_what_was_lost() -> None:
    with FULL.open("wb") as full:
        body = """
            with kept_going("stdout", "stderr"):
                print("x" * 5000, flush=True)
            """
        done = run(body, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr.decode() == "psctl: 5,001 bytes of <stdout> were lost: No space left on device\n"


def test_closed_descriptors_become_the_null_device_and_nobodys_file(tmp_path: Path) -> None:
    body = """
        for fd in (0, 1, 2):
            os.close(fd)
        sys.stdout = sys.stderr = None
        open_closed_descriptors()
        with kept_going("stdout", "stderr"):
            print("lost"); print("lost", file=sys.stderr)
            mine = os.open(sys.argv[1] if len(sys.argv) > 1 else "file", os.O_CREAT | os.O_WRONLY)
            os.write(mine, b"mine " + str(mine > 2).encode())
        """
    assert run(body, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())}).returncode == 0
    assert (tmp_path / "file").read_text() == "mine True"


def test_the_streams_of_an_unbuffered_process_stay_unbuffered() -> None:
    body = """
        with kept_going("stdout"):
            sys.stdout.write("half")
            os._exit(0)
        """
    done = run(body, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert done.stdout == b"half"

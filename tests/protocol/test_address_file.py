"""Promises of the file in which a scheduler says where it is: whoever reads it finds that scheduler, or is told why."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from ps import sigterm
from ps.config import ProcessConfig
from ps.errors import ConfigError, ConnectTimeout, JobEnded, PeerLost, PSError, UsageError
from ps.protocol import address_file
from ps.protocol.address_file import await_file, read, remove, scheduler_address, write, write_end

HERE = "tcp://10.0.0.1:7070"


def test_what_a_scheduler_writes_is_what_members_read(tmp_path: Path) -> None:
    write(str(tmp_path / "at"), HERE, 77)
    assert read(f"file:{tmp_path}/at") == (HERE, 77)
    assert scheduler_address(ProcessConfig(scheduler=f"file:{tmp_path}/at")) == (HERE, 77)


def test_an_address_that_is_given_is_of_any_job(tmp_path: Path) -> None:
    assert scheduler_address(ProcessConfig(scheduler="tcp://h:7070")) == ("tcp://h:7070", 0)
    with pytest.raises(ConfigError, match="--scheduler tcp://HOST:PORT or PS_SCHEDULER"):
        scheduler_address(ProcessConfig())


def test_a_member_waits_for_the_file_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        write(str(tmp_path / "at"), HERE, 5)

    assert await_file(f"file:{tmp_path}/at", 20.0, say) == (HERE, 5)
    assert len(said) == 1
    assert re.fullmatch(rf"waiting [1-9] s for the scheduler to say in {tmp_path}/at where it is", said[0])


def test_a_member_waits_no_longer_than_the_connect_timeout(tmp_path: Path) -> None:
    with pytest.raises(ConnectTimeout, match=rf"waited 0.2 s, and there is no {tmp_path}/at: the scheduler that is to"):
        await_file(f"file:{tmp_path}/at", 0.2, print)


def test_a_member_that_waits_can_be_asked_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        raise SystemExit(143)

    monkeypatch.setattr(sigterm, "check", check)
    with pytest.raises(SystemExit):
        await_file(f"file:{tmp_path}/at", 20.0, print)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not hold an address and a job's id"),
        (HERE, "does not hold an address and a job's id"),
        (f"{HERE} 5 6", "does not hold an address and a job's id"),
        ("http://a 5", "is not an address"),
        (f"{HERE} -5", "holds no job's id, but '-5'"),
        (f"{HERE} 4000000000000000", "holds no job's id"),
        (f"{HERE} {'f' * 4000}", "holds no job's id"),
        ("x" * 5000, "it is larger than 4096 bytes"),
    ],
)
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "at").write_text(text)
    with pytest.raises(ConfigError, match=why) as caught:
        read(f"file:{tmp_path}/at")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("error", "kind", "why"),
    [
        (JobEnded("ended at step 120,\n nothing to do"), JobEnded, "^ended at step 120, nothing to do$"),
        (ConfigError("no \x1b[31mgood " + "x" * 9000), PeerLost, "^the scheduler has not begun: no "),
    ],
)
def test_a_scheduler_that_does_not_begin_says_so_and_nobody_waits(
    tmp_path: Path, error: PSError, kind: type[PSError], why: str
) -> None:
    write_end(str(tmp_path / "at"), error)
    with pytest.raises(kind, match=why) as caught:
        await_file(f"file:{tmp_path}/at", 20.0, print)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1200
    write_end(str(tmp_path / "none" / "at"), error)  # costs nothing but the others' time


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot say at .*/none/at where the scheduler is"):
        write(str(tmp_path / "none" / "at"), HERE, 1)


def test_a_scheduler_removes_what_it_has_written_and_no_successors(tmp_path: Path) -> None:
    at = tmp_path / "at"
    write(str(at), "tcp://b:2", 2)
    remove(str(at), HERE)
    assert at.exists()
    remove(str(at), "tcp://b:2")
    assert not at.exists()
    remove(str(at), "tcp://b:2")


def test_readers_never_see_half_of_it(tmp_path: Path) -> None:
    at, seen, stop = tmp_path / "at", set[tuple[str, int]](), threading.Event()
    write(str(at), HERE, 1)

    def look() -> None:
        while not stop.is_set():
            seen.add(address_file.read(f"file:{at}"))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(200):
        write(str(at), HERE, 1 + number % 2)
    stop.set()
    reader.join()
    assert seen <= {(HERE, 1), (HERE, 2)}

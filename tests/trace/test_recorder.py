"""Promises of ps.trace: a valid timeline, bounded, that never costs the training anything but time."""

from __future__ import annotations

import inspect
import json
import logging
import os
import threading
from pathlib import Path

import pytest

from ps.errors import UsageError
from ps.trace import BEGIN, END, OFF, PASS, Trace, start
from ps.trace.events import way
from ps.trace.part import read_events
from ps.trace.recorder import BATCH, Recorder
from ps.trace.trace import Off
from support.chrome import check_events, metadata, process_names, read_trace, row_names, spans


def exchange(trace: Trace, clock: int, chunk: int) -> None:
    """Record one exchange of a worker 2."""
    begun = trace.now()
    trace.add("send", begun, clock=clock, chunk=chunk, peer=1, size=4096)
    trace.link(BEGIN, "send", begun, 2, clock, chunk)
    with trace.span("wait", clock=clock):
        landed = trace.now()
        trace.add("land", landed, clock=clock, chunk=chunk)
        trace.link(END, "land", landed, 2, clock, chunk)


def recorded(path: Path, **given: int) -> Recorder:
    trace = start(str(path), "worker", 2, **given)
    assert isinstance(trace, Recorder)
    return trace


def test_a_worker_leaves_a_valid_file_with_a_named_row_for_each_lane(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t.json")
    for clock in range(3):
        with trace.span("compute", clock=clock):
            trace.instant("compute", "so far", clock=clock)
        for chunk in range(2):
            exchange(trace, clock, chunk)
        trace.count("bytes in flight", 4096 * clock)
    trace.close()
    events = read_trace(tmp_path / "t.json")
    assert process_names(events) == ["worker 2"]
    assert [name for name in row_names(events, "worker 2") if name != "trace"] == ["compute", "send", "wait", "land"]
    sent = [event for event in spans(events) if event["name"] == "send"]
    assert [event["args"] for event in sent[:2]] == [
        {"clock": 0, "chunk": 0, "server": 1, "bytes": 4096},
        {"clock": 0, "chunk": 1, "server": 1, "bytes": 4096},
    ]
    assert [event["args"]["value"] for event in events if event["ph"] == "C"] == [0, 4096, 8192]
    assert sum(event["ph"] == "i" for event in events) == 3


def test_a_chunk_is_followed_from_the_worker_through_the_server_and_back(tmp_path: Path) -> None:
    worker = recorded(tmp_path / "w.json")
    exchange(worker, 5, 3)
    server = start(str(tmp_path / "s.json"), "server", 0)
    begun = server.now()
    server.add("apply", begun, clock=5, chunk=3, peer=2)
    server.link(PASS, "apply", begun, 2, 5, 3)
    for trace in (worker, server):
        trace.close()
    ways = [
        (event["ph"], event["id"])
        for name in ("w.json", "s.json")
        for event in read_trace(tmp_path / name)
        if event["ph"] in "stf"
    ]
    assert [kind for kind, _ in ways] == ["s", "f", "t"]
    assert {found for _, found in ways} == {way(2, 5, 3)}
    assert not {found for _, found in ways} & {way(2, 5, 4), way(2, 6, 3), way(1, 5, 3)}


def test_threads_that_share_a_lane_get_a_row_each(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t.json")
    together = threading.Barrier(3)

    def work() -> None:
        begun = trace.now()
        together.wait()
        trace.add("send", begun)
        together.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    assert row_names(read_trace(tmp_path / "t.json"), "worker 2")[:3] == ["send", "send 2", "send 3"]


def test_what_threads_record_at_once_is_all_there(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t.json")
    threads = [threading.Thread(target=lambda: [trace.add("send", trace.now()) for _ in range(3000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    assert sum(event["name"] == "send" for event in spans(read_trace(tmp_path / "t.json"))) == 12000


def test_a_rank_that_comes_later_names_the_process(tmp_path: Path) -> None:
    trace = start(str(tmp_path / "t.json"), "server")
    trace.seat(7)
    trace.close()
    assert process_names(read_trace(tmp_path / "t.json")) == ["server 7"]


def test_events_are_written_as_they_come_and_a_killed_process_leaves_all_but_the_last(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    trace = recorded(path)
    for _ in range(3 * BATCH):
        trace.add("send", trace.now())
    assert len(trace._events) <= BATCH
    text = path.read_text()
    with pytest.raises(ValueError):
        json.loads(text)
    path.write_text(text[:-30])
    events = [event for _, bunch, bad in read_events(path) for event in bunch if not bad]
    check_events(events)
    assert len(spans(events)) >= 2 * BATCH
    trace.close()


def test_what_lies_about_is_written_by_a_loop_that_waits(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t.json")
    trace.add("send", trace.now())
    trace.tick()
    assert '"send"' not in (tmp_path / "t.json").read_text()
    later = trace.now() + 2_000_000_000
    trace.now = lambda: later
    trace.tick()
    assert '"send"' in (tmp_path / "t.json").read_text()
    trace.close()


def test_the_file_is_bounded_and_says_where_it_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trace = recorded(tmp_path / "t.json", limit=700)
    for _ in range(5000):
        trace.add("send", trace.now())
    assert not trace.on
    assert not trace._events or len(trace._events) <= BATCH
    events = read_trace(tmp_path / "t.json")
    assert sum(event["ph"] != "M" for event in events) == 700
    [label] = metadata(events, "process_labels")
    assert label["args"]["labels"] == "the trace ends after 700 events"
    assert [record.message for record in caplog.records] == [f"{tmp_path}/t.json: the trace ends after 700 events"]
    size = (tmp_path / "t.json").stat().st_size
    trace.add("send", 1)
    trace.close()
    assert (tmp_path / "t.json").stat().st_size == size


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_disk_costs_the_trace_and_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    trace = start("/dev/full", "worker", 0)
    assert not trace.on
    for _ in range(2 * BATCH):
        exchange(trace, 0, 0)
    trace.tick()
    trace.close()
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (logging.WARNING, "/dev/full is no longer written: No space left on device")
    ]


def test_a_disk_that_fills_up_leaves_no_half_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trace = recorded(tmp_path / "t.json")
    trace.add("send", trace.now())
    trace.flush()
    whole = (tmp_path / "t.json").read_text()
    real, room = os.write, [100]

    def write(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        taken = min(room[0], len(data))
        room[0] -= taken
        return real(fd, data[:taken])

    monkeypatch.setattr(os, "write", write)
    for _ in range(BATCH + 1):
        trace.add("send", trace.now())
    assert not trace.on
    trace.close()
    assert (tmp_path / "t.json").read_text() == whole
    assert len(caplog.records) == 1


def test_a_path_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "nowhere" / "t.json", tmp_path / "fifo"):
        with pytest.raises(UsageError, match=f"cannot write the trace to {path}: "):
            start(str(path), "worker")


def test_two_writers_of_one_file_do_not_spoil_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trace = recorded(tmp_path / "t.json")
    other = start(str(tmp_path / "t.json"), "server", 1)
    assert other is OFF
    assert "is already being written" in caplog.text
    trace.close()
    assert process_names(read_trace(tmp_path / "t.json")) == ["worker 2"]


def test_a_second_connection_of_a_process_goes_on_with_its_file(tmp_path: Path) -> None:
    for clock in range(3):
        trace = recorded(tmp_path / "t.json")
        trace.add("send", trace.now(), clock=clock)
        trace.close()
    found = [event["args"]["clock"] for event in spans(read_trace(tmp_path / "t.json")) if event["name"] == "send"]
    assert found == [0, 1, 2]


def test_an_earlier_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("x" * 100_000)
    recorded(tmp_path / "t.json").close()
    read_trace(tmp_path / "t.json")


def test_a_forked_child_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = recorded(tmp_path / "t.json")
    before = (tmp_path / "t.json").read_text()
    trace.add("send", trace.now())
    monkeypatch.setattr(os, "getpid", lambda: -1)
    trace.close()
    assert not trace.on
    assert (tmp_path / "t.json").read_text() == before


def test_a_number_that_is_none_and_a_name_with_quotes_keep_the_file_valid(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "t.json")
    trace.count("x", float("nan"))
    trace.add("send", trace.now(), name='"\\\n\ud800')
    trace.close()
    assert any(event["name"] == '"\\\n\ud800' for event in spans(read_trace(tmp_path / "t.json")))


def test_without_a_path_there_is_nothing_behind_the_calls(tmp_path: Path) -> None:
    assert start(None, "worker", 0) is OFF
    assert not OFF.on
    exchange(OFF, 0, 0)
    assert OFF.span("wait") is OFF.span("compute"), "nothing is made for a block"
    for name, method in inspect.getmembers(Off, inspect.isfunction):
        code = method.__code__
        assert not code.co_varnames[code.co_argcount + code.co_kwonlyargcount :], f"{name} computes something"
        assert len(code.co_code) <= 40, f"{name} does something"
        assert inspect.signature(method) == inspect.signature(getattr(Trace, name)), name
    assert list(tmp_path.iterdir()) == []

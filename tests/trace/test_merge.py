"""Promises of ps.trace.merge: whatever processes left becomes one valid file on one clock."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from ps.trace import BEGIN, PASS, events, start
from ps.trace.merge import Merged, merge
from support.chrome import metadata, process_names, read_trace, spans


def part(directory: Path, role: str, rank: int, count: int = 3) -> Path:
    """Record a process's part, as several processes of this host do; the pid has to be made another's."""
    path = directory / f"{role}-{rank}.part"
    trace = start(str(path), role, rank)
    for clock in range(count):
        begun = trace.now()
        trace.add("send", begun, clock=clock, chunk=0)
        trace.link(BEGIN if role == "worker" else PASS, "send", begun, rank if role == "worker" else 0, clock, 0)
    trace.close()
    return path


def foreign(path: Path, host: str, offset: int, ts: float, pid: int = 7) -> Path:
    """Write another host's part with one span."""
    lines = [
        events.header(pid, "worker", host, offset, "t"),
        *events.names(pid, "worker", 0),
        *events.row(pid, 1, "send", 0),
        events.span(pid, 1, host, round(ts * 1000), round(ts * 1000), ""),
    ]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    return path


def merged(out: Path, *parts: Path) -> tuple[Merged, list[dict[str, Any]], list[str]]:
    warnings: list[str] = []
    result = merge(parts, out, warnings.append)
    return result, read_trace(out), warnings


def test_parts_become_one_valid_file_in_the_order_of_their_processes(tmp_path: Path) -> None:
    parts = [part(tmp_path, role, rank) for role, rank in (("server", 0), ("worker", 10), ("worker", 2))]
    result, found, warnings = merged(tmp_path / "t.json", *parts)
    assert process_names(found) == ["worker 2", "worker 10", "server 0"]
    assert [e["args"]["name"] for e in metadata(found, "process_name")] == ["worker 2", "worker 10", "server 0"]
    assert len({event["pid"] for event in found}) == result.processes == 3
    assert result.events == sum(event["ph"] != "M" for event in found) >= 18
    assert warnings == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server-0.part", "t.json", *sorted(
        ("worker-10.part", "worker-2.part")
    )]  # fmt: skip


def test_the_order_in_which_parts_are_given_makes_no_difference(tmp_path: Path) -> None:
    parts = [part(tmp_path, "worker", rank) for rank in range(3)]
    _, one, _ = merged(tmp_path / "a.json", *parts)
    _, other, _ = merged(tmp_path / "b.json", *reversed(parts))
    assert process_names(one) == process_names(other)
    assert [event["ts"] for event in one] == [event["ts"] for event in other]


def test_a_merged_file_can_be_merged_again(tmp_path: Path) -> None:
    first, found, _ = merged(tmp_path / "a.json", part(tmp_path, "worker", 0), part(tmp_path, "server", 0))
    second, again, warnings = merged(tmp_path / "b.json", tmp_path / "a.json")
    assert second == first
    assert (again, warnings) == (found, [])
    third, _, _ = merged(
        tmp_path / "c.json", tmp_path / "a.json", foreign(tmp_path / "f", "elsewhere", time.time_ns(), 1.0)
    )
    assert third.processes == 3


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 60, 200])
def test_what_a_killed_process_left_is_merged_up_to_its_last_line(tmp_path: Path, cut: int) -> None:
    torn = part(tmp_path, "worker", 0)
    whole = read_trace(torn)
    torn.write_bytes(torn.read_bytes()[:-cut])
    _, found, warnings = merged(tmp_path / "t.json", torn, part(tmp_path, "server", 0))
    kept = [event for event in found if event["pid"] == whole[0]["pid"]]
    assert kept == whole[: len(kept)]
    assert len(whole) - len(kept) <= 3
    assert warnings == []


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage\n" * 50, b"\x00\xff" * 100_000, b"[" * 50_000, b'[\n{"ph":"X","pid":1,"tid":1,"ts":1,"dur":1}\n]'],
    ids=["empty", "text", "bytes", "deep", "another's"],
)
def test_a_corrupt_part_is_left_out_with_a_warning(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.part"
    bad.write_bytes(content)
    result, found, warnings = merged(tmp_path / "t.json", bad, part(tmp_path, "worker", 1))
    assert process_names(found) == ["worker 1"]
    assert result.processes == 1
    assert warnings == [f"{bad} is left out: it is no trace of psctl's"]


def test_a_part_that_is_not_there_is_left_out_with_a_warning(tmp_path: Path) -> None:
    _, found, warnings = merged(tmp_path / "t.json", tmp_path / "gone", part(tmp_path, "worker", 1))
    assert process_names(found) == ["worker 1"]
    assert warnings == [f"{tmp_path / 'gone'} is left out: No such file or directory"]


def test_lines_that_hold_no_event_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = part(tmp_path, "worker", 1)
    lines = path.read_text().splitlines()
    lines[-2:-2] = ["{nonsense},", '{"ph":"X","pid":1},', '{"ph":"i","pid":999999,"tid":1,"ts":1,"name":"x"},', "7,"]
    path.write_text("\n".join(lines))
    _, found, warnings = merged(tmp_path / "t.json", path)
    assert len(found) == len(lines) - 6
    assert warnings == [f"{path}: passed over 4 lines without an event of ours"]


def test_other_hosts_are_moved_to_the_firsts_clock_by_the_time_of_day(tmp_path: Path) -> None:
    here = foreign(tmp_path / "a", "a", 1_000_000_000_000, 5_000_000.0)
    there = foreign(tmp_path / "b", "b", 1_003_000_000_000, 2_000_000.25)
    _, found, _ = merged(tmp_path / "t.json", here, there)
    assert {event["name"]: event["ts"] for event in spans(found)} == {"a": 5_000_000.0, "b": 5_000_000.25}
    assert len({event["pid"] for event in found}) == 2, "the same pid on two hosts is two processes"
    clocks = {(e["args"]["host"], e["args"]["offset_ns"]) for e in metadata(found, "paramserver")}
    assert clocks == {("a", 1_000_000_000_000)}


def test_processes_of_one_host_share_a_clock_whatever_the_time_of_day_did_between_them(tmp_path: Path) -> None:
    one = foreign(tmp_path / "a", "h", 1_000, 5.0, pid=1)
    two = foreign(tmp_path / "b", "h", 9_999_999, 6.0, pid=2)
    _, found, _ = merged(tmp_path / "t.json", one, two)
    assert sorted(event["ts"] for event in spans(found)) == [5.0, 6.0]


def test_without_a_part_that_holds_a_process_nothing_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    assert merge([], out, print) == Merged(0, 0)
    assert not out.exists()
    before = part(tmp_path, "worker", 0).rename(out).read_bytes()
    (tmp_path / "bad.part").write_text("garbage")
    assert merge([tmp_path / "bad.part"], out, lambda text: None) == Merged(0, 0)
    assert out.read_bytes() == before


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1e999", "9" * 400, f"{1 << 64}"])
@pytest.mark.parametrize("place", ["ts", "dur", "args"])
def test_numbers_that_no_clock_shows_are_passed_over_and_what_is_written_is_json(
    bad: str, place: str, tmp_path: Path
) -> None:
    here = foreign(tmp_path / "a", "a", 1_000_000_000_000, 5.0)
    there = foreign(tmp_path / "b", "b", 1_003_000_000_000, 2.0)
    numbers = {"ts": "1", "dur": "1", "args": "1"} | {place: bad}
    line = '{{"ph":"X","pid":7,"tid":1,"name":"x","ts":{ts},"dur":{dur},"args":{{"n":{args}}}}}'.format(**numbers)
    there.write_text(there.read_text().replace("\n]", f",\n{line}\n]"))
    _, found, _ = merged(tmp_path / "t.json", here, there)
    text = (tmp_path / "t.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert {event["name"] for event in spans(found)} >= {"a", "b"}
    assert place == "args" or "x" not in {event["name"] for event in spans(found)}


def test_a_merge_that_is_stopped_or_cannot_write_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    out.write_text("before")
    path = part(tmp_path, "worker", 0)
    assert merge([path], out, print, stop=lambda: True).stopped
    with pytest.raises(OSError):
        merge([path], tmp_path / "nowhere" / "t.json", print)
    assert out.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.json", "worker-0.part"]


def test_a_merged_part_has_the_bytes_it_had(tmp_path: Path) -> None:
    path = part(tmp_path, "worker", 0, count=3000)
    merge([path], tmp_path / "t.json", print)
    assert (tmp_path / "t.json").read_bytes() == path.read_bytes()
    assert len(json.loads(path.read_text())) > 6000


@pytest.mark.parametrize("text", ["garbage", None])
def test_a_name_that_would_break_a_line_does_not(tmp_path: Path, text: str | None) -> None:
    said: list[str] = []
    if text is not None:
        (tmp_path / "a\nb").write_text(text)
    assert not merge([tmp_path / "a\nb"], tmp_path / "out.json", said.append).processes
    assert len(said) == 1 and said[0].isprintable() and "is left out" in said[0]

"""Promises of reading records: whole lines once, torn ones later or never, and nothing is raised."""

from __future__ import annotations

from pathlib import Path

from ps.compare.follow import Follow, number, read_lines, read_object


def test_a_line_is_told_once_and_not_before_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    follow = Follow(file)
    assert follow.news() == []
    file.write_bytes(b'{"a": 1}\n{"a"')
    assert follow.news() == [{"a": 1}]
    with file.open("ab") as more:
        more.write(b": 2}\nno json\n[3]\n")
    assert follow.news() == [{"a": 2}]
    assert follow.news() == []


def test_what_is_missing_or_damaged_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"\xff\n[1]\n")
    assert read_lines(tmp_path / "gone") == read_lines(tmp_path / "bad") == []
    assert read_object(tmp_path / "gone") == read_object(tmp_path / "bad") == {}


def test_only_finite_numbers_are_numbers() -> None:
    line = {"a": True, "b": "1", "c": float("nan"), "d": 0, "e": None}
    assert [number(line, key) for key in "abcdex"] == [None, None, None, 0, None, None]

"""Promises of ps.whole: a file is replaced by all of something new, or stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.errors import PSError, UsageError
from ps.whole import check_writable, draft, write_whole


def test_what_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), draft(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_with_its_permissions_and_through_links(tmp_path: Path) -> None:
    path, link = tmp_path / "report", tmp_path / "link"
    path.write_text("before")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(link, "after")
    assert path.read_text() == "after" and link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PSError, match=r"cannot write .*/no/report: No such file or directory"):
        write_whole(tmp_path / "no" / "report", "text")


@pytest.mark.parametrize("name", [".", "no/report", "/dev/null", "x" * 300])
def test_what_cannot_be_a_file_is_known_before_it_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"cannot write the report to {name}: "):
        check_writable(name, "the report")
    assert list(tmp_path.iterdir()) == []

"""Promises of a file that goes around the cache: the same bytes, wherever it is and whatever cannot be done there."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.checkpoint import direct_file as module
from ps.checkpoint.direct_file import BLOCK, DirectFile

PORTION = 4 * BLOCK
PIECES = [b"head", np.random.default_rng(0).bytes(5 * PORTION + 77), b"", np.arange(3000, dtype=np.float32), b"tail"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PORTION", PORTION)


def write(path: Path) -> bytes:
    with DirectFile(path) as file:
        for piece in PIECES:
            data = memoryview(piece).cast("B")
            assert file.write(data) == data.nbytes
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()


def wanted() -> bytes:
    return b"".join(bytes(memoryview(piece).cast("B")) for piece in PIECES)


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="a flag of Linux")
def test_whole_portions_go_around_the_cache_and_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[bool] = []
    write_ = os.write

    def look(fd: int, data: Any) -> int:
        ways.append(bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT))
        return write_(fd, data)

    monkeypatch.setattr(os, "write", look)
    assert write(tmp_path / "file") == wanted()
    assert ways[-1] is False, "what is left goes through it"
    with (tmp_path / "probe").open("wb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETFL, os.O_DIRECT)
        except OSError:
            return
    assert ways.count(True) >= 5


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="a flag of Linux")
@pytest.mark.parametrize("how", ["not at all", "not so", "in parts"])
def test_where_that_cannot_be_the_bytes_go_through_the_cache(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_, fcntl_ = os.write, fcntl.fcntl

    def odd(fd: int, data: Any) -> int:
        if how == "not so" and fcntl_(fd, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return write_(fd, data[:1000] if how == "in parts" else data)

    def refusing(fd: int, command: int, argument: int = 0) -> int:
        if how == "not at all" and command == fcntl.F_SETFL and argument & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return fcntl_(fd, command, argument)

    monkeypatch.setattr(os, "write", odd)
    monkeypatch.setattr(fcntl, "fcntl", refusing)
    assert write(tmp_path / "file") == wanted()


def test_a_file_that_is_there_is_not_written_and_a_full_disk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        DirectFile(path)

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="full"), DirectFile(tmp_path / "other") as file:
        file.write(PIECES[1])
    assert path.read_bytes() == b"old"

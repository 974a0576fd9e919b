"""Promises of what is read: a file and no device or pipe, no more than it may hold, and one line for what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ps.errors import ConfigError, DataError, UsageError
from ps.regular_file import blaming, open_regular, read_regular, reason, shown


@pytest.mark.timeout(10)
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero", "/dev/null"):
        with pytest.raises(ValueError, match="a device, a pipe or a socket"):
            open_regular(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "gone")


def test_no_descriptor_is_left_open_by_what_was_refused(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(3):
        with pytest.raises(IsADirectoryError):
            open_regular(tmp_path)
        (tmp_path / "large").write_bytes(bytes(9))
        with pytest.raises(ValueError, match="larger than 8 bytes"):
            open_regular(tmp_path / "large", 8)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_no_more_is_read_than_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert read_regular(path, 8) == b"12345678"
    with pytest.raises(ValueError, match="larger than 7 bytes"):
        read_regular(path, 7)
    with pytest.raises(ValueError, match="larger than 10 bytes"):  # it says that it has none
        read_regular("/proc/self/status", 10)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x" * 5000, "File name too long"),
        ("a\0b", "null"),
        ("a\ud800b", "its name cannot be written"),
        ("/dev/zero", "it is a device"),
        (".", "Is a directory"),
    ],
)
def test_whatever_is_wrong_with_a_name_is_one_line(name: str, why: str) -> None:
    with pytest.raises(DataError) as found, blaming(name, "model", "--model", DataError):
        open_regular(name)
    text = str(found.value)
    assert (text.startswith("cannot read the model ") and text.endswith(why)) or why in text
    assert "(from --model)" in text and len(text) < 600 and text.isprintable()


def test_whatever_a_parser_raises_is_the_files_fault() -> None:
    for error in (KeyError("x"), RecursionError("deep"), OverflowError("big"), MemoryError(), struct_error()):
        with pytest.raises(UsageError, match=r"^cannot read f: .+"), blaming("f"):
            raise error
    with pytest.raises(ConfigError, match=r"^as it is$"), blaming("f"):
        raise ConfigError("as it is")
    with pytest.raises(UsageError, match=r"^--config: there is no file f$"), blaming("f", source="--config"):
        raise FileNotFoundError


def struct_error() -> Exception:
    import struct

    return struct.error("unpack requires a buffer of 4 bytes")


def test_reasons_and_names_are_short_and_on_one_line() -> None:
    assert reason(ValueError("a\n  b")) == "a b"
    assert reason(KeyError("name")) == "it lacks 'name'"
    assert len(reason(ValueError("x" * 5000))) == 400
    assert shown("a\nb") == r"'a\nb'"
    assert len(shown("x" * 5000)) == 400

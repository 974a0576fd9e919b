"""Part: the file of one process's events: a JSON array with one event in each line.

Every line ends a whole event, so what a killed process left can be read up to its last line.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ps.regular_file import open_regular

OPENING = b"[\n"
CLOSING = b"\n]\n"
LONGEST = 1 << 16
"""Bytes of a line, at most; ours have some hundred."""


class Part:
    """A file being written. Every method may raise OSError; BlockingIOError when somebody else writes the file."""

    def __init__(self, path: Path, token: str) -> None:
        """Begin the file anew, or go on with it when this process, which has ``token``, began it."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock()
            self._length = self._own_length(token)
            os.lseek(self._fd, self._length, os.SEEK_SET)
            with contextlib.suppress(OSError):  # a device has no length
                os.ftruncate(self._fd, self._length)
        except BaseException:
            os.close(self._fd)
            raise

    def write(self, lines: Sequence[str]) -> None:
        """Add events. When there is no room for them all, none of them is left half written."""
        if lines:
            before = b",\n" if self._length > len(OPENING) else b"" if self._length else OPENING
            self._put(before + ",\n".join(lines).encode())

    def close(self) -> None:
        """End the array."""
        try:
            self._put(CLOSING if self._length else OPENING + CLOSING)
        finally:
            os.close(self._fd)

    def abandon(self) -> None:
        """Close the file as it is."""
        os.close(self._fd)

    def _put(self, data: bytes) -> None:
        begun = self._length
        try:
            while data:
                written = os.write(self._fd, data)
                self._length += written
                data = data[written:]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, begun)
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            # A file system without locks: two writers are then the user's affair.

    def _own_length(self, token: str) -> int:
        """Return how much of the file is to be kept: all but the closing of an array that this process wrote."""
        head = os.pread(self._fd, 4096, 0) if os.fstat(self._fd).st_size else b""
        if token.encode() not in head.partition(CLOSING)[0]:
            return 0
        length = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, len(CLOSING), length - len(CLOSING))
        return length - len(CLOSING) if tail == CLOSING else length


def read_events(path: Path, size: int = 1000) -> Iterator[tuple[list[bytes], list[dict[str, Any]], int]]:
    """Yield a file's events in bunches: their lines, the same parsed, and how many lines in between held no event.

    A last line that is torn, as a killed process leaves it, does not count. Raises OSError, and ValueError
    for what is no file.
    """
    with open_regular(path) as file:
        lines: list[bytes] = []
        while line := file.readline(LONGEST):
            text = line.strip().rstrip(b",").strip()
            is_torn = not line.endswith(b"\n") and not file.peek(1)
            if text and text not in (b"[", b"]") and (not is_torn or _event(text) is not None):
                lines.append(text)
            if len(lines) == size:
                yield _parse(lines)
                lines = []
        yield _parse(lines)


def _parse(lines: list[bytes]) -> tuple[list[bytes], list[dict[str, Any]], int]:
    try:
        events = json.loads(b"[" + b",".join(lines) + b"]", parse_constant=_refuse)
        if len(events) == len(lines) and all(map(_is_event, events)):
            return lines, events, 0
    except (ValueError, RecursionError):
        pass
    pairs = [(line, event) for line in lines if (event := _event(line)) is not None]
    return [line for line, _ in pairs], [event for _, event in pairs], len(lines) - len(pairs)


def _event(text: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return event if _is_event(event) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _is_event(event: Any) -> bool:
    return (
        isinstance(event, dict)
        and isinstance(event.get("ph"), str)
        and is_whole(event.get("pid"))
        and is_whole(event.get("tid"))
        and _is_time(event.get("ts"))
        and (event["ph"] != "X" or _is_time(event.get("dur")))
    )


def is_whole(value: Any) -> bool:
    """Return whether this is a whole number of 64 bits."""
    return isinstance(value, int) and -(1 << 63) <= value < 1 << 63


def _is_time(value: Any) -> bool:
    return is_whole(value) or (isinstance(value, float) and -1e18 < value < 1e18)

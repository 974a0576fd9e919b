"""Link: messages between the simulation and one of its processes, over a socket pair; arrays follow their message.

What a message announces is waited for in the kernel, in one call however much it is: a thread that reads while
another one computes then needs the interpreter's lock twice a message, not once for each piece that has come.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any

import msgpack
import numpy as np

from ps.xp import HostArray

_HEADER = struct.Struct("<Q")
_MOST_BUFFERS = 512
"""Buffers of one system call; the least that any Linux allows is 1024."""


class Link:
    """One end. One thread may send while another one receives."""

    def __init__(self, connection: socket.socket) -> None:
        """Take a connected stream socket over."""
        self._socket = connection

    def send(self, kind: str, *values: Any, frames: Sequence[HostArray] = ()) -> None:
        """Send a kind, plain values or bytes, and arrays as their bytes; OSError when nobody is there any more."""
        head = msgpack.packb((kind, values, [frame.nbytes for frame in frames]))
        buffers = [memoryview(_HEADER.pack(len(head)) + head)]
        buffers += [np.ascontiguousarray(frame).data.cast("B") for frame in frames if frame.nbytes]
        _pass(buffers, self._socket.sendmsg)

    def receive(self) -> tuple[str, list[Any], list[HostArray]]:
        """Wait for a message and return its kind, values and arrays (uint8); EOFError when none will come."""
        (size,) = _HEADER.unpack(self._exactly(_HEADER.size))
        kind, values, sizes = msgpack.unpackb(self._exactly(size), strict_map_key=False)
        frames: list[HostArray] = [np.empty(nbytes, np.uint8) for nbytes in sizes]
        self._fill([frame.data for frame in frames if frame.nbytes])
        return kind, values, frames

    def close(self) -> None:
        """Close this end; the other one sees it."""
        self._socket.close()

    def _exactly(self, nbytes: int) -> bytearray:
        room = bytearray(nbytes)
        self._fill([memoryview(room)])
        return room

    def _fill(self, buffers: list[memoryview]) -> None:
        def read(some: list[memoryview]) -> int:
            count = self._socket.recvmsg_into(some, 0, socket.MSG_WAITALL)[0]
            if not count:
                raise EOFError("the other end is closed")
            return count

        _pass(buffers, read)


def _pass(buffers: list[memoryview], move: Any) -> None:
    """Have ``move``, which takes buffers and returns how many bytes it moved, move all of them."""
    first = 0
    while first < len(buffers):
        count = move(buffers[first : first + _MOST_BUFFERS])
        while first < len(buffers) and count >= len(buffers[first]):
            count -= len(buffers[first])
            first += 1
        if count:
            buffers[first] = buffers[first][count:]

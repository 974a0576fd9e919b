"""LineServer: the listening end of one line, which answers as a test wants."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ps.protocol.codec import decode
from ps.protocol.messages import Message
from ps.protocol.transports.unix_listener import listen

Answer = Callable[[socket.socket, bytes, list[int]], None]
"""Takes the connection, what came first and the open files with it, which are closed later."""


class LineServer:
    """Listens for one worker; without an answer it is as good as stopped."""

    def __init__(self, directory: Path, answer: Answer | None) -> None:
        self._listener, address = listen(directory)
        self._listener.setblocking(True)
        self._listener.settimeout(10)
        self.path = address.removeprefix("shm://")
        self.got: list[int] = []
        self.said: Message | None = None
        """What came before all else."""
        self._thread = threading.Thread(target=self._run, args=(answer,), daemon=True)
        if answer is not None:
            self._thread.start()

    def _run(self, answer: Answer) -> None:
        sock, _ = self._listener.accept()
        with sock:
            sock.settimeout(10)
            self.said = decode(_frame(sock))
            data, fds, _, _ = socket.recv_fds(sock, 1000, 4)
            self.got = list(fds)
            answer(sock, data, self.got)
            for fd in self.got:
                os.close(fd)

    def close(self) -> None:
        if self._thread.ident is not None:
            self._thread.join(10)
        self._listener.close()


def _frame(sock: socket.socket) -> bytes:
    (size,) = struct.unpack("<I", sock.recv(4, socket.MSG_WAITALL))
    return sock.recv(size, socket.MSG_WAITALL)


Fake = Callable[[Answer | None], LineServer]


def framed(header: bytes) -> bytes:
    """Return a header as it travels."""
    return struct.pack("<I", len(header)) + header


@contextlib.contextmanager
def line_servers(directory: Path) -> Iterator[Fake]:
    """Yield a function that starts one."""
    with contextlib.ExitStack() as stack:

        def start(answer: Answer | None) -> LineServer:
            made = LineServer(directory, answer)
            stack.callback(made.close)
            return made

        yield start


def say(*frames: bytes, fds: Callable[[], list[int]] = list) -> Callable[[socket.socket, bytes, list[int]], None]:
    def answer(sock: socket.socket, _: bytes, got: list[int]) -> None:
        sent = fds()
        for frame in frames:
            if sent:
                socket.send_fds(sock, [frame], sent)
            else:
                sock.sendall(frame)
        got += sent
        sock.shutdown(socket.SHUT_WR)

    return answer


def null() -> list[int]:
    """An open file that is no memory."""
    return [os.open(os.devnull, os.O_RDONLY)]

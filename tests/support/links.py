"""Links: a TCP proxy before all that a job's processes listen on, which cuts, holds and slows what goes through it.

The job listens on ``inside`` and tells others ``outside``: both are this host's own loopback, so nobody need be root.
What is listened on is seen in ``/proc``; the same port is opened outside, and closed when it is closed inside. Shared
memory and Unix sockets go past it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

LOOK = 0.1
"""Seconds between two looks for what is listened on."""
MOST = 65536
"""Bytes that are handed on at once."""
LISTENING = "0A"
"""As ``/proc/net/tcp`` says it."""

_taken = itertools.cycle(range(1, 128))
"""Twice as many jobs as ever run at once would be few."""


class Links:
    """The proxy of one job, on a thread of its own. ``ports`` are what it has seen listened on, the first one first."""

    def __init__(self) -> None:
        number = next(_taken)
        high, low = 16 + os.getpid() // 256 % 224, os.getpid() % 256
        self.inside, self.outside = f"127.{high}.{low}.{number}", f"127.{high}.{low}.{255 - number}"
        self.ports: list[int] = []
        self._refused: dict[int, float] = {}
        self._held: dict[int, float] = {}
        self._slow: dict[int, tuple[float, float, float]] = {}
        """Port -> until when, bytes a second, seconds that each piece takes besides."""
        self._servers: dict[int, asyncio.Server] = {}
        self._writers: dict[int, set[asyncio.StreamWriter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._looking = asyncio.run_coroutine_threadsafe(self._look(), self._loop)

    @property
    def settings(self) -> str:
        """What has a job go through it, as TOML."""
        return f'host = "{self.inside}"\nadvertise = "{self.outside}"\n'

    def cut(self, port: int, seconds: float) -> None:
        """Reset all connections to a port, and whoever comes for so long."""
        self._refused[port] = time.monotonic() + seconds
        self._loop.call_soon_threadsafe(self._reset, port)

    def hold(self, port: int, seconds: float) -> None:
        """Let nothing through, either way, for so long; then reset what there is: what was under way is lost."""
        self._held[port] = time.monotonic() + seconds
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, self._reset, port)

    def slow(self, port: int, seconds: float, rate: float, delay: float) -> None:
        """Let so many bytes a second through on each connection, and each piece so many seconds late."""
        self._slow[port] = time.monotonic() + seconds, rate, delay

    def close(self) -> None:
        """Close all that is open."""
        self._looking.cancel()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10.0)
        self._loop.close()

    async def _end(self) -> None:
        for port in list(self._servers):
            self._close(port)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            found = listened_on(self.inside)
            for port in found - self._servers.keys():
                with contextlib.suppress(OSError):
                    self._servers[port] = await asyncio.start_server(self._meet(port), self.outside, port)
                    self._writers.setdefault(port, set())
                    if port not in self.ports:
                        self.ports.append(port)
            for port in self._servers.keys() - found:
                self._close(port)
            await asyncio.sleep(LOOK)

    def _close(self, port: int) -> None:
        self._servers.pop(port).close()
        self._reset(port)

    def _reset(self, port: int) -> None:
        for writer in self._writers.get(port, ()):
            _reset(writer)

    def _meet(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
        def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._join(port, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return met

    async def _join(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what two connections say, until one of them ends."""
        ours = {writer}
        self._writers[port].add(writer)
        try:
            if time.monotonic() < self._refused.get(port, 0.0):
                return
            await self._wait_while_held(port)
            theirs, other = await asyncio.open_connection(self.inside, port)
            ours.add(other)
            self._writers[port].add(other)
            await _first(self._pump(port, reader, other), self._pump(port, theirs, writer))
        except OSError:
            pass
        finally:
            for each in ours:
                self._writers[port].discard(each)
                _reset(each) if time.monotonic() < self._refused.get(port, 0.0) else each.close()

    async def _pump(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(MOST):
            await self._wait_while_held(port)
            until, rate, delay = self._slow.get(port, (0.0, 0.0, 0.0))
            if time.monotonic() < until:
                await asyncio.sleep(delay + len(data) / rate)
            writer.write(data)
            await writer.drain()

    async def _wait_while_held(self, port: int) -> None:
        while (left := self._held.get(port, 0.0) - time.monotonic()) > 0:
            await asyncio.sleep(left + LOOK)  # it is reset before that


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Wait for the first that ends, and end the others. Raises what it raises."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a reset does: what was not read by the other end is lost."""
    found = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def listened_on(host: str) -> set[int]:
    """Return the ports of an IPv4 address that somebody listens on, also by sockets of IPv6."""
    address, found = socket.inet_aton(host)[::-1].hex().upper(), set[int]()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            place, port = local.split(":")
            if state == LISTENING and place.endswith(address):
                found.add(int(port, 16))
    return found

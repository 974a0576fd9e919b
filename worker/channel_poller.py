"""ChannelPoller: the channels to servers in one poll: which have answered, where there is room again, and what else
is to be looked at meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import zmq

from ps.protocol.spin import Spin
from ps.protocol.transports.channel import ServerChannel
from ps.worker.request_queue import RequestQueue


class ChannelPoller:
    """What an exchange waits in, queue by queue."""

    def __init__(self, poller: zmq.Poller, spin: Spin) -> None:
        self._poller = poller
        self._spin = spin
        self._by_pollable: dict[Any, RequestQueue] = {}
        self._stuck: set[RequestQueue] = set()
        """Those that are looked at for room, too."""
        self._waking: list[Any] = []

    @property
    def sockets(self) -> list[tuple[Any, int]]:
        """What is looked at, and for which events."""
        return self._poller.sockets

    def add(self, queue: RequestQueue) -> None:
        """Look at a server's channel."""
        self._poller.register(queue.channel.pollable, zmq.POLLIN)
        if isinstance(queue.channel.pollable, int):
            self._spin.add(queue.channel.pollable)
        self._by_pollable[queue.channel.pollable] = queue

    def remove(self, queue: RequestQueue) -> None:
        """Look no more at the channel of a server that is gone, or has another one."""
        del self._by_pollable[queue.channel.pollable]
        self._stuck.discard(queue)
        self._leave(queue.channel)

    def leave_closed(self, channel: ServerChannel) -> None:
        """Look no more at a channel whose server has gone; whoever watches the members will say what that means."""
        if channel.closed:
            self._leave(channel)

    def _leave(self, channel: ServerChannel) -> None:
        if channel.pollable in self._poller:
            self._poller.unregister(channel.pollable)
            self._spin.remove(channel.pollable)

    def wake(self, pollables: Iterable[Any]) -> None:
        """Have ``poll`` return also when one of these is ready to be read, and for no others any more."""
        for pollable in self._waking:
            self._poller.unregister(pollable)
        self._waking = list(pollables)
        for pollable in self._waking:
            self._poller.register(pollable, zmq.POLLIN)

    def watch_for_room(self, queues: Iterable[RequestQueue]) -> None:
        """Be woken when there is room again for what could not be sent, and not by lines that are closed."""
        for queue in queues:
            channel, stuck = queue.channel, queue.channel.stuck
            self.leave_closed(channel)
            if not channel.closed and channel.pollable not in self._poller:  # it was connected again
                self.add(queue)
            if stuck != (queue in self._stuck) and channel.pollable in self._poller:
                self._poller.register(channel.pollable, zmq.POLLIN | (zmq.POLLOUT if stuck else 0))
                self._stuck ^= {queue}

    def poll(self, milliseconds: float) -> tuple[list[RequestQueue], bool]:
        """Return whose channels have something to read or room to send, and whether anything has, once anything has, or
        after so long.
        """
        if (spin := self._spin).begin() and (ready := spin.look()):
            spin.end()
            return [self._by_pollable[fd] for fd in ready], True
        if not self._poller.sockets:  # all servers are gone, and ZeroMQ does not wait for nothing
            time.sleep(milliseconds / 1000)
        events = self._poller.poll(int(milliseconds)) if self._poller.sockets else []
        spin.end()
        found = [self._by_pollable[pollable] for pollable, _ in events if pollable in self._by_pollable]
        return found, bool(events)

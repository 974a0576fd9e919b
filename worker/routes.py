"""Routes: which server a request goes to, and what becomes of those whose chunk, or server, is elsewhere by now.

A request that a server answers with Moved, or that was on its way to a server which is gone, is sent again as the same
request to whoever has its chunk: what counted already is only answered there. One whose server this worker has not
heard of yet waits until it has. A server that has come since is told what this worker said to the others last.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ps.protocol.messages import Attach, Start, Suspend
from ps.protocol.placement import Where, holder
from ps.worker.batch import Batch, Request
from ps.worker.request_queue import RequestQueue

Open = Callable[[int], RequestQueue | None]
"""Opens a queue to the server of a rank, if it is known."""


class Routes:
    """The queues of one worker, by the ranks of their servers."""

    def __init__(self, queues: Mapping[int, RequestQueue], open: Open) -> None:
        self._queues = dict(queues)
        self._dealt = len(queues)
        """To so many servers the layout deals out chunks."""
        self._open = open
        self._where: dict[int, int] = {}
        self._view: dict[int, int] = {}
        """Which chunks are elsewhere: by what was heard last, and by the last view alone."""
        self._stranded: list[tuple[int, Request]] = []
        """Requests for servers that this worker does not know yet, by their ranks."""
        self._word: Request | None = None
        """What was last said to all servers about taking part, to one of them. All hear it under one number: servers
        that hand chunks to each other compare those to find out which has heard the later word."""

    @property
    def ranks(self) -> list[int]:
        """Return the ranks of the servers."""
        return sorted(self._queues)

    @property
    def stranded(self) -> list[Request]:
        """Return the requests that have no server yet."""
        return [request for _, request in self._stranded]

    def add(self, server: int, request: Request) -> None:
        """Queue a request for the server of a rank, or for the one that has its chunk by now."""
        chunk = request.chunk
        if chunk is None:
            if isinstance(request.message, Attach | Start | Suspend):
                if self._word is not None and self._word.batch is request.batch:
                    request.message = self._word.message
                self._word = request
        elif self._where:
            server = self._where.get(chunk, server)
        queue = self._queues.get(server)
        if queue is None:
            self._strand(server, request)
        else:
            queue.add(request)

    def moved(self, request: Request, rank: int) -> None:
        """Send a request to the server of this rank, which has its chunk by now."""
        if request.chunk is not None:
            self._where[request.chunk] = rank
        request.taken = False
        queue = self._queues.get(rank) or self._reach(rank)
        if queue is None:
            self._strand(rank, request)
        else:
            queue.add(request)

    def follow(self, servers: Collection[int], where: Where) -> list[RequestQueue]:
        """Go by a new view: the ranks of all servers, and which chunks are elsewhere; return the queues that are over.

        What was asked of a server that is gone, about no chunk, needs no answer any more.
        """
        self._where, self._view = dict(where), dict(where)
        for rank in sorted(set(servers) - self._queues.keys()):
            self._reach(rank)
        gone = [self._queues.pop(rank) for rank in sorted(self._queues.keys() - set(servers))]
        for queue in gone:
            for request in queue.give_up():
                self._pass_on(request)
        stranded, self._stranded = self._stranded, []
        for rank, request in stranded:
            self.moved(request, rank if rank in self._queues else self._holder(request, rank))
        return gone

    def retry(self) -> None:
        """Send what has no server to whoever has its chunk by the last view.

        A server that is not known may be one that has come since, or one that has gone: what another said of it may
        be older than the view. Who is asked too early says again where the chunk is.
        """
        stranded, self._stranded = self._stranded, []
        for rank, request in stranded:
            if rank not in self._queues and request.chunk is not None:
                rank = holder(request.chunk, self._dealt, self._view)
            self.moved(request, rank)

    def _pass_on(self, request: Request) -> None:
        if request.chunk is not None:
            self.moved(request, self._holder(request, 0))
        else:
            request.batch.remaining -= 1

    def _holder(self, request: Request, rank: int) -> int:
        return rank if request.chunk is None else holder(request.chunk, self._dealt, self._where)

    def _strand(self, rank: int, request: Request) -> None:
        if request.chunk is None:  # it went while this was being asked
            request.batch.remaining -= 1
        else:
            self._stranded.append((rank, request))

    def _reach(self, rank: int) -> RequestQueue | None:
        queue = self._open(rank)
        if queue is not None:
            self._queues[rank] = queue
            if self._word is not None:
                queue.add(
                    Request(self._word.message, None, (0, 0), Batch("word of this worker to a server that has come"))
                )
        return queue

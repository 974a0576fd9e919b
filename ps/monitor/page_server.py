"""PageServer: the live page, its data and /metrics over HTTP, for reading alone, by a bounded number of threads.

Each answer is made once a snapshot, whoever asks: many viewers cost no more than the sending.
"""

from __future__ import annotations

import contextlib
import gzip
import hmac
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ps.dataclass import dataclass
from ps.monitor import exposition
from ps.monitor.job_watcher import JobWatcher, Seen
from ps.monitor.member_rows import outstanding

THREADS = 16
"""Requests that are answered at a time, at most; others wait."""
LONGEST = 10.0
"""Seconds that a request may take, whatever its sender does."""
SILENT = 5.0
"""Seconds without a byte after which a connection ends."""
TAIL = 15
"""Points of each curve that go with a snapshot."""
LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names by which a browser may ask where no token is set: a page of somebody else's that leads here has another."""
LONGEST_HEAD = 16 << 10
"""Bytes of a request, at most."""
COMMON = "\r\n".join(
    (
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "X-Frame-Options: DENY",
        "Connection: close",
    )
)

log = logging.getLogger("ps.monitor")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent: a status, the type of what there is, and that, packed by gzip too where it is long."""

    status: int
    kind: str
    body: bytes
    packed: bytes = b""


class PageServer:
    """Answers on a socket that listens."""

    def __init__(self, sock: socket.socket, watcher: JobWatcher, page: Callable[[], str], token: str = "") -> None:
        """``page`` returns the page; ``token``: what whoever asks for data has to bring, nothing for nobody."""
        self._socket, self._watcher, self._token = sock, watcher, token
        self._lock = threading.Lock()
        self._made: dict[str, tuple[int, Answer]] = {}
        """Of each path, which snapshot its answer is of."""
        self._page = packed("text/html; charset=utf-8", page().encode())
        self._open: dict[socket.socket, float] = {}
        """Connections, and until when each may take."""
        self._closing = False
        self._threads = [threading.Thread(target=self._serve, name=f"page {n}", daemon=True) for n in range(THREADS)]

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End, and have nobody wait."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.look(float("inf"))

    def look(self, now: float | None = None) -> None:
        """End connections that take too long; to be called about once a second."""
        now = time.monotonic() if now is None else now
        for sock, until in list(self._open.items()):
            if now > until:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def answer(self, target: str, host: str, bearer: str) -> Answer:
        """Return the answer to a GET. ``host`` and ``bearer``: whom the sender takes us for, and its token."""
        url = urlsplit(target)
        if not self._token and name_of(host) not in LOCAL:
            return refusal(421, "ask by the name localhost: psctl page --page-token is for any other")
        if url.path == "/":
            return self._page
        if url.path not in ("/snapshot.json", "/curves.json", "/metrics"):
            return refusal(404, "there are /, /snapshot.json, /curves.json and /metrics")
        if self._token and not hmac.compare_digest(bearer.encode(), self._token.encode()):
            return refusal(401, "the token is missing or wrong: Authorization: Bearer TOKEN")
        seen = self._watcher.seen
        if seen is None:
            return refusal(503, "the scheduler has not answered yet")
        if url.path == "/metrics" and not exposition.has_library():
            return refusal(501, exposition.ADVICE)
        if url.path == "/snapshot.json" and parse_qs(url.query).get("after") == [str(seen.number)]:
            return Answer(204, "", b"")
        return self._of(url.path, seen)

    def _of(self, path: str, seen: Seen) -> Answer:
        with self._lock:
            silence = self._watcher.silence()
            number = seen.number if path != "/metrics" else hash((seen.number, int(silence)))
            if (made := self._made.get(path)) is None or made[0] != number:
                made = self._made[path] = number, self._make(path, seen, silence)
            return made[1]

    def _make(self, path: str, seen: Seen, silence: float) -> Answer:
        if path == "/metrics":
            return packed("text/plain; version=0.0.4; charset=utf-8", exposition.exposition(seen, silence))
        about: dict[str, Any] = {"number": seen.number, "trouble": seen.trouble}
        if path == "/curves.json":
            return as_json({**about, "curves": self._watcher.curves()})
        rows = seen.snapshot["members"]
        shown = outstanding(rows)
        others = seen.snapshot["others"] + len(rows) - len(shown)
        snapshot = {**seen.snapshot, "members": shown, "others": others}
        return as_json({**about, "snapshot": snapshot, "tail": self._watcher.curves(TAIL)})

    def _serve(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                if not self._closing:
                    time.sleep(0.1)  # no descriptor left, or the peer has gone by now
                continue
            self._open[connection] = time.monotonic() + LONGEST
            try:
                connection.settimeout(SILENT)
                if head := _read_head(connection):
                    connection.sendall(self._respond(head))
            except OSError:  # it has gone
                pass
            finally:
                self._open.pop(connection, None)
                connection.close()

    def _respond(self, head: str) -> bytes:
        """Return what is sent in answer to the head of a request."""
        first, *lines = head.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(refusal(400, "this is no request of HTTP 1"))
        if words[0] not in ("GET", "HEAD"):
            return _response(refusal(501, "there is nothing here but GET"))
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        scheme, _, token = headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        try:
            answer = self.answer(words[1], headers.get("host", ""), bearer)
        except ValueError:  # of a target that is none
            answer = refusal(400, "there is no such address")
        except Exception:
            log.exception("%s was not answered", words[1][:100])
            answer = refusal(500, "psctl could not answer; what it printed says why")
        return _response(answer, packed="gzip" in headers.get("accept-encoding", ""), head=words[0] == "HEAD")


def _read_head(connection: socket.socket) -> str:
    """Return a request up to the line that ends its head; nothing where there is none, or no end of it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(LONGEST_HEAD) if len(data) < LONGEST_HEAD else b""
        if not more:
            return ""
        data += more
    return data[: data.index(b"\r\n\r\n")].decode("latin-1")


def _response(answer: Answer, *, packed: bool = False, head: bool = False) -> bytes:
    """Return an answer as it is sent; ``packed``: to who reads gzip, ``head``: without the body."""
    zipped = packed and bool(answer.packed)
    body = answer.packed if zipped else answer.body
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", COMMON]
    if answer.kind:
        lines += [f"Content-Type: {answer.kind}", f"Content-Length: {len(body)}"]
    if zipped:
        lines.append("Content-Encoding: gzip")
    if answer.status == HTTPStatus.UNAUTHORIZED:
        lines.append("WWW-Authenticate: Bearer")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (b"" if head else body)


def packed(kind: str, body: bytes) -> Answer:
    """Return an answer that is sent packed to who can read that."""
    return Answer(200, kind, body, gzip.compress(body, 5, mtime=0))


def as_json(value: Any) -> Answer:
    """Return an answer in JSON; NaN is none."""
    return packed("application/json", json.dumps(value, allow_nan=False, separators=(",", ":")).encode())


def refusal(status: int, why: str) -> Answer:
    """Return an answer with a line of what is wrong."""
    return Answer(status, "text/plain; charset=utf-8", f"{why}\n".encode())


def name_of(host: str) -> str:
    """Return the name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def yield_to_others() -> None:
    """Have this process go behind all others of this host."""
    with contextlib.suppress(OSError):
        os.nice(10)

"""PageServer: the live page, its data and /metrics over HTTP, for reading alone, by a bounded number of threads.

Each answer is made once a snapshot, whoever asks: many viewers cost no more than the sending.
"""

from __future__ import annotations

import contextlib
import gzip
import hmac
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
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
COMMON = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Connection": "close",
}


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
                connection, peer = self._socket.accept()
            except OSError:
                if not self._closing:
                    time.sleep(0.1)  # no descriptor left, or the peer has gone by now
                continue
            self._open[connection] = time.monotonic() + LONGEST
            try:
                connection.settimeout(SILENT)
                _Handler(connection, peer, self)  # type: ignore[arg-type]
            except OSError:  # it has gone
                pass
            finally:
                self._open.pop(connection, None)
                connection.close()


class _Handler(BaseHTTPRequestHandler):
    """One request on a connection."""

    server_version, sys_version = "psctl", ""
    server: Any

    def do_GET(self) -> None:
        """Answer."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        self._send(self.server.answer(self.path, self.headers.get("Host", ""), bearer))

    def do_HEAD(self) -> None:
        """Answer with the head alone."""
        self.do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what is asked for is nobody's business."""

    def _send(self, answer: Answer) -> None:
        zipped = bool(answer.packed) and "gzip" in self.headers.get("Accept-Encoding", "")
        body = answer.packed if zipped else answer.body
        self.send_response(answer.status)
        for name, value in COMMON.items():
            self.send_header(name, value)
        if zipped:
            self.send_header("Content-Encoding", "gzip")
        if answer.kind:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(body)))
        if answer.status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


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

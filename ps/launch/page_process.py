"""PageProcess: the process that serves the live page of a run, on a port that is taken before anything else starts."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from types import TracebackType

from ps import interpreter
from ps.config import ProcessConfig
from ps.errors import AddressInUse, UsageError
from ps.loopback import is_loopback
from ps.regular_file import read_regular, reason, shown

ADVICE = "the page is drawn by plotly, which is not installed. Try: pip install 'paramserver[monitor]'"
LEAST, MOST = 16, 200
"""Characters of a token."""
BACKLOG = 64
"""Connections that wait to be answered."""
PATIENCE = 1.0
"""Seconds that the process has to end."""


def page_socket(process: ProcessConfig) -> socket.socket:
    """Return a socket that listens where the page is to be. Raises AddressInUse, UsageError for what it lacks."""
    if importlib.util.find_spec("plotly") is None:
        raise UsageError(ADVICE)
    host, port = process.page_host, process.page_port
    if page_token(process.page_token) == "" and not is_loopback(host, resolve=True):
        raise UsageError(
            f"whoever reaches {host} could look at this job: give --page-token FILE, or leave the page on 127.0.0.1"
        )
    try:
        family, kind, number, _, where = socket.getaddrinfo(
            None if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, number)
    except OSError as error:
        raise UsageError(f"page_host = {host} is no address of this host: {error.strerror}") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"port {port} of {host} is in use by another process; take another --page-port (0 picks a free one)"
            ) from None
        raise UsageError(f"cannot listen on {host}:{port} for the page: {error.strerror}") from None
    return sock


def page_token(path: str | None) -> str:
    """Return the token in a file; nothing without one. Raises UsageError for a file that has none."""
    if path is None:
        return ""
    try:
        text = read_regular(path, 4096).decode("ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the token in {shown(path)}: {reason(error)}") from None
    if not LEAST <= len(text) <= MOST or not all("!" <= sign <= "~" for sign in text):
        raise UsageError(
            f"{shown(path)} is to hold a token, {LEAST} to {MOST} letters, digits or signs without a space. Try: "
            f"openssl rand -hex 16 > FILE"
        )
    return text


def page_address(sock: socket.socket, token: str) -> str:
    """Return where a browser finds the page."""
    host, port = sock.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{'#token=…' if token else ''}"


@contextlib.contextmanager
def page_of(process: ProcessConfig) -> Iterator[PageProcess | None]:
    """Take the port of a run's page, if it is to have one; the process that serves it ends with this."""
    if not process.page:
        yield None
        return
    with page_socket(process) as sock, PageProcess(sock, page_token(process.page_token)) as page:
        yield page


class PageProcess:
    """Starts the process once there is a scheduler to ask, and ends it."""

    def __init__(self, sock: socket.socket, token: str) -> None:
        self._socket, self._token = sock, token
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, scheduler: str, keys: str | None, say: Callable[[str], None]) -> None:
        """Serve the page of the job of a scheduler; ``say`` where."""
        say(f"the page of this run is at {page_address(self._socket, self._token)}")
        fd = self._socket.fileno()
        self._process = subprocess.Popen(
            interpreter.command("ps.monitor.process"),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(fd,),
            start_new_session=True,  # Ctrl-C is for the training; this one ends with it
        )
        self._socket.close()  # it is that process's now
        about = {"fd": fd, "scheduler": scheduler, "keys": keys, "token": self._token}
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(about).encode() + b"\n")
            self._process.stdin.flush()

    def __enter__(self) -> PageProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process: it does so by itself when its input ends."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

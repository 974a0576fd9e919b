"""Promises of the page's server: read-only, for whom it is meant, bounded, one answer for all, valid JSON always."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from ps.errors import AddressInUse, ConnectTimeout, UsageError
from ps.monitor import page_server
from ps.monitor.job_watcher import JobWatcher
from ps.monitor.member_rows import MOST_ROWS
from ps.monitor.page_server import THREADS, PageServer, name_of
from support.watched import HOSTILE, job, large, worker

TOKEN = "0123456789abcdef"


class Served:
    """A server with a status to show."""

    def __init__(self, status: dict[str, Any] | None, token: str = "") -> None:
        self.statuses: list[Any] = [] if status is None else [status]
        self.watcher = JobWatcher(lambda: self.statuses[-1])
        self.made = 0
        if status is not None:
            self.watcher.look()
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self.server = PageServer(sock, self.watcher, lambda: "<!DOCTYPE html><title>the page</title>", token)
        self.server.start()

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=10) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, dict(error.headers), error.read()


@pytest.fixture
def served() -> Iterator[Any]:
    made: list[Served] = []

    def make(status: dict[str, Any] | None, token: str = "") -> Served:
        made.append(Served(status, token))
        return made[-1]

    yield make
    for one in made:
        one.server.close()


def parsed(data: bytes) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(data, parse_constant=refuse)


def test_page_snapshot_and_curves_are_answered_and_packed_for_who_can_read_that(served: Any) -> None:
    one = served(job([worker(0, metrics={HOSTILE[0]: "nan", "loss": 0.5})]))
    status, headers, page = one.ask("/")
    assert status == 200 and b"the page" in page and headers["X-Content-Type-Options"] == "nosniff"
    found = parsed(one.ask("/snapshot.json")[2])
    assert (
        found["number"] == 1 and found["snapshot"]["phase"] == "running" and HOSTILE[0] in found["snapshot"]["metrics"]
    )
    assert found["tail"]["metric/loss"]["last"] == [0.5]
    curves = parsed(one.ask("/curves.json")[2])["curves"]
    assert curves["metric/loss"]["last"] == [0.5] and curves[f"metric/{HOSTILE[0]}"]["odd"] == [1]
    _, headers, data = one.ask("/snapshot.json", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and parsed(gzip.decompress(data)) == found
    assert one.ask("/snapshot.json?after=1")[0] == 204
    assert one.ask("/", "HEAD")[2] == b"" and one.ask("/../etc/passwd")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_there_is_nothing_but_reading(served: Any, method: str) -> None:
    assert served(job([])).ask("/snapshot.json", method)[0] == 501


def test_without_the_token_there_is_no_data(served: Any) -> None:
    one = served(job([worker(0)]), TOKEN)
    assert one.ask("/")[0] == 200  # has nothing of the job in it
    for path in ("/snapshot.json", "/curves.json", "/metrics"):
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}):
            status, _, text = one.ask(path, **headers)
            assert status == 401 and text.count(b"\n") == 1 and b"Bearer" in text
        assert one.ask(path, Authorization=f"Bearer {TOKEN}")[0] in (200, 501)


def test_a_page_of_somebody_else_cannot_read_it_by_another_name(served: Any) -> None:
    one = served(job([]))
    assert one.ask("/snapshot.json", Host="evil.example:80")[0] == 421
    assert one.ask("/", Host="evil.example")[0] == 421
    for name in ("localhost:1", "[::1]:3", "127.0.0.1"):
        assert one.ask("/snapshot.json", Host=name)[0] == 200
    assert (name_of("[::1]:80"), name_of("LOCALHOST:1"), name_of("")) == ("::1", "localhost", "")
    assert served(job([]), TOKEN).ask("/snapshot.json", Host="a.b", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_before_there_is_news_it_says_so(served: Any) -> None:
    status, _, text = served(None).ask("/snapshot.json")
    assert status == 503 and b"not answered" in text


def test_however_many_ask_an_answer_is_made_once_a_snapshot(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, made = served(job([worker(0)])), list[int]()
    original = page_server.as_json
    monkeypatch.setattr(page_server, "as_json", lambda value: made.append(1) or original(value))
    answers = list[bytes]()
    threads = [threading.Thread(target=lambda: answers.append(one.ask("/snapshot.json")[2])) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(answers) == 30 and len({*answers}) == 1 and len(made) == 1
    one.watcher.look()
    assert parsed(one.ask("/snapshot.json?after=1")[2])["number"] == 2 and len(made) == 2


def test_a_thousand_members_are_answered_in_half_a_second_and_few_bytes(served: Any) -> None:
    one = served(large(1000))
    began = time.thread_time()
    answer = one.server.answer("/snapshot.json", "localhost", "")
    assert time.thread_time() - began < 0.5 and len(answer.packed) < 100_000
    found = parsed(answer.body)["snapshot"]
    assert len(found["members"]) == MOST_ROWS and found["others"] == 1002 - MOST_ROWS


def test_those_who_say_nothing_hold_nobody_up_for_long(served: Any) -> None:
    one = served(job([]))
    idle = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(THREADS)]
    deadline = time.monotonic() + 10
    while len(one.server._open) < THREADS and time.monotonic() < deadline:
        time.sleep(0.01)
    one.server.look(time.monotonic() + page_server.LONGEST + 1)
    assert one.ask("/snapshot.json")[0] == 200
    for sock in idle:
        sock.close()


def test_garbage_and_connections_that_break_off_end_no_thread(served: Any) -> None:
    one = served(job([]))
    for words in (b"\x00\xff" * 500, b"GET /snapshot.json HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 500, b"GET"):
        with socket.create_connection(("127.0.0.1", one.port)) as sock:
            sock.sendall(words)
    assert all(one.ask("/snapshot.json")[0] == 200 for _ in range(THREADS + 1))
    assert all(thread.is_alive() for thread in one.server._threads)


def test_a_port_in_use_a_missing_token_and_one_that_is_none_are_a_line(tmp_path: Any) -> None:
    pytest.importorskip("plotly", reason="draws the page: pip install 'paramserver[monitor]'")
    from ps.config import ProcessConfig
    from ps.launch.page_process import page_socket, page_token

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(AddressInUse, match="--page-port"):
        page_socket(ProcessConfig(page_port=taken.getsockname()[1]))
    with pytest.raises(UsageError, match="--page-token"):
        page_socket(ProcessConfig(page_host="0.0.0.0", page_port=0))
    file = tmp_path / "token"
    for text in ("short", "with a space and so on", "ä" * 20):
        file.write_text(text)
        with pytest.raises(UsageError, match="token"):
            page_token(str(file))
    file.write_text(f"{TOKEN}\n")
    assert page_token(str(file)) == TOKEN and page_token(None) == ""
    page_socket(ProcessConfig(page_host="0.0.0.0", page_port=0, page_token=str(file))).close()


def test_psctl_page_without_a_scheduler_is_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    pytest.importorskip("plotly", reason="draws the page: pip install 'paramserver[monitor]'")
    from ps.cli import main
    from ps.monitor import serving

    def nobody(address: str, timeout: float, keys: str | None) -> None:
        raise ConnectTimeout("nobody listens there")

    monkeypatch.setattr(serving, "fetch_status", nobody)
    assert main(["page", "--scheduler", "10.0.0.1", "--page-port", "0"]) == 3
    assert capsys.readouterr().err == "psctl: error: nobody listens there\n"

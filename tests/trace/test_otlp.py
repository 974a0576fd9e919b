"""Promises of the spans that go to a collector: all of a timeline, at the right times; a collector ends no run."""

from __future__ import annotations

import gzip
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ps.launch.timeline import Timeline
from ps.trace import otlp, start

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="sends spans: pip install 'paramserver[otel]'")


class Collector(http.server.BaseHTTPRequestHandler):
    """Keeps what is sent to it."""

    heard: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        self.heard.append((self.path, data))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bytes]]]:
    Collector.heard = heard = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield heard
    server.shutdown()
    thread.join()
    server.server_close()


def timeline(folder: Path, count: int) -> Timeline:
    found = Timeline(str(folder / "t.json"))
    for rank in range(2):
        trace = start(found.part("worker", rank), "worker", rank)
        for clock in range(count):
            trace.add("compute", trace.now(), clock=clock)
        trace.close()
    return found


def test_all_spans_of_a_timeline_are_one_trace_by_process_at_the_times_they_were(
    tmp_path: Path, collector: list[tuple[str, bytes]]
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    said = list[str]()
    timeline(tmp_path, 400).finish(said.append, stop=lambda: False)
    assert said[-1].startswith("800 spans of the timeline were sent to http://127.0.0.1:")
    spans: dict[str, list[Any]] = {}
    for path, data in collector:
        assert path == "/v1/traces"
        for of in ExportTraceServiceRequest.FromString(data).resource_spans:
            about = {pair.key: pair.value.string_value for pair in of.resource.attributes}
            assert about["service.name"] == "t"
            spans.setdefault(about["service.instance.id"], []).extend(s for x in of.scope_spans for s in x.spans)
    assert {name: len(found) for name, found in spans.items()} == {"worker 0": 400, "worker 1": 400}
    every = [span for found in spans.values() for span in found]
    assert len({span.trace_id for span in every}) == 1 and len({span.span_id for span in every}) == 800
    assert all(span.name == "compute" and abs(span.start_time_unix_nano / 1e9 - time.time()) < 60 for span in every)


@pytest.mark.parametrize("kind", ["nobody", "silent"])
def test_a_collector_that_is_not_there_or_silent_costs_a_bounded_time_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(otlp, "LONGEST", 1.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{sock.getsockname()[1]}")
        if kind == "nobody":
            sock.close()
        said, began = list[str](), time.monotonic()
        timeline(tmp_path, 3).finish(said.append, stop=lambda: False)
    assert time.monotonic() - began < 10
    assert said[-1].startswith("0 spans of the timeline were sent to") and "not all" in said[-1]
    assert (tmp_path / "t.json").exists()


def test_without_the_variable_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in otlp.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    said = list[str]()
    timeline(tmp_path, 1).finish(said.append, stop=lambda: False)
    assert not any("spans" in line for line in said)

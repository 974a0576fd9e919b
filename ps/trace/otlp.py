"""Spans: a timeline's spans to an OpenTelemetry collector, by OpenTelemetry's own exporter, where a variable names one.

The variables are OpenTelemetry's: ``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_EXPORTER_OTLP_HEADERS`` and so on. A
collector that is down, slow or silent costs a run ``LONGEST`` seconds at its end, and is told of once.
"""

from __future__ import annotations

import importlib.util
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ps.trace.events import HEADER
from ps.trace.part import is_whole, read_events

VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
ADVICE = "spans are sent by OpenTelemetry's exporter, which is not installed. Try: pip install 'paramserver[otel]'"
LONGEST = 10.0
"""Seconds that a collector may take for all of them."""
BATCH = 500
MOST = 100_000
"""Spans of a run that are sent, at most; the first ones."""


def is_wanted() -> bool:
    """Whether a variable names a collector."""
    return any(os.environ.get(name) for name in VARIABLES)


def export(path: Path, name: str, say: Callable[[str], None]) -> None:
    """Send the spans of a merged timeline as one trace, called ``name``. Never raises; ``say`` what came of it."""
    if importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        say(ADVICE)
        return
    sent, told, longest = [0], list[str](), LONGEST

    def send() -> None:
        try:
            told.extend(_send(path, name, sent, time.monotonic() + longest))
        except Exception as error:  # a collector is no reason for a run to fail
            told.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=send, name="spans", daemon=True)
    thread.start()
    thread.join(longest)
    if thread.is_alive():
        told.append(f"it took more than {longest:g} s")
    where = next(os.environ[name] for name in VARIABLES if os.environ.get(name))
    said = f"{sent[0]:,} spans of the timeline were sent to {where}"
    say(said if not told else f"{said}, and not all: {told[0][:300]}")


def _send(path: Path, name: str, sent: list[int], deadline: float) -> Iterator[str]:
    """Send, counting in ``sent``; yield why not all."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter = OTLPSpanExporter(timeout=max(1, int(deadline - time.monotonic())))
    batch: list[Any] = []

    def flushed() -> bool:
        done = not batch or exporter.export(batch) is SpanExportResult.SUCCESS
        sent[0] += len(batch) if done else 0
        batch.clear()
        return done

    for span in spans(path, name):
        batch.append(span)
        if len(batch) == BATCH and not flushed():
            yield "the collector did not take them"
            return
        if sent[0] + len(batch) >= MOST:
            yield f"at most {MOST:,} are"
            break
    if not flushed():
        yield "the collector did not take them"


def spans(path: Path, name: str) -> Iterator[Any]:
    """Yield the spans of a merged timeline as OpenTelemetry has them, each below that of its process."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, TraceFlags

    chance = random.SystemRandom()
    trace = chance.getrandbits(128) or 1
    resources: dict[int, Any] = {}
    offset: int | None = None
    for _, events, _ in read_events(path):
        for event in events:
            told = event.get("args")
            args: dict[str, Any] = told if isinstance(told, dict) else {}
            if event["ph"] == "M" and event.get("name") == HEADER and is_whole(args.get("offset_ns")):
                offset = args["offset_ns"] if offset is None else offset
            elif event["ph"] == "M" and event.get("name") == "process_name":
                about = {"service.name": name, "service.instance.id": str(args.get("name"))}
                resources[event["pid"]] = Resource(about)
            elif event["ph"] == "X" and offset is not None:
                began = int(event["ts"] * 1000) + offset
                context = SpanContext(trace, chance.getrandbits(64) or 1, False, TraceFlags(TraceFlags.SAMPLED))
                yield ReadableSpan(
                    name=str(event["name"]),
                    context=context,
                    resource=resources.get(event["pid"]) or Resource({"service.name": name}),
                    attributes={str(key): value for key, value in args.items() if isinstance(value, int | float | str)},
                    start_time=began,
                    end_time=began + int(event["dur"] * 1000),
                )

"""The timeline of a process: what it did when, as a file that chrome://tracing and Perfetto draw.

``trace = start(path, "worker", rank)`` begins one; without a path it is ``OFF``, whose calls do nothing. Both are a
``Trace``, and code that is traced is written against that.
"""

from __future__ import annotations

from ps.trace.recorder import start
from ps.trace.trace import BEGIN, END, OFF, PASS, SERVER, WORKER, Trace

__all__ = ["BEGIN", "END", "OFF", "PASS", "SERVER", "WORKER", "Trace", "start"]

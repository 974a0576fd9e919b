"""A line of a structured log: one JSON object, with what a collector of logs looks for."""

from __future__ import annotations

import json
import time

TEXT, JSON = "text", "json"
FORMATS = (TEXT, JSON)
VARIABLE = "PS_LOG_FORMAT"


def json_line(process: str, message: str, *, level: str = "info", at: float | None = None, **more: str) -> str:
    """Return a line without its end: ``time`` (UTC, ISO 8601), ``level``, ``process``, ``message``, and more texts.

    ``at``: Unix time; now where it is None.
    """
    at = time.time() if at is None else at
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03}Z"
    return json.dumps({"time": when, "level": level, "process": process, "message": message, **more})

"""What a role that was started by hand says of itself while it works: a line with the time for what matters."""

from __future__ import annotations

import logging
import os
import sys
import time

from ps.cores import described
from ps.launch.first_process import doubts
from ps.log_line import JSON, TEXT, VARIABLE, json_line


class ByHand(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints what is logged, as long as the script has not said how it wants that done."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line, unless the script's own handlers do."""
        if not logging.getLogger().handlers:
            super().emit(record)


class JsonFormatter(logging.Formatter):
    """Writes a record as an object of JSON."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        message = super().format(record)
        return json_line(self._process, message, level=record.levelname.lower(), at=record.created, logger=record.name)


def log_by_hand(process: str = "psctl", log_format: str = TEXT) -> None:
    """Print on standard error what a role logs. A launcher does without: it shows a bar and a table.

    ``process``: what the role is called where that is not seen by the terminal it prints on.
    """
    if log_format == JSON:
        os.environ[VARIABLE] = JSON  # the flag's twin, for the line of an error that ends this process
    logger = logging.getLogger("ps")
    if any(isinstance(handler, ByHand) for handler in logger.handlers):
        return
    handler = ByHand(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter(process) if log_format == JSON else plain)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for line in filter(None, (described(os.environ), doubts())):
        logger.warning("%s", line)


def say_json(process: str, text: str) -> None:
    """Print a line of a structured log on standard error."""
    print(json_line(process, text), file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line with the time on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

"""What a role that was started by hand says of itself while it works: a line with the time for what matters."""

from __future__ import annotations

import logging
import os
import sys
import time

from ps.cores import described
from ps.launch.first_process import doubts


class ByHand(logging.StreamHandler):  # type: ignore[type-arg]
    """Prints what is logged, as long as the script has not said how it wants that done."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line, unless the script's own handlers do."""
        if not logging.getLogger().handlers:
            super().emit(record)


def log_by_hand() -> None:
    """Print on standard error what a role logs. A launcher does without: it shows a bar and a table."""
    logger = logging.getLogger("ps")
    if any(isinstance(handler, ByHand) for handler in logger.handlers):
        return
    handler = ByHand(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    for line in filter(None, (described(os.environ), doubts())):
        logger.warning("%s", line)


def say(text: str) -> None:
    """Print a line with the time on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

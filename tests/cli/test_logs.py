"""Promises of roles that are started by hand: they say what matters, with the time, unless the script does."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator

import pytest

from ps.cli.logs import ByHand, log_by_hand


@pytest.fixture
def by_hand() -> Iterator[Callable[[], None]]:
    """Return how a role begins to log, where nobody has said how: pytest has, from a test's begin to its end."""
    root, ours = logging.getLogger(), logging.getLogger("ps")
    level, before = ours.level, root.handlers

    def forget() -> None:  # also what roles have left that earlier tests ran in this process
        ours.handlers = [handler for handler in ours.handlers if not isinstance(handler, ByHand)]

    forget()

    def begin() -> None:
        root.handlers = []
        log_by_hand()

    yield begin
    root.handlers = before
    ours.setLevel(level)
    forget()


def test_what_is_logged_is_a_line_with_the_time_once(
    by_hand: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand()
    by_hand()
    logging.getLogger("ps.worker").info("joined the job as worker %d", 3)
    assert re.fullmatch(r"\d\d:\d\d:\d\d joined the job as worker 3\n", capsys.readouterr().err)


def test_a_script_that_has_its_own_way_of_logging_keeps_it(
    by_hand: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    by_hand()
    logging.basicConfig(format="mine: %(message)s", level=logging.INFO)
    logging.getLogger("ps.worker").info("joined")
    assert capsys.readouterr().err == "mine: joined\n"

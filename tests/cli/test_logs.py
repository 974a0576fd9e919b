"""Promises of roles that are started by hand: they say what matters, with the time, unless the script does."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest

from ps.cli import main
from ps.cli.logs import ByHand, log_by_hand, say_json


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


def test_a_structured_log_has_an_object_in_each_line_errors_too(
    by_hand: Callable[[], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PS_LOG_FORMAT", "text")  # is put back afterwards
    logging.getLogger().handlers = []
    log_by_hand("server", "json")
    logging.getLogger("ps.server").warning("a \n line of %s", "two")
    say_json("scheduler", "begun")
    assert main(["server", "--rank", "x"]) == 2
    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["level"], first["process"], first["logger"]) == ("warning", "server", "ps.server")
    assert first["message"] == "a \n line of two" and re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{3}Z", first["time"])
    assert (second["process"], second["message"]) == ("scheduler", "begun")
    assert (third["level"], third["exit_code"]) == ("error", "2") and "rank" in third["message"]

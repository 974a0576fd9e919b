"""Promises of the data of a job that goes on: others are refused by what differs, or named where that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.data import source_of
from ps.errors import UsageError
from ps.server.scheduler.report import kept
from ps.worker.data_identity import MOST_CALLS, DataIdentity

DATA = np.arange(100, dtype=np.float32)


def source(data: Any) -> Any:
    return source_of(data, 5)


def known(*data: Any) -> Any:
    """What a manifest has of a worker with these calls, after the way through a heartbeat."""
    before = DataIdentity()
    before.wanted = True
    for call, each in enumerate(data):
        before.look(call, source(each))
    return kept(before.report()).get("data")


def going_on(found: Any, *, refuses: bool = True) -> DataIdentity:
    now = DataIdentity()
    now.wanted = True
    now.go_on(found, "kept/step-000420", refuses=refuses)
    return now


def test_the_same_data_are_gone_on_with_and_others_refused_whichever_call_has_them() -> None:
    found = known(DATA, DATA[:50])
    now = going_on(found)
    now.look(0, source(DATA.copy()))
    with pytest.raises(
        UsageError, match=r"other data in its call 2 than before kept/step-000420: they have 60 ex.*had 50"
    ):
        now.look(1, source(DATA[:60]))
    with pytest.raises(UsageError, match=r"other values\. Give an empty folder, or go on all the same with --resume"):
        going_on(found).look(0, source(DATA + 1))


def test_where_it_was_asked_to_go_on_whatever_differs_that_is_said_and_counts_from_now_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = going_on(known(DATA), refuses=False)
    now.look(0, source(DATA + 1))
    assert "they have other values: that counts from now on" in caplog.text
    going_on(kept(now.report())["data"]).look(0, source(DATA + 1))


def test_what_was_read_before_the_checkpoint_is_known_is_looked_at_then() -> None:
    now = DataIdentity()
    now.wanted = True
    now.look(0, source(DATA[:10]))
    with pytest.raises(UsageError, match="they have 10 examples, and had 100"):
        now.go_on(known(DATA), "kept", refuses=True)


def test_without_checkpoints_nothing_is_looked_at_and_of_many_calls_only_the_first() -> None:
    idle = DataIdentity()
    idle.look(0, None)
    assert idle.report() == {}
    found = known(*[DATA] * 20)
    assert len(found) == MOST_CALLS and going_on(found).report()["data"] == found


@pytest.mark.parametrize("value", [None, 3, [], {"0": 3}])
def test_what_is_nothing_of_the_kind_is_passed_over(value: Any) -> None:
    going_on(value).look(0, source(DATA))
    assert "data" not in kept({"data": value})
    assert kept({"data": {"0": {"examples": "x", "fields": 3, "sample": 7}}}) == {"data": {"0": {}}}

"""Promises to servers: a scheduler that contradicts itself, or what is known, is refused by name and ends nobody."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ps.errors import BadMessage
from ps.protocol.messages import RoundOrder
from support import contradicting
from support.delta_parts import Hand, job_of

COUNT = 120
SEED = 20262
TWO = ((1, 1.0, 1.0, 1.0), (2, 1.0, 1.0, 1.0))


@pytest.mark.parametrize("name", contradicting.KINDS)
def test_orders_and_views_that_cannot_be_meant_end_no_server(name: str) -> None:
    said = contradicting.run(name, SEED, COUNT)
    assert said.total() == COUNT and said["taken"] > 0


@pytest.mark.parametrize(
    ("job", "order", "why"),
    [
        ({}, {"entries": ((1, 1e-300, 1.0, 1.0), (2, 1e300, 1.0, 1.0))}, "a weight of 1e\\+300 beside 1e-300"),
        ({}, {"entries": ((1, 1.0, 1e30, 1e30),)}, "times 1e\\+30 and 1e\\+30, is no float32"),
        ({}, {"entries": ((1, 1.0, 1.0, 1e39),)}, "times 1 and 1e\\+39, is no float32"),
        ({}, {"phase": "measure"}, "distances are to be measured, and this job's aggregator looks at none"),
        ({}, {"phase": "prepare", "factor": 1e39}, "a factor of 1e\\+39"),
        ({}, {"phase": "prepare", "share": 1e39}, "a share of 1e\\+39"),
        ({"aggregator": "geomedian"}, {"phase": "prepare", "weights": (1.0,)}, "1 weights for 2 contributions"),
        ({"aggregator": "geomedian"}, {"phase": "prepare", "weights": (1e39, 1.0)}, "a weight times"),
        ({"aggregator": "median"}, {"phase": "measure"}, "looks at none"),
    ],
)
def test_an_order_that_contradicts_itself_is_refused_by_name_and_changes_nothing(
    job: dict[str, Any], order: dict[str, Any], why: str
) -> None:
    hand = Hand(job_of(**job)).begin()
    for task in (1, 2):
        hand.upload(task, float(task))
    hand.order("collect")
    before = hand.shard._status()
    made = RoundOrder(0, 1, 1, "collect", 0, TWO, 2, (), 1.0, 1.0)
    with pytest.raises(BadMessage, match=why):
        hand.shard.order(dataclasses.replace(made, **order))
    assert hand.shard._status() == before
    measured = [hand.order("measure", TWO)] if job.get("aggregator") == "geomedian" else []
    assert [status.folded for status in measured] == [2] * len(measured)
    hand.publish(TWO, weights=(0.5, 0.5) if measured else ())
    assert hand.shard.version == 1, "and what can be meant is done"


def test_what_is_not_all_here_yet_is_no_contradiction() -> None:
    hand = Hand(job_of(aggregator="geomedian")).begin()
    status = hand.order("prepare", TWO, first=1, count=3, weights=(0.2, 0.3, 0.5), attempt=4)
    assert (status.attempt, status.folded, status.phase) == (4, 0, "collect")

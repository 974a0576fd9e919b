"""Whatever a client does wrong is refused or bounded, counted by its reason, and the round closes without it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable

import numpy as np
import pytest

from ps.errors import LayoutMismatch
from ps.protocol.layout import Layout
from support.cluster import Cluster, Process
from support.federated_hand import Hand, Hands, ones

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

CLIENTS = 6
ROUNDS = 4
HONEST = 3
DEADLINE = 4.0
"""Seconds of a round: longer than the heartbeat time-out, so that the vanished are noticed within it."""

VANISH = """
import sys, time
sys.path.insert(0, "tests")
from support.federated_hand import Hand
hand = Hand(sys.argv[1], 6).init()
print("joined", flush=True)
hand.upload(hand.take(), chunks=[0])
print("uploaded one chunk", flush=True)
time.sleep(60)
"""


def test_bad_clients_are_refused_by_reason_and_the_rounds_close_without_them(
    start: Callable[..., Cluster], command: Callable[..., Process]
) -> None:
    given = {"mode": "federated", "rounds": ROUNDS, "min_clients": HONEST, "chunk_size": 1024, "start_timeout": 20}
    cluster = start(servers=2, workers=CLIENTS, heartbeat_timeout=1.5, round_deadline=DEADLINE, **given)
    hands = Hands(cluster, CLIENTS)
    honest = hands.all[:HONEST]

    assert hands.each(lambda hand: hand.contribute(hand.take())) == ["accepted"] * CLIENTS

    tasks = hands.each(Hand.take)  # NaN, a norm that is a million times the usual, a claim, duplicates
    hands[3].send(tasks[3], ones(np.nan))
    hands[4].send(tasks[4], ones(1e6))
    hands[5].send(tasks[5], ones())
    hands[0].send(tasks[0], ones())
    hands[0].send(tasks[0], ones(50.0))  # the first one counts
    assert [hands[0].submit(tasks[0]) for _ in range(3)] == ["accepted"] * 3  # once
    submitted = [hands.later(hand.submit, task) for hand, task in zip(hands.all[3:5], tasks[3:5], strict=True)]
    submitted.append(hands.later(hands[5].submit, tasks[5], 1e12))
    submitted += [hands.later(hand.contribute, tasks[hand.rank]) for hand in honest[1:]]
    assert [one.result(30) for one in submitted] == ["nan", "norm", *["accepted"] * HONEST]
    np.testing.assert_allclose(hands[0].weights(2), np.float32(2), rtol=1e-6)

    stranger = Hand(cluster.address, 7, Layout.of({"w": np.zeros(9, np.float32)}))
    with pytest.raises(LayoutMismatch, match="w"):
        stranger.init()
    stranger.leave()

    hands.all.pop().leave()
    vanishing = command("-c", VANISH, cluster.address, program=(sys.executable,))
    vanishing.wait_for("joined")
    offered = [hands.later(hand.take) for hand in hands]
    vanishing.wait_for("uploaded one chunk")
    tasks = [one.result(30) for one in offered]
    vanishing.kill()
    hands[3].send(tasks[3], ones(), length=100)
    submitted = [hands.later(hands[3].submit, tasks[3])]
    submitted += [hands.later(hand.contribute, tasks[hand.rank]) for hand in honest]
    assert [one.result(30) for one in submitted] == ["malformed", *["accepted"] * HONEST]
    np.testing.assert_allclose(hands[0].weights(3), np.float32(3), rtol=1e-6)
    assert hands[4].contribute(tasks[4]) in ("late", "unfinished")  # its round is closed
    hands[4].send(tasks[4], ones(50.0))  # in vain
    assert hands[4].submit(tasks[4]) in ("late", "unfinished")
    assert hands[4].submit(dataclasses.replace(tasks[4], task=123456)) == "token"

    asked = command("status", "--json", "--scheduler", cluster.address)
    assert asked.wait() == 0, asked.text
    rounds = json.loads(asked.text)["federated"]
    refused = dict(rounds["refused"])
    refused.pop("late", None)  # what came late was told so, and had been counted as unfinished before
    assert refused == {"nan": 1, "norm": 1, "malformed": 1, "vanished": 1, "unfinished": 1, "token": 1}
    assert (rounds["round"], rounds["capped"], rounds["abandoned"]) == (3, 1, 0)
    assert [entry["accepted"] for entry in rounds["history"]] == [6, 4, 3]
    page = command("status", "--scheduler", cluster.address)
    assert page.wait() == 0
    assert "1 × nan" in page.text and "1 capped" in page.text and "round 4 of 4" in page.text

    assert hands.each(lambda hand: hand.contribute(hand.take())) == ["accepted"] * 5
    assert hands.each(Hand.take) == [None] * 5
    np.testing.assert_allclose(hands[0].weights(4), np.float32(4), rtol=1e-6)
    hands.close()
    assert [process.wait() for process in (cluster.scheduler, *cluster.servers)] == [0, 0, 0]

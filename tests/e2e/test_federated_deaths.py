"""Scheduler and servers of a federated job die by kill -9 in every phase of a round; the job finishes all its rounds.

The clients are in this process and take each step when a test says so; a server is held in a phase by a named pipe in
the place of the file that it is about to write.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.cluster import SCRIPTS, Cluster, Process
from support.federated_hand import Hand, Hands

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Start = Callable[..., Cluster]
CLIENTS = 3
TIMEOUT = 2.0
"""Seconds of the heartbeat time-out: so long is a killed server's place taken."""
ROUNDS = 5


@pytest.fixture
def job(start: Start) -> Iterator[tuple[Cluster, Hands]]:
    """Start a job of two servers with state files and three clients, which have the model."""
    given = {"mode": "federated", "rounds": ROUNDS, "min_clients": CLIENTS, "chunk_size": 1024, "start_timeout": 20}
    cluster = start(servers=2, workers=CLIENTS, state=True, durable=True, heartbeat_timeout=TIMEOUT, **given)
    hands = Hands(cluster, CLIENTS)
    yield cluster, hands
    hands.close()


def finish(cluster: Cluster, hands: Hands) -> None:
    """Play the rounds that are left; everybody must agree in the end that there were all of them."""
    while (tasks := hands.each(Hand.take)) != [None] * CLIENTS:
        verdicts = [hands.later(hand.contribute, task) for hand, task in zip(hands, tasks, strict=True)]
        assert [verdict.result(30) for verdict in verdicts] == ["accepted"] * CLIENTS
    for hand in hands:
        np.testing.assert_array_equal(hand.weights(ROUNDS), np.float32(ROUNDS))  # each round has added one
    status = cluster.wait_status(lambda status: versions(status) == [ROUNDS] * 2)
    assert (status["federated"]["round"], status["federated"]["phase"]) == (ROUNDS, "done")
    assert [entry["round"] for entry in status["federated"]["history"]] == list(range(ROUNDS))
    hands.each(Hand.leave)
    assert [process.wait() for process in (cluster.scheduler, *cluster.servers)] == [0, 0, 0]


def versions(status: dict[str, Any]) -> list[int]:
    return [row["clock"] for row in status["servers"] if row["state"] == "live"]


def restart_scheduler(cluster: Cluster) -> None:
    cluster.scheduler.kill()
    cluster.start_scheduler()


def restart_server(cluster: Cluster, rank: int) -> None:
    cluster.servers[rank].kill()
    cluster.restart_server(rank)


def phase(cluster: Cluster, name: str, **more: Any) -> dict[str, Any]:
    """Wait until the rounds are in a phase, and what else is to hold of them."""

    def holds(status: dict[str, Any]) -> bool:
        rounds = status.get("federated", {})
        return rounds.get("phase") == name and all(rounds.get(key) == value for key, value in more.items())

    return cluster.wait_status(holds)["federated"]


class Trap:
    """A named pipe where a server wants to write a file: there the server stands still, until it is killed."""

    def __init__(self, cluster: Cluster, rank: int, file: str) -> None:
        """Set it between two rounds: then nobody writes."""
        phase(cluster, "select")
        self._path = Path(f"{cluster.server_state(rank)}.{file}.draft")
        os.mkfifo(self._path)

    def take_away(self) -> None:
        self._path.unlink()


def test_the_scheduler_is_killed_in_every_phase(job: tuple[Cluster, Hands]) -> None:
    cluster, hands = job
    first = hands.later(hands[0].take)
    phase(cluster, "select", waiting=1)
    restart_scheduler(cluster)

    others = [hands.later(hand.take) for hand in (hands[1], hands[2])]
    tasks = [future.result(30) for future in (first, *others)]
    verdict = hands.later(hands[0].contribute, tasks[0])
    hands[1].upload(tasks[1], chunks=[0, 1])
    restart_scheduler(cluster)
    others = [hands.later(hands[i].contribute, tasks[i]) for i in (1, 2)]
    assert [one.result(30) for one in (verdict, *others)] == ["accepted"] * CLIENTS

    for held, name in (("prepared", "close"), ("model", "publish")):
        trap = Trap(cluster, 1, held)
        verdicts = [hands.later(lambda hand=hand: hand.contribute(hand.take())) for hand in hands]
        phase(cluster, name)
        restart_scheduler(cluster)
        assert phase(cluster, name)["accepted"] == CLIENTS
        cluster.servers[1].kill()
        trap.take_away()
        cluster.restart_server(1)
        assert [verdict.result(30) for verdict in verdicts] == ["accepted"] * CLIENTS
        # What a server has counted and not prepared is gone with it, and the round begins anew.
        phase(cluster, "select", abandoned=1, round=1 if name == "close" else 2)
    finish(cluster, hands)


def test_a_server_is_killed_in_every_phase(job: tuple[Cluster, Hands]) -> None:
    cluster, hands = job
    first = hands.later(hands[0].take)
    phase(cluster, "select", waiting=1)
    restart_server(cluster, 0)
    others = [hands.later(hand.take) for hand in (hands[1], hands[2])]
    tasks = [future.result(30) for future in (first, *others)]

    hands[0].upload(tasks[0])
    hands[1].upload(tasks[1], chunks=[0, 1])
    waiting = hands.later(hands[2].contribute, tasks[2])
    phase(cluster, "collect", active=CLIENTS)
    restart_server(cluster, 1)
    later = [hands.later(hands[i].contribute, tasks[i]) for i in (0, 1)]
    verdicts = [one.result(30) for one in (waiting, *later)]
    assert verdicts == ["accepted"] * CLIENTS  # the attempt was given up; their tasks were not

    trap = Trap(cluster, 1, "prepared")
    verdicts = [hands.later(lambda hand=hand: hand.contribute(hand.take())) for hand in hands]
    phase(cluster, "close")
    trap.take_away()
    restart_server(cluster, 1)
    assert [verdict.result(30) for verdict in verdicts] == ["accepted"] * CLIENTS

    trap = Trap(cluster, 1, "model")
    verdicts = [hands.later(lambda hand=hand: hand.contribute(hand.take())) for hand in hands]
    phase(cluster, "publish")
    restart_server(cluster, 0)  # which has published
    trap.take_away()
    restart_server(cluster, 1)  # which has not
    assert [verdict.result(30) for verdict in verdicts] == ["accepted"] * CLIENTS
    finish(cluster, hands)


def test_a_server_that_kept_nothing_ends_everybody_with_a_line_that_names_it(start: Start) -> None:
    given = {"mode": "federated", "chunk_size": 1024, "heartbeat_timeout": TIMEOUT}
    cluster = start(servers=2, workers=1, **given)
    gate = cluster.path("gate")
    client = cluster.worker(str(SCRIPTS / "client.py"), "--hold", gate)
    client.wait_for("^fit ")
    cluster.servers[1].kill()
    assert cluster.scheduler.wait() == 4
    gate.touch()
    left: list[Process] = [client, cluster.servers[0], cluster.scheduler]
    assert [process.wait() for process in left] == [4, 4, 4]
    for process in left:
        assert "server 1" in process.text, process.text
        assert "Traceback" not in process.text, process.text

"""Promises of the cluster: the members of a simulated job are those of a real one, however many come and go."""

from __future__ import annotations

import numpy as np

from ps.protocol.layout import Layout
from ps.protocol.messages import Assign, Poll
from ps.simulate.in_process_cluster import InProcessCluster

LAYOUT = Layout.of({"w": np.zeros(64, np.float32)})


def cluster_of(workers: int, **settings: object) -> InProcessCluster:
    explicit = {"mode": "federated", "servers": 2, "workers": workers, **settings}
    return InProcessCluster(explicit, LAYOUT, np.zeros(LAYOUT.nbytes, np.uint8))


def test_no_two_clients_are_one_member_after_thousands_came_and_went() -> None:
    cluster = cluster_of(workers=1500)
    seats = {rank: cluster.join(rank, 0.0) for rank in range(1500)}
    for turn in range(2):
        for rank in range(100, 1400):
            cluster.leave(seats.pop(rank), turn + 1.0)
        for rank in range(100, 1400):
            seats[rank] = cluster.join(rank, turn + 1.5)
            assert seats[rank]
    assert len(set(seats.values())) == 1500


def test_clients_get_their_tasks_when_the_selection_is_due() -> None:
    cluster = cluster_of(workers=4)
    members = [cluster.join(rank, 0.0) for rank in range(4)]
    for member in members[:3]:
        cluster.tell(member, Poll(1, member, 0, {}), 0.5)
    assert cluster.answers() == [], "the fourth is waited for"
    wake = cluster.wake(0.5)
    assert wake is not None
    cluster.tick(wake)
    assert sorted(member for member, message in cluster.answers() if isinstance(message, Assign)) == members[:3]

"""What a client believes of servers where no masks are used: everything, as protocol/SECURITY.md says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.server.shard.federated_shard import FederatedShard
from ps.testing import LocalCluster
from ps.worker import KV


def test_without_masks_nobody_compares_the_weights_that_a_server_gives(
    loopback: Callable[..., LocalCluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, victims = FederatedShard._answer, list[int]()

    def give_another(self: FederatedShard, chunk: Any, waiter: Any) -> Any:
        sent = answer(self, chunk, waiter)
        if self.version == 0:
            victims.append(waiter.member)
            if waiter.member == victims[0] and sent.loan is not None:
                sent.loan.weights = sent.loan.weights + 64
        return sent

    def script(kv: KV) -> tuple[float, float]:
        params = kv.init({"w": np.zeros(2)})
        began = []
        for _ in kv.batches(np.zeros(4), 4):
            began.append(float(params["w"][0]))
            kv.step({"w": np.full(2, -8.0)})
        return began[0], float(params["w"][0])

    monkeypatch.setattr(FederatedShard, "_answer", give_another)
    job: dict[str, Any] = {"mode": "federated", "rounds": 1, "optimizer": "sgd:lr=0.125", "partition": "own"}
    found = loopback(**job, servers=1, workers=3, clients_per_round=3, over_select=1.0).run(script, script, script)
    assert sorted(began for began, _ in found) == [0.0, 0.0, 64.0]
    assert [end for _, end in found] == [1.0, 1.0, 1.0], "deltas of all three count, and nobody is left out or told"

"""A client that dies and comes back, with the real scheduler and servers: what its state file is good for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import ConfigError
from ps.protocol.messages import Upload
from ps.state_file import StateFile
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.exchange import Exchange
from ps.worker.federated.participation import FederatedParticipation
from ps.worker.federated.store import FederatedStore
from ps.worker.startup import connect
from ps.worker.step_log import StepLog

Start = Callable[..., LocalCluster]
SOON: Any = {"start_timeout": 3.0}
"""For jobs whose last client leaves before the end: the scheduler waits so long for another."""


def federated(loopback: Start, **job: Any) -> LocalCluster:
    return loopback(**{"mode": "federated", "servers": 2, "optimizer": "sgd:lr=0.125", "chunk_size": 1024, **job})


class Killed(BaseException):
    """The process is gone."""


def killed_while_uploading(store: FederatedStore, chunks: int) -> list[int]:
    """Train a round and die when so many chunks are uploaded; return which."""
    connection = store.connection
    sent: list[int] = []
    upload = FederatedParticipation._upload

    def some(self: FederatedParticipation, task: int, round: int, frames: Any, token: int) -> Any:
        sent.extend(sorted(frames)[:chunks])
        self.chunks, kept = tuple(chunk for chunk in self.chunks if chunk.index in sent), self.chunks
        yield from upload(self, task, round, frames, token)
        self.chunks = kept
        raise Killed

    patch = pytest.MonkeyPatch()
    patch.setattr(FederatedParticipation, "_upload", some)
    with patch.context(), pytest.raises(Killed):
        task = store.begin()
        assert task is not None
        for vector in store._flat.values():
            vector += 1
        store.training.stepped(1)
        store.end(10, {})
    patch.undo()
    assert connection.chunks
    return sent


def connected(job: LocalCluster, state: Path | None, **process: Any) -> tuple[KV, FederatedStore]:
    store = job.store(0, state=None if state is None else str(state), **process)
    kv = KV(store, xp.CPU, StepLog(None))
    kv.init({"w": np.zeros(1000, np.float32)})
    return kv, store


def uploads(patch: pytest.MonkeyPatch) -> list[int]:
    """Note the chunks that exchanges upload from now on."""
    seen: list[int] = []
    submit = Exchange.submit

    def noting(self: Exchange, batch: Any, server: int, make: Any, *rest: Any) -> None:
        if getattr(make, "func", None) is Upload:
            seen.append(make.keywords["chunk"])
        submit(self, batch, server, make, *rest)

    patch.setattr(Exchange, "submit", noting)
    return seen


def test_a_client_that_was_killed_and_restarted_uploads_only_what_is_missing(
    loopback: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = federated(loopback, workers=1, rounds=1, partition="own", heartbeat_timeout=1.0, min_clients=1)
    _, store = connected(job, tmp_path / "state")
    assert killed_while_uploading(store, 2) == [0, 1]
    store._session._abandon()  # no goodbye
    seen = uploads(monkeypatch)
    with connected(job, tmp_path / "state")[0] as kv:
        for _ in kv.batches(np.zeros(4), 4):
            kv.step({"w": np.zeros(1000, np.float32)})
        assert kv.params["w"].tolist() == [1.0] * 1000
    assert seen == [2, 3]


def test_a_client_that_was_restarted_sends_what_it_could_not_deliver_with_its_next_delta(
    loopback: Start, tmp_path: Path
) -> None:
    """The scheduler has given its task to nobody else, and it counts no contribution that never came whole."""
    job = federated(loopback, workers=1, rounds=2, compress="topk:0.5", partition="own")
    kv, store = connected(job, tmp_path / "state")
    assert killed_while_uploading(store, 2) == [0, 1]
    kv._loader = None  # type: ignore[assignment]
    store._session.leave()
    kv, store = connected(job, tmp_path / "state")
    with kv:
        for _ in kv.batches(np.zeros(4), 4):
            kv.step({"w": np.full(1000, -8.0, np.float32)})
        # 1 was not delivered, 1 trained in each of two rounds; half of the elements travel each time
        total = kv.params["w"] + np.concatenate(
            [store._encoder.state[c.index]["residual"] for c in store.connection.chunks]
        )
        np.testing.assert_allclose(total, 3.0, rtol=1e-5)


def test_a_state_file_of_another_model_is_refused(loopback: Start, tmp_path: Path) -> None:
    with connected(federated(loopback, workers=1, rounds=1, partition="own"), tmp_path / "state")[0] as kv:
        for _ in kv.batches(np.zeros(4), 4):
            kv.step({"w": np.ones(1000, np.float32)})
    with (
        federated(loopback, workers=1, **SOON).connect(0, state=str(tmp_path / "state")) as kv,
        pytest.raises(ConfigError, match="model = "),
    ):
        kv.init({"w": np.zeros(7)})


def test_a_client_is_who_its_state_file_says_whatever_rank_is_free(
    loopback: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = federated(loopback, workers=2, clients_per_round=1, **SOON)
    StateFile(str(tmp_path / "client")).keep("client", {"owner": {"rank": 1}}, {})
    monkeypatch.setenv("PS_SCHEDULER", cluster.address)
    monkeypatch.setenv("PS_STATE", str(tmp_path / "client"))
    with connect() as kv:
        assert kv.rank == 1

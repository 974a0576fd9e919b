"""ClientCheckpoint: what a client knows outlives its process, and is nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.config import job_from
from ps.errors import ConfigError
from ps.protocol.layout import Layout
from ps.state_file import StateFile
from ps.worker.federated.client_checkpoint import ClientCheckpoint, kept_sums
from ps.worker.federated.delta_encoder import DeltaEncoder
from ps.worker.federated.participation import PendingUpload
from ps.worker.federated.training import Training

OWNER = {"rank": 1, "model": "abc"}
LAYOUT = Layout.of({"w": np.zeros(64, np.float32)})


class Client:
    """What one process of a client has."""

    def __init__(self, path: Path | None, owner: dict[str, Any] = OWNER, **job: Any) -> None:
        made = job_from({"mode": "federated", "workers": 2, "optimizer": "sgd:lr=0.5", "compress": "topk:0.1", **job})
        self.training, self.encoder = Training(made), DeltaEncoder(made, 1)
        self.memory = ClientCheckpoint(StateFile(None if path is None else str(path)), owner)
        self.found: PendingUpload | None = None

    def restored(self) -> Client:
        self.found = self.memory.restore(self.training, self.encoder)
        return self

    def lesson(self, weights: dict[str, np.ndarray], round: int, steps: int = 2) -> dict[str, np.ndarray]:
        self.training.begin(weights, round)
        for step in range(steps):
            self.training.step({"float32": np.random.default_rng([round, step]).standard_normal(64).astype("f4")})
        return self.training.delta()

    def keep(self, upload: PendingUpload | None = None) -> None:
        self.memory.keep(self.training, self.encoder, upload)


def first(control: bool = False) -> dict[str, np.ndarray]:
    found = {"float32": np.ones(64, np.float32)}
    return {**found, "float32/control": np.zeros(64, np.float32)} if control else found


def upload(frames: dict[int, np.ndarray]) -> PendingUpload:
    return PendingUpload(9, 4, 4, 12.0, 2, {"loss": 0.5}, frames, 0)


def test_without_a_file_nothing_is_kept_and_nothing_found() -> None:
    client = Client(None)
    client.lesson(first(), 0)
    client.keep()
    assert client.restored().found is None


@pytest.mark.parametrize("algorithm", ["fedavg", "scaffold", "diloco"])
def test_a_restarted_client_goes_on_as_if_nothing_had_happened(tmp_path: Path, algorithm: str) -> None:
    job = {"algorithm": algorithm}
    steady, before = Client(None, **job), Client(tmp_path / "state", **job)
    a, b = first(algorithm == "scaffold"), first(algorithm == "scaffold")
    chunks = (LAYOUT.with_controls() if algorithm == "scaffold" else LAYOUT).chunks(1, 1 << 20)
    for round in range(4):
        client = Client(tmp_path / "state", **job).restored() if round else before
        frames = []
        for each, weights in ((steady, a), (client, b)):
            frames.append(each.encoder.pack(each.lesson(weights, round), chunks, round))
            each.training.settle(True)
            each.keep()
        assert {i: f.tobytes() for i, f in frames[0].items()} == {i: f.tobytes() for i, f in frames[1].items()}
        assert client.training.updates == steady.training.updates
    np.testing.assert_equal(a, b)


def test_a_delta_on_its_way_is_found_again_with_all_that_is_to_be_said_of_it(tmp_path: Path) -> None:
    client, chunks = Client(tmp_path / "state"), LAYOUT.chunks(1, 128)
    frames = client.encoder.pack(client.lesson(first(), 4), chunks, 4)
    client.keep(upload(frames))
    found = Client(tmp_path / "state").restored().found
    assert found is not None
    assert (found.task, found.round, found.version, found.examples, found.steps) == (9, 4, 4, 12.0, 2)
    assert found.report == {"loss": 0.5}
    assert {i: f.tobytes() for i, f in found.frames.items()} == {i: f.tobytes() for i, f in frames.items()}
    client.keep()
    assert Client(tmp_path / "state").restored().found is None


def test_a_delta_that_counts_after_a_restart_renews_the_control_variates_all_the_same(tmp_path: Path) -> None:
    job = {"algorithm": "scaffold", "compress": "none"}
    client = Client(tmp_path / "state", **job)
    client.lesson(first(control=True), 0)
    client.keep(upload({}))
    restarted = Client(tmp_path / "state", **job).restored()
    restarted.training.settle(True)
    client.training.settle(True)
    assert client.training.own["float32"].any()
    np.testing.assert_equal(restarted.training.own, client.training.own)


def test_and_one_that_does_not_count_does_not(tmp_path: Path) -> None:
    job = {"algorithm": "scaffold", "compress": "none"}
    client = Client(tmp_path / "state", **job)
    client.lesson(first(control=True), 0)
    client.keep(upload({}))
    restarted = Client(tmp_path / "state", **job).restored()
    restarted.training.settle(False)
    assert not restarted.training.own["float32"].any()
    assert not restarted.training.renewed


def test_what_another_client_or_another_job_has_kept_is_refused_naming_what_differs(tmp_path: Path) -> None:
    Client(tmp_path / "state").keep()
    with pytest.raises(ConfigError, match="a client with rank = 1, not 2; give another --state"):
        Client(tmp_path / "state", {**OWNER, "rank": 2}).restored()
    with pytest.raises(ConfigError, match="a client with model = 'abc', not 'xyz'"):
        Client(tmp_path / "state", {**OWNER, "model": "xyz"}).restored()
    (tmp_path / "state.client").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="does not hold a state of ours"):
        Client(tmp_path / "state").restored()


def test_a_client_that_is_started_again_knows_in_which_sums_it_has_been(tmp_path: Path) -> None:
    path = str(tmp_path / "state")
    others = {bytes([number]) * 32 for number in range(4)}
    kept_sums(StateFile(path), "job").note(3, others)
    assert "differs by 1" in kept_sums(StateFile(path), "job").refusal(3, others - {bytes(32)})
    assert not kept_sums(StateFile(path), "another job").refusal(3, others - {bytes(32)})
    StateFile(path).keep("sums", {"job": "job", "sums": {"3": [["no identity"]]}}, {})
    with pytest.raises(ConfigError, match="move it away"):
        kept_sums(StateFile(path), "job")

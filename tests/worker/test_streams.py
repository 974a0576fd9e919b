"""Promises of ipc over sockets of our own: a line may end at any moment, and nobody notices but by the time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.protocol.transports.registry import fast_for
from ps.protocol.transports.stream_listener import StreamListener
from ps.testing import LocalCluster

Start = Callable[..., LocalCluster]
ORIGINAL = StreamListener._read
SIZE = 60_000


def trained(kv: Any) -> bytes:
    params = kv.init({"a": np.zeros(SIZE, np.float32), "b": np.linspace(0, 1, 77)})
    for step in range(12):
        random_ = np.random.default_rng(100 * step + kv.rank)
        kv.step({name: random_.standard_normal(value.shape).astype(value.dtype) for name, value in params.items()})
    return b"".join(np.array(value).tobytes() for value in params.values())


@pytest.mark.parametrize(
    ("nbytes", "limit", "taken"), [(5, "", "unix"), (5 << 20, "4194304", "unix"), (5 << 20, "212992", "ipc")]
)
def test_a_large_model_goes_by_streams_only_where_the_system_gives_them_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nbytes: int, limit: str, taken: str
) -> None:
    file = tmp_path / "wmem_max"
    file.write_text(limit)
    monkeypatch.setattr("ps.protocol.unix_stream.LIMIT", file)
    both = ["unix:///a", "ipc:///b"]
    assert fast_for(nbytes, both)[0] == f"{taken}:///{'ab'[taken == 'ipc']}"
    assert fast_for(nbytes, ["unix:///a"]) == ["unix:///a"], "where there is no other"
    monkeypatch.setattr("ps.protocol.unix_stream.LIMIT", tmp_path / "none")
    assert fast_for(5 << 20, both) == ["ipc:///b"]


@pytest.mark.parametrize(
    ("seed", "job"),
    [(0, {"optimizer": "adam"}), (1, {"compress": "int8"}), (2, {"clip_norm": 0.5, "overlap": True})],
)
def test_lines_that_are_cut_at_any_moment_change_no_bit(
    loopback: Start, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any], seed: int
) -> None:
    common = {"servers": 2, "workers": 2, "chunk_size": 100_000, **job}
    wanted = set(loopback(transport="tcp", **common).run(trained, trained))
    chance, cuts = random.Random(seed), []
    for module in ("exchange", "request_queue"):
        monkeypatch.setattr(f"ps.worker.{module}.INQUIRE", 0.05)

    def read(self: StreamListener, connection: Any) -> Iterator[Any]:
        for heard in ORIGINAL(self, connection):
            yield heard
            if chance.random() < 0.05 and len(cuts) < 8:
                cuts.append(connection.origin)
                self.cut(connection.origin)
        if connection.channel.awaited and chance.random() < 0.2 and len(cuts) < 8:  # in the midst of a payload
            cuts.append(connection.origin)
            self.cut(connection.origin)

    monkeypatch.setattr(StreamListener, "_read", read)
    found = set(loopback(transport="ipc", **common).run(trained, trained))
    assert found == wanted and len(found) == 1 and cuts

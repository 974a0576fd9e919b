"""Promises of the memory that a worker with a part of the model shares with servers: its gradients and weights lie
where they do in its own buffer, nothing travels that need not, and what servers are told of it is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps.errors import BadMessage, Unshared
from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.protocol.layout import Chunk
from ps.protocol.segment import Segment
from ps.protocol.worker_memory import WorkerMemory
from ps.testing import LocalCluster
from ps.worker import KV
from support.pipeline_job import X, Y, assert_same, layers, script, whole

Start = Callable[..., LocalCluster]


def chunk(offset: int, nbytes: int = 64) -> Chunk:
    return Chunk(3, 0, "float32", 0, nbytes // 4, offset)


def test_a_chunk_lies_where_its_section_does_in_the_workers_buffer() -> None:
    memory = WorkerMemory.create(256, ((1024, 128, 128), (4096, 128, 0)))
    for begin, place in ((1024, 128), (1088, 192), (4096, 0), (4160, 64)):
        memory.part("gradients", chunk(begin))[:] = begin
        assert (memory.array("gradients")[place : place + 64].view(np.float32) == begin).all()
    for begin in (0, 960, 1152, 1120, 4224, 1 << 40):
        with pytest.raises(BadMessage, match="chunk 3 is of no section that this memory is for"):
            memory.part("weights", chunk(begin))


@pytest.mark.parametrize(
    "sections",
    [((0, 512, 0),), ((0, 64, 224),), ((0, 64, 4),), ((64, 64, 0), (0, 64, 64)), ((0, 128, 0), (64, 64, 128))],
)
def test_sections_that_are_not_in_order_or_not_in_the_memory_are_refused(sections: Any) -> None:
    with pytest.raises(BadMessage, match=r"a section of [0-9]+ bytes from byte"):
        WorkerMemory(Segment.create(WorkerMemory.size(256)), 256, sections)


@pytest.mark.parametrize(
    ("job", "how"),
    [
        ({"servers": 2, "optimizer": "adam:lr=0.05"}, {}),
        ({"stages": 4, "pipeline_workers": 2, "clip_norm": 0.1, "chunk_size": 1024}, {"tied": True, "cuts": [2, 3, 4]}),
        ({"waves": 3}, {"kinds": {"0.*": "frozen"}}),
        ({"spares": 1}, {"dropout": True}),
        ({"mode": "pipeline-ssp"}, {}),
    ],
)
def test_a_pipeline_has_the_same_bits_whether_its_workers_share_memory_with_servers_or_not(
    loopback: Start, job: dict[str, Any], how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    create = WorkerMemory.create

    def counted(nbytes: int, sections: Any, **how: Any) -> WorkerMemory:
        made.append(nbytes)
        return create(nbytes, sections, **how)

    monkeypatch.setattr(WorkerMemory, "create", counted)
    settings = {"mode": "pipeline", "workers": 2, **job}
    found = loopback(transport="auto", **settings).run(*[lambda kv: script(kv, **how)] * 2)
    assert len(made) == 2, "one for each worker, of its own part"
    expected = loopback(transport="tcp", **settings).run(*[lambda kv: script(kv, **how)] * 2)
    assert len(made) == 2
    assert found[0][1] == expected[0][1]
    assert_same(whole(found), whole(expected))


def test_without_memory_to_share_everything_travels(
    loopback: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(nbytes: int, sections: Any, **how: Any) -> WorkerMemory:
        raise Unshared("there is no room")

    def train(kv: KV) -> int:
        pipe = Pipeline(layers(), softmax_cross_entropy)
        pipe.init(kv)
        for _ in range(3):
            pipe.step(X, Y, microbatches=4)
        return kv.clock

    monkeypatch.setattr(WorkerMemory, "create", refuse)
    assert loopback(mode="pipeline", workers=2, transport="auto").run(train, train) == [3, 3]
    assert "no shared memory (there is no room)" in caplog.text

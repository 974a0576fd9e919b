"""What a server demands of a model before it makes room for it, whatever a worker announces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.config import job_from
from ps.errors import BadMessage
from ps.protocol.layout import Layout
from ps.protocol.messages import Init
from ps.server.job_key import JobKey
from ps.server.shard.federated_shard import FederatedShard
from support.lone import Lone


@pytest.mark.parametrize(
    ("job", "section", "text"),
    [
        ({}, "float32/trainable/g momentum=0.5", "group 'g': optimizer sgd takes no 'momentum'"),
        ({}, "float32/trainable/g lr=-1.0", "group 'g': optimizer sgd: lr=-1.0 must be"),
        ({}, "float32/trainable/g lr=nan", "lr=nan must be"),
        ({}, "float32/trainable/g lr", "'lr' is not key=number"),
        ({}, "float32/trainable/g", "group 'g': 'g' is not key=number"),
        ({"compress": "int8"}, "float16", r"w float16\[8\] cannot be trained with compress int8"),
        ({"compress": "topk:0.5"}, "bfloat16", r"w bfloat16\[8\] cannot be trained with compress topk"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_and_another_can_still_be_announced(
    job: dict[str, Any], section: str, text: str
) -> None:
    lone = Lone(1, seeded=False, **job)
    with pytest.raises(BadMessage, match=text):
        lone.ask(Init(1, 1, 1, lone.job.chunk_bytes, (("w", section, (8,)),)))
    assert not lone.shard.chunks
    lone.seed()
    lone.push(1, 0, 1.0) if not job else None
    assert lone.shard.chunks


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_federated_server_takes_no_model_of_half_precision(dtype: str) -> None:
    job = job_from({"mode": "federated", "workers": 1})
    shard = FederatedShard(0, job, JobKey.new())
    with pytest.raises(BadMessage, match="cannot be trained with mode federated"):
        shard._init("o", Init(1, 1, 1, job.chunk_bytes, Layout.of({"w": np.zeros(8, dtype)}).pack()))

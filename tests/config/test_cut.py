"""Promises of the cut into chunks: small where the model travels between hosts and that gains, else large."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.config.cut import SMALLEST, SPREAD, chunk_bytes_of, cut_for_links
from ps.config.job import JobConfig
from ps.protocol.layout import Layout


def test_between_hosts_a_model_has_16_chunks_unless_these_were_very_small_or_large() -> None:
    job = cut_for_links(JobConfig(transport="tcp"))
    assert job.min_chunks == SPREAD == 16
    for nbytes, expected in ((1000, SMALLEST), (3_200_000, 200_000), (10**9, 2 << 20)):
        assert chunk_bytes_of(job, nbytes) == expected
        assert chunk_bytes_of(JobConfig(transport="tcp"), nbytes) == 2 << 20
    model = Layout.of({"w": np.zeros(800_000, np.float32)})
    assert [len(model.cut(each)) for each in (job, JobConfig(transport="tcp"))] == [16, 2]
    two = cut_for_links(JobConfig(servers=2))
    assert [chunk.server for chunk in model.cut(two)] == [0, 1] * 8


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk_size": 1 << 20},
        {"min_chunks": 3},
        {"mode": "federated"},
        {"transport": "shm"},
        {"aggregator": "krum:1", "workers": 5},
        {"aggregator": "median", "workers": 5},
        {"compress": "topk:0.01"},
        {"compress": "onebit"},
    ],
)
def test_it_stays_as_it_is_where_somebody_has_said_so_or_small_chunks_gain_nothing(settings: dict[str, Any]) -> None:
    job = JobConfig(**settings)
    assert cut_for_links(job) is job


def test_what_is_resumed_is_cut_as_it_was_whether_it_says_how_many_chunks_there_are_or_not() -> None:
    """A checkpoint says the size that its chunks had."""
    before = cut_for_links(JobConfig(transport="tcp", compress="int8"))
    size = chunk_bytes_of(before, 3_200_000)
    for again in (JobConfig(chunk_size=size), JobConfig(chunk_size=size, min_chunks=16)):
        assert chunk_bytes_of(cut_for_links(again), 3_200_000) == size

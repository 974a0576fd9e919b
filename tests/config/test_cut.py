"""Promises of the cut into chunks: small where the model travels between hosts and that gains, else large; as large as
can be where memory is shared."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ps.config.cut import SMALLEST, SPREAD, chunk_bytes_of, cut_for_links, cut_for_memory
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
    for again in (JobConfig(chunk_size=size, resume="kept"), JobConfig(chunk_size=size, min_chunks=16)):
        assert chunk_bytes_of(cut_for_links(again), 3_200_000) == size


def test_in_shared_memory_a_step_is_a_message_or_few_for_each_server_as_if_it_had_been_demanded() -> None:
    model = Layout.of({"w": np.zeros(10_000_000, np.float32)})
    found, demanded = cut_for_memory(JobConfig(servers=2)), JobConfig(servers=2, transport="shm")
    assert model.cut(found) == model.cut(demanded) and len(model.cut(found)) == 2 < len(model.cut(JobConfig()))
    found.check()
    assert cut_for_links(found) is found, "nobody cuts it anew"


@pytest.mark.parametrize(
    "settings",
    [
        {"chunk_size": 1 << 20},
        {"min_chunks": 1},
        {"window": 9 << 20},
        {"transport": "tcp"},
        {"transport": "shm"},
        {"mode": "federated"},
        {"mode": "pipeline", "workers": 2},
        {"compress": "int8"},
        {"overlap": True},
        {"replicas": 1},
        {"aggregator": "median", "workers": 3},
    ],
)
def test_it_is_no_larger_in_memory_where_somebody_has_said_so_or_it_gains_nothing(settings: dict[str, Any]) -> None:
    job = JobConfig(**settings)
    assert cut_for_memory(job) is job


def test_a_window_that_was_chosen_and_holds_such_a_chunk_stays() -> None:
    assert [cut_for_memory(JobConfig(window=n << 20)).window >> 20 for n in (32, 33, 1024)] == [32, 33, 1024]


def test_what_is_resumed_between_hosts_of_a_job_in_memory_has_room_for_two_of_its_chunks_unless_somebody_chose() -> (
    None
):
    job = JobConfig(resume="kept", chunk_size=32 << 20)
    assert cut_for_links(job) == dataclasses.replace(job, window=64 << 20)
    chosen = dataclasses.replace(job, window=9 << 20)
    assert cut_for_links(chosen) == chosen
    assert cut_for_links(cut_for_links(job)) == cut_for_links(job)
    fits = JobConfig(resume="kept", chunk_size=4 << 20)
    assert cut_for_links(fits) is fits

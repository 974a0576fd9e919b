"""Promises of the job's specs: each text is read once, what is left open is filled in, and a wrong one is refused."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from ps.config import JobConfig
from ps.errors import ConfigError


def test_what_is_left_open_is_as_the_algorithm_has_it() -> None:
    specs = JobConfig(mode="federated", algorithm="diloco", optimizer="adam").specs
    assert (specs.aggregator.name, specs.local_optimizer.name) == ("mean", "adamw")
    assert str(specs.server_optimizer).startswith("nesterov:lr=0.7,momentum=0.9")


def test_what_is_left_open_is_else_as_the_job_has_it() -> None:
    specs = JobConfig(mode="federated", optimizer="momentum:0.3").specs
    assert (str(specs.local_optimizer), specs.aggregator.name) == (str(specs.optimizer), "weighted")
    assert JobConfig(optimizer="momentum:0.3").specs.aggregator.name == "mean"


def test_what_is_set_is_what_counts() -> None:
    job = JobConfig(mode="federated", algorithm="fedbuff:3", aggregator="median", local_optimizer="sgd:0.5")
    assert (job.specs.aggregator.name, str(job.specs.local_optimizer)) == ("median", "sgd:lr=0.5,weight_decay=0.0")
    assert job.specs.algorithm.build().buffer == 3


@pytest.mark.parametrize("mode", ["sync", "federated"])
@pytest.mark.parametrize(
    "name",
    [
        *("optimizer", "schedule", "compress", "algorithm", "partition"),
        *("local_optimizer", "server_optimizer", "server_schedule"),
    ],
)
def test_a_text_that_names_nothing_is_refused_with_its_setting_and_source(name: str, mode: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} = 'auto' \(flag --x\): unknown \w+ 'auto'"):
        JobConfig(mode=mode, **{name: "auto"}).check({name: "flag --x"})


def test_texts_are_read_once_and_a_job_with_others_reads_its_own() -> None:
    job = JobConfig(optimizer="adam")
    assert job.specs is job.specs
    assert dataclasses.replace(job, optimizer="lion").specs.optimizer.name == "lion"
    assert job == JobConfig(optimizer="adam")


def test_a_job_whose_texts_were_read_goes_to_another_process() -> None:
    job = JobConfig(mode="federated", algorithm="scaffold", compress="topk:0.1")
    job.check()
    copy = pickle.loads(pickle.dumps(job))
    assert copy == job
    assert copy.specs.algorithm.build().control
    assert copy.specs.compress.build() == job.specs.compress.build()
    assert "_specs" not in job.to_dict()

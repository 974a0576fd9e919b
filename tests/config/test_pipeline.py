"""Promises of the settings of pipelines: workers are dealt out to them, and what does not fit is said by name."""

from __future__ import annotations

from typing import Any

import pytest

from ps.config import JobConfig, job_from, settings_of
from ps.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "places", "copies"),
    [
        ({"workers": 4}, 4, 1),
        ({"workers": 8, "stages": 4}, 4, 2),
        ({"workers": 6, "stages": 6, "pipeline_workers": 3}, 3, 2),
        ({"workers": 2, "stages": 5, "pipeline_workers": 2}, 2, 1),
        ({"workers": 3, "stages": 1}, 1, 3),
        ({"workers": 4, "stages": "auto"}, 4, 1),
        ({"workers": 4, "stages": "auto", "pipeline_workers": 2}, 2, 2),
    ],
)
def test_workers_are_dealt_out_to_pipelines(settings: dict[str, Any], places: int, copies: int) -> None:
    job = job_from({"mode": "pipeline", **settings})
    assert (job.places, job.copies) == (places, copies)


def test_elsewhere_every_worker_has_the_whole_model() -> None:
    assert (JobConfig(workers=4).places, JobConfig(workers=4).copies) == (1, 4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": 6, "stages": 4}, r"workers = 6 .*stages = 4.* 4 workers are one pipeline.*--workers 4 or 8"),
        ({"workers": 2, "stages": 4}, r"workers = 2 .*--workers 4$"),
        ({"workers": 3, "pipeline_workers": 2}, r"workers = 3 .*pipeline_workers = 2.*--workers 2 or 4"),
        (
            {"workers": 4, "stages": 5, "pipeline_workers": 4},
            "2 stages each are enough for 3 workers, and the others would have none",
        ),
        ({"lookahead": 1}, "lookahead = 1.* makes up for the delay of several waves, and with waves = 1 there is none"),
        ({"spares": 1, "waves": 2}, "spares = 1 .*cannot be had with waves = 2.*--waves 1$"),
        ({"overlap": True}, "overlap = true .*cannot be had with mode = pipeline"),
        ({"compress": "int8"}, "compress = int8 .*cannot be had with mode = pipeline"),
        ({"on_nan": "skip"}, "on_nan = skip .*cannot be had"),
        ({"compress_activations": "topk"}, r"compress_activations = 'topk' .*bf16, fp16, int8"),
        ({"transport": "shm"}, "transport = shm .*--transport auto"),
        ({"workers": 3, "backup_workers": 1}, "backup_workers = 1 .*needs mode = sync"),
        ({"workers": 4, "stages": 2, "aggregator": "krum:1"}, "needs at least [0-9]+ pipelines"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_starts(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        job_from({"mode": "pipeline", **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clip_norm": 1.0}, "clip_norm = 1.0 .*cannot be had with mode = pipeline-ssp.*--mode pipeline$"),
        ({"spares": 1}, "spares = 1 .*cannot be had with mode = pipeline-ssp.*--mode pipeline$"),
        ({"aggregator": "median"}, "aggregator = median .*mode"),
        ({"workers": 3, "backup_workers": 1}, "backup_workers = 1 .*needs mode = sync"),
    ],
)
def test_pipelines_that_do_not_wait_for_each_other_have_nothing_that_needs_one_clock_for_all(
    settings: dict[str, Any], said: str
) -> None:
    job = job_from({"mode": "pipeline-ssp", "workers": 4, "stages": 2, "staleness": 3, "waves": 2})
    assert (job.copies, job.staleness, job.delay, job.lockstep) == (2, 3, 1, False)
    with pytest.raises(ConfigError, match=said):
        job_from({"mode": "pipeline-ssp", "workers": 4, **settings})


@pytest.mark.parametrize("value", ["otto", "0", -1, 1001, 2.5, True])
def test_stages_are_a_number_or_auto(value: Any) -> None:
    row = settings_of(JobConfig)["stages"]
    with pytest.raises(ConfigError, match="a whole number from 1 to 1000, or auto, or none"):
        row.read(value, "flag --stages")
    assert [row.show(row.read(text, "flag --stages")) for text in ("auto", "12", "none")] == ["auto", "12", "none"]

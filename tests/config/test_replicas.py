"""Promises of the settings about replicas."""

from __future__ import annotations

import pytest

from ps.config.job import JobConfig
from ps.errors import ConfigError


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_each_server_has_a_standby_where_gradients_of_a_whole_model_are_pushed(mode: str) -> None:
    job = JobConfig(servers=3, replicas=1, mode=mode)
    job.check()
    assert (job.servers, job.all_servers) == (3, 6)
    assert JobConfig(servers=3).all_servers == 3


@pytest.mark.parametrize(("mode", "instead"), [("pipeline", "--spares"), ("federated", "--state")])
def test_other_modes_are_refused_with_what_they_have_instead(mode: str, instead: str) -> None:
    with pytest.raises(ConfigError, match=f"replicas = 1 needs mode = sync, async or ssp.*{instead}"):
        JobConfig(workers=2, replicas=1, mode=mode).check()

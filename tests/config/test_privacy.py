"""Promises of the dp setting: what cannot be accounted for is refused, by its name and with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from ps.errors import ConfigError
from support.delta_parts import job_of

DP = "eps=8,delta=1e-6,clip=1"
FTRL = "ftrl:" + DP
SKELLAM = "skellam:" + DP


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"algorithm": "scaffold"}, "scaffold has clients send control variates, which are neither clipped nor noised"),
        ({"algorithm": "fednova"}, "fednova divides deltas by the steps that clients claim"),
        ({"algorithm": "fedbuff:2"}, "fedbuff:2 takes deltas whenever they come, so that a client may count twice"),
        ({"aggregator": "weighted"}, "weighted weighs or scales deltas by what clients say"),
        ({"aggregator": "clip:0.5"}, "clip:0.5 weighs or scales deltas by what clients say or by what is typical"),
        ({"aggregator": "median"}, "median chooses between deltas, which no clip bounds"),
        ({"aggregator": "krum:0", "min_clients": 4}, "krum:0 chooses between deltas, which no clip bounds"),
        ({"late": "carry"}, "carry: a client could count twice in a round"),
        ({"late": "discount"}, "discount: a client could count twice in a round"),
        ({"mode": "sync"}, "protects clients and needs mode = federated"),
        ({"dp": "delta=1e-6,clip=1"}, "needs eps=<budget>, or noise=<multiplier>"),
        ({"dp": "eps=8,clip=1"}, "needs delta="),
        ({"dp": "eps=8,delta=1e-6"}, "needs clip="),
        ({"dp": "laplace:eps=8,delta=1e-6,clip=1"}, "unknown dp 'laplace'"),
        ({"dp": "poisson:" + DP, "workers": 4, "clients_per_round": 4}, "--clients-per-round must be less"),
        ({"secure": "pairwise", "secure_min": 3}, "has servers clip them. Try: --dp skellam:eps="),
        ({"dp": "poisson:" + DP, "secure": "pairwise", "secure_min": 3}, "Try: --dp skellam:eps="),
        ({"dp": SKELLAM}, "needs --secure pairwise, or helper"),
        ({"dp": SKELLAM, "secure": "pairwise:weight=9", "secure_min": 3}, "and with dp = skellam"),
        ({"dp": SKELLAM, "secure": "pairwise", "secure_min": 3, "compress": "randomk"}, "larger after they were"),
        ({"dp": SKELLAM + ",colluding=3", "secure": "pairwise", "secure_min": 3}, "may tell their noise"),
        ({"dp": SKELLAM + ",quantile=0.5", "secure": "pairwise", "secure_min": 3}, "quantile"),
        ({"dp": SKELLAM, "secure": "helper", "secure_min": 3, "algorithm": "fedbuff:3"}, "a client may count twice"),
        ({"dp": FTRL + ",separation=2", "workers": 6, "clients_per_round": 4}, "there are not 4 for each"),
        ({"dp": FTRL + ",separation=1,participations=2", "rounds": 9}, "in 2 rounds at most"),
        ({"dp": FTRL}, "needs separation="),
        ({"dp": FTRL + ",separation=2,quantile=0.5"}, "quantile"),
        ({"dp": FTRL + ",separation=1", "secure": "pairwise", "secure_min": 3}, "Try: --dp skellam:eps="),
        ({"dp": FTRL + ",separation=1", "late": "carry"}, "a client could count twice"),
        ({"dp": "noise=1e-6,delta=1e-6,clip=1"}, "noise must be at least"),
    ],
)
def test_what_does_not_go_together_with_privacy_is_refused_with_the_reason(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        job_of(**{"dp": DP, **settings})
    assert why in str(refused.value)


@pytest.mark.parametrize("algorithm", ["fedavg", "fedavgm", "fedadam", "fedprox:0.01", "diloco"])
@pytest.mark.parametrize("compress", ["none", "int8", "topk:0.1"])
def test_what_goes_together_is_combined_unweighted(algorithm: str, compress: str) -> None:
    job = job_of(dp=DP, algorithm=algorithm, compress=compress)
    assert str(job.specs.aggregator) == "mean" and not job.specs.weighs

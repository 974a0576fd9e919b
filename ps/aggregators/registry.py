"""The aggregators, one line each."""

from __future__ import annotations

from ps.aggregators.aggregator import Aggregator
from ps.aggregators.clip import Clip
from ps.aggregators.geomedian import GeoMedian
from ps.aggregators.krum import Krum
from ps.aggregators.mean import Mean
from ps.aggregators.median import Median
from ps.aggregators.multikrum import MultiKrum
from ps.aggregators.trimmed import Trimmed
from ps.aggregators.weighted import Weighted
from ps.spec import Registry

AGGREGATORS: Registry[Aggregator] = Registry(
    "aggregator",
    {
        "clip": Clip,
        "geomedian": GeoMedian,
        "krum": Krum,
        "mean": Mean,
        "median": Median,
        "multikrum": MultiKrum,
        "trimmed": Trimmed,
        "weighted": Weighted,
    },
)

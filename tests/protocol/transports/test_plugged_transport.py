"""Promises of a transport that a module outside of the package adds: jobs train by it, with the bits of all others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps import plugins
from ps.config import JobConfig, transport
from ps.errors import ConfigError
from ps.testing import LocalCluster


@pytest.fixture(autouse=True)
def inproc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load it, and have the transports afterwards that there were before."""
    monkeypatch.setattr(transport, "TRANSPORTS", dict(transport.TRANSPORTS))
    for name in ("ps.plugins", "ps.protocol.transports.registry"):
        monkeypatch.setattr(importlib.import_module(name), "TRANSPORTS", transport.TRANSPORTS)
    sys.modules.pop("support.inproc", None)
    plugins.load(["support.inproc"])
    yield
    sys.modules.pop("support.inproc", None)


def trained(kv: Any) -> tuple[str, bytes]:
    params = kv.init({"a": np.zeros(3000, np.float32), "b": np.linspace(0, 1, 77)})
    for step in range(8):
        random = np.random.default_rng(100 * step + kv.rank)
        kv.step({name: random.standard_normal(value.shape).astype(value.dtype) for name, value in params.items()})
    names = " ".join(queue.name for queue in kv._store._session.exchange._queues)
    return names, b"".join(np.array(value).tobytes() for value in params.values())


def run(**job: Any) -> tuple[list[str], set[bytes]]:
    with LocalCluster(servers=2, workers=2, chunk_size=1024, **job) as cluster:
        found = cluster.run(trained, trained)
    return [names for names, _ in found], {weights for _, weights in found}


@pytest.mark.parametrize("job", [{"optimizer": "adam"}, {"optimizer": "momentum", "compress": "int8"}])
def test_a_job_that_demands_it_has_the_bits_of_tcp(job: dict[str, Any]) -> None:
    names, weights = run(transport="inproc", **job)
    assert all(name.count("at inproc://") == 2 for name in names)
    assert weights == run(transport="tcp", **job)[1] and len(weights) == 1


def test_auto_takes_a_faster_one_where_that_works() -> None:
    names, _ = run(transport="auto")
    assert all(name.count("at shm://") == 2 for name in names)


def test_auto_takes_it_where_no_other_works(monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("shm:Shm", "stream:Stream", "ipc:Ipc", "tcp:Tcp"):
        module, _, name = way.partition(":")
        found = getattr(importlib.import_module(f"ps.protocol.transports.{module}"), name)
        monkeypatch.setattr(found, "reaches", lambda self, address: False)
    names, weights = run(transport="auto")
    assert all(name.count("at inproc://") == 2 for name in names) and len(weights) == 1


def test_its_name_is_one_that_the_setting_takes_and_others_are_refused() -> None:
    assert JobConfig.from_dict({**JobConfig().to_dict(), "transport": "inproc"}).transport == "inproc"
    with pytest.raises(ConfigError, match="must be one of auto, inproc, tcp, ipc, shm"):
        JobConfig.from_dict({**JobConfig().to_dict(), "transport": "pigeon"})


@pytest.mark.parametrize("name", ["tcp", "no name"])
def test_a_name_that_is_taken_or_cannot_be_written_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"transport .* a name of its own"):
        plugins.transport(name)(type("Other", (), {}))

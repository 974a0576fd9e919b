"""Every command that asks a scheduler does so with an operator's keys, wherever they are named; without, and with those
of a worker, it is refused and says so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ps.cli
from support.cluster import TRAIN, Cluster, Process
from support.keyed import Ring

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SAID = {
    "ping": ((), "scheduler at .* answered"),
    "status": ((), "worker"),
    "top": ((), "worker"),
    "doctor": (("--no-bandwidth",), "0 wrong"),
    "privacy": ((), "the job has no --dp"),
    "follow": (("--once", "--out", "{out}"), r"step-\d+\.safetensors"),
    "chaos": (("--dry-run", "--duration", "1s"), "0 faults|would|dry|done"),
    "checkpoint": ((), "is the newest whole one"),
    "drain": (("1",), "server 1 has handed over all of its chunks"),
}
"""What each is given, and what it says; the last changes the job."""
OTHERS = {
    "helper": "has keys of a role of its own: tests/e2e/test_hospitals.py",
    "page": "does not end by itself; asks as top",
}


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    roles = {"server": "server", "other": "server", "zero": "worker", "one": "worker", "operator": "operator"}
    return Ring(tmp_path_factory.mktemp("keyed") / "keys", **roles)


@pytest.fixture(scope="module")
def cluster(ring: Ring, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    where = str(tmp_path_factory.mktemp("kept"))
    keys = ("--keys", ring["scheduler"], "--checkpoint-dir", where)
    with Cluster(*keys, servers=2, joining=0, transport="tcp", chunk_size="1KiB", heartbeat_timeout=30) as made:
        for name in ("server", "other"):
            made.start("server", "--keys", ring[name])
        for rank, name in enumerate(("zero", "one")):
            made.start("worker", "--rank", str(rank), "--keys", ring[name], TRAIN, "--steps", "100000", "--nap", "0.02")
        made.processes[-1].wait_for("joined rank=1")
        yield made


def test_there_is_no_other_command_that_asks() -> None:
    commands = {path.stem: path.read_text() for path in Path(ps.cli.__file__).parent.glob("*.py")}
    asking = {name for name, text in commands.items() if re.search(r"(?<!def )find_scheduler\(", text)}
    assert asking == {*SAID, *OTHERS}


@pytest.mark.parametrize("name", SAID)
def test_a_command_asks_with_the_keys_that_it_is_given(
    cluster: Cluster, ring: Ring, forked: Callable[..., Process], tmp_path: Path, name: str
) -> None:
    given, says = SAID[name]
    whom = (cluster.address,) if name == "ping" else ("--scheduler", cluster.address)
    about = name, *(each.format(out=tmp_path / "out") for each in given), *whom
    refused = [forked(*about, "--keys", ring["zero"])] if name in ("checkpoint", "drain") else []
    refused.append(forked(*about, PS_KEYS="", TMPDIR=str(tmp_path)))
    for each in refused:
        assert each.wait() not in (0, 1), each.text
        assert "keys" in each.text or "key" in each.text
    toml = tmp_path / "job.toml"
    toml.write_text(f'keys = "{ring["operator"]}"\n')
    asked = forked(*about, *(("--config", toml) if name in ("checkpoint", "ping") else ("--keys", ring["operator"])))
    assert asked.wait() == 0, asked.text
    assert re.search(says, asked.text), asked.text

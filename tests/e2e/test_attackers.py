"""Attackers among real processes, each with keys of its own: a scheduler and a server that lie to masked clients, a
client that says an old upload again, keys of one role in the hands of another. The sums are those of honest clients."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.keys import key_folder
from ps.keys.key_folder import KeyFolder
from ps.protocol.messages import CheckpointRequest, Error, Hello
from support.cluster import SCRIPTS, Process
from support.keyed import KeyedPeer
from support.keyed_job import hello

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CLIENTS = ("a", "b", "c", "d", "e")
ROLES = {"scheduler": "scheduler", "server": "server", "operator": "operator", **dict.fromkeys(CLIENTS, "client")}
LIAR = (sys.executable, str(SCRIPTS / "liar.py"))
HOW = "--mode federated --rounds 4 --secure pairwise:ring=32 --secure-min 3 --over-select 1 --partition own"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Each party's own, with which it signs; everybody lists the scheduler, it and clients list all of them."""
    for name, role in ROLES.items():
        key_folder.create(tmp_path / name, name, role)
    for name in ROLES:
        others = ROLES if name == "scheduler" else CLIENTS if name in CLIENTS else ()
        for other in {*others, "scheduler"} - {name}:
            key_folder.add(tmp_path / name, other, tmp_path / other / "public.key")
    return tmp_path


def test_whoever_lies_among_masked_clients_changes_no_sum_and_learns_of_nobody(
    command: Callable[..., Process], keys: Path
) -> None:
    def start(name: str, *args: object, program: tuple[str, ...] = LIAR) -> Process:
        return command(*args, program=program, PS_KEYS=str(keys / name))

    job = (*HOW.split(), "-s", 1, "-w", 5, "--host", "127.0.0.1", "--port", 0)
    scheduler = start("scheduler", "scheduler", *job)
    address = scheduler.wait_for(r"scheduler at (tcp://[^?;\s]+)")[1]
    server = start("server", "server", "--scheduler", address)
    psctl = (sys.executable, "-m", "ps.cli")
    clients = [
        start(
            *(name, "worker", "--scheduler", address, SCRIPTS / "replaying.py", *(["again"] if name == "a" else [])),
            program=psctl,
        )
        for name in CLIENTS
    ]
    expected = KeyFolder.read(keys / "scheduler").own.public.curve
    for name, message in (
        ("server", hello("worker")),
        ("operator", hello("worker")),
        ("a", hello("server", addresses=("tcp://127.0.0.1:9",))),
        ("a", CheckpointRequest(1, False)),
    ):
        with KeyedPeer(address, KeyFolder.read(keys / name), expected) as peer:
            peer.say(message)
            told = peer.hear(Error)
            assert isinstance(message, Hello) or "may not say" in told.text
    assert [client.wait(120) for client in clients] == [0] * 5
    assert scheduler.wait() == server.wait() == 0

    (left_out,) = set(re.findall(r"round 1: clients begin with other weights .* out: (\d+)\.", scheduler.text))
    assert int(left_out) in range(5)
    assert any("nothing is trained in round 1 for now" in client.text for client in clients)
    assert re.search("round 2, attempt 1 is abandoned: 0 clients have revealed shares", scheduler.text)
    assert any("signed the same survivors" in client.text for client in clients)
    assert re.findall(r"replayed (\w+)", clients[0].text) and "replayed True" not in clients[0].text
    assert set(re.findall(r"submitted (\w+)", clients[0].text)) <= {"accepted", "late"}, "as it was, or too late"
    assert {line for client in clients for line in re.findall(r"final (\S+ \S+)", client.text)} == {"1.0000 1.0000"}

"""Promises of addresses between hosts: whatever a name means and whoever forwards, it works, or a line says what to do.

The hosts are network namespaces, which only root can make; skipped with a reason otherwise.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ps import interpreter

TCP = ("--insecure", "-s", "1", "-w", "1", "--transport", "tcp")
"""The hosts share files and memory, which hosts do not."""
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
PLACE = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "hosts.py"
TRAIN = """\
import numpy as np, ps
with ps.connect(optimizer="sgd:lr=0.5") as kv:
    params = kv.init({"w": np.zeros(4, np.float32)})
    for _ in range(3):
        kv.step({"w": np.ones(4, np.float32)})
    print("trained", params["w"][0], kv.job.min_chunks, flush=True)
"""
FORWARD = """\
import socket, sys, threading
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
    try:
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("up", flush=True)
while True:
    here, _ = listener.accept()
    there = socket.create_connection((sys.argv[3], int(sys.argv[4])))
    for pair in ((here, there), (there, here)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


def loaded() -> ModuleType:
    """Return the module that makes hosts, which no package has."""
    spec = importlib.util.spec_from_file_location("bench_hosts", PLACE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def net() -> Iterator[Any]:
    """Three hosts; the third calls the first ``boss``, and gets its IPv6 address first."""
    module = loaded()
    if why := module.missing():
        pytest.skip(f"no hosts: {why}")
    names = "127.0.0.1 localhost\nfd98::1 boss\n10.98.0.1 boss\n"
    with module.hosts(3, {2: names, 3: names}) as found:
        yield found


@pytest.fixture
def job(net: Any, tmp_path: Path) -> Iterator[Any]:
    """A job of one server and one worker, each started on a host with words of a test's own."""
    (tmp_path / "train.py").write_text(TRAIN)
    started: list[subprocess.Popen[bytes]] = []

    def start(host: int, *words: str, log: str) -> subprocess.Popen[bytes]:
        command = [*interpreter.command("ps.cli"), *words] if words[0] != "python" else [sys.executable, *words[1:]]
        with (tmp_path / log).open("wb") as out:
            env = {**os.environ, "PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(net.command(host, command), cwd=tmp_path, env=env, stdout=out, stderr=out)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    for host in (2, 3):
        net.link(1, host)
    net.link(2, 3)


def said(tmp_path: Path, log: str, what: str, limit: float = 120.0) -> str:
    deadline = time.monotonic() + limit
    while what not in (text := (tmp_path / log).read_text(errors="replace")):
        assert time.monotonic() < deadline, f"{what!r} is not in {log}:\n{text}"
        time.sleep(0.05)
    return text


def test_a_name_with_ipv6_first_and_a_server_behind_a_forwarded_port_work(net: Any, job: Any, tmp_path: Path) -> None:
    net.link(2, 3, down=1.0)  # the worker has no way to the server itself
    job(1, "scheduler", "--host", net.ip(1), *TCP, log="scheduler")
    said(tmp_path, "scheduler", "scheduler at")
    job(1, "python", "-c", FORWARD, net.ip(1), "7999", net.ip(2), "7071", log="forward")
    words = ["--scheduler", "boss", "--insecure", "--connect-timeout", "120"]
    job(2, "server", *words, "--host", "*", "--port", "7071", "--advertise", f"{net.ip(1)}:7999", log="server")
    worker = job(3, "worker", *words, "train.py", log="worker")
    assert worker.wait(150) == 0, (tmp_path / "worker").read_text()
    assert "trained -1.5" in (tmp_path / "worker").read_text()


def test_hosts_whose_own_name_nobody_knows_meet_by_the_addresses_on_their_way(
    net: Any, job: Any, tmp_path: Path
) -> None:
    scheduler = f"[{net.ip6(1)}]:7070"
    job(1, "scheduler", "--host", net.ip6(1), *TCP, log="scheduler")
    words = ["--scheduler", scheduler, "--insecure", "--connect-timeout", "120"]
    job(2, "server", *words, "--host", "*", log="server")
    worker = job(3, "worker", *words, "train.py", log="worker")
    assert worker.wait(150) == 0, (tmp_path / "worker").read_text()
    assert "trained -1.5 16" in (tmp_path / "worker").read_text(), "a model that travels between hosts is cut small"


@pytest.mark.parametrize("advertised", ["nowhere.invalid:7071", "10.98.0.77:7071", "10.98.0.1:7998"])
def test_an_address_that_others_do_not_reach_is_said_at_once_by_name_with_advice(
    advertised: str, net: Any, job: Any, tmp_path: Path
) -> None:
    job(1, "scheduler", "--host", net.ip(1), *TCP, log="scheduler")
    words = ["--scheduler", net.ip(1), "--insecure", "--connect-timeout", "120"]
    job(2, "server", *words, "--host", "*", "--advertise", advertised, log="server")
    said(tmp_path, "server", "joined the job as server 0")
    text = said(tmp_path, "scheduler", "cannot be reached from here")
    assert f"server 0 at tcp://{advertised} cannot be reached from here" in text and "--advertise" in text

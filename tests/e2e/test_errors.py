"""What goes wrong is one line that says what, which peer and what to do next; and an exit code of its own."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from ps.protocol.codec import VERSION, decode, encode
from ps.protocol.messages import Error, Hello, Ping, Welcome
from ps.protocol.unix_stream import UnixStream
from support.cluster import TRAIN, Cluster, Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

Command = Callable[..., Process]
Start = Callable[..., Cluster]


@pytest.fixture
def nobody() -> str:
    """Return an address at which nobody listens."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        return f"tcp://127.0.0.1:{sock.bind_to_random_port('tcp://127.0.0.1')}"


@pytest.mark.parametrize("role", ["server", "worker"])
def test_an_unreachable_scheduler_is_one_line_with_what_to_try(command: Command, nobody: str, role: str) -> None:
    process = command(role, "--scheduler", nobody, "--connect-timeout", 1, *([TRAIN] if role == "worker" else []))
    assert process.wait() == 3
    assert f"psctl ping {nobody}" in process.text
    assert "Traceback" not in process.text
    errors = [line for line in process.lines if "error" in line]
    assert len(errors) == 1, process.text


def test_ping_and_status_say_when_nobody_answers(command: Command, nobody: str) -> None:
    processes = [
        command("ping", nobody, "--timeout", 0.5),
        command("status", "--scheduler", nobody, "--timeout", 0.5),
    ]
    for process in processes:
        assert process.wait() == 3
        assert len(process.lines) == 1 and nobody in process.text


def test_a_port_in_use(command: Command, start: Start) -> None:
    cluster = start(servers=0 + 1, workers=1)
    process = command("scheduler", "--port", cluster.address.rpartition(":")[2])
    assert process.wait() == 5
    assert len(process.lines) == 1 and "in use" in process.text
    answers = command("ping", cluster.address)
    assert answers.wait() == 0, answers.text


def test_a_script_that_does_not_exist(command: Command) -> None:
    process = command("run", "-w", 2, "nowhere.py")
    assert process.wait() == 2
    assert len(process.lines) == 1 and "nowhere.py" in process.text


def test_a_script_that_raises_shows_its_own_traceback_only(command: Command, tmp_path: Path) -> None:
    script = tmp_path / "raises.py"
    script.write_text("def inner():\n    raise RuntimeError('my mistake')\n\n\ninner()\n")
    process = command("run", "-w", 1, script)
    assert process.wait() == 1
    assert "RuntimeError: my mistake" in process.text and "in inner" in process.text
    assert not [line for line in process.lines if "File" in line and str(script) not in line], process.text


def test_a_script_that_raises_in_its_loop_leaves_the_others_training(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "raises.py"
    script.write_text(
        "import numpy as np, ps\n"
        "with ps.connect() as kv:\n"
        "    params = kv.init({'w': np.zeros(4)})\n"
        "    while kv.clock < 30:\n"
        "        if kv.rank == 1 and kv.clock == 10: raise RuntimeError('my mistake')\n"
        "        kv.step({'w': np.ones(4)})\n"
    )
    cluster = start(workers=2)
    workers = cluster.train(2, script=str(script))
    assert [worker.wait() for worker in workers] == [0, 1]
    assert "my mistake" in workers[1].text
    assert cluster.scheduler.wait() == 0


def test_layouts_that_differ_name_the_first_tensor_that_does(start: Start) -> None:
    cluster = start(workers=2)
    workers = cluster.train(2, "--steps", 5, "--size-of", "1:600")
    codes = [worker.wait() for worker in workers]
    assert sorted(codes) == [0, 7]
    refused = workers[codes.index(7)]
    assert "weight" in refused.text and "600" in refused.text and "601" in refused.text
    assert "Traceback" not in refused.text


def test_a_gradient_that_is_not_finite_ends_its_worker_and_names_the_tensor(forked: Command) -> None:
    process = forked("run", "-w", 2, TRAIN, "--steps", 20, "--nan-at", "1:7")
    assert process.wait() == 8, process.text
    assert "'bias' is nan" in process.text and "clock 7" in process.text and "--on-nan skip" in process.text
    assert "result rank=0 clock=20" in process.text


def test_on_nan_skip_goes_on_without_that_step(start: Start) -> None:
    cluster = start(servers=2, workers=2, on_nan="skip")
    workers = cluster.train(2, "--steps", 20, "--nan-at", "1:7")
    assert [worker.wait() for worker in workers] == [0, 0]
    assert len({worker.wait_for("digest=(.*) loss")[1] for worker in workers}) == 1
    assert not any("nan" in line for worker in workers for line in worker.lines)


@pytest.mark.parametrize(
    ("workers", "examples", "batch", "words"),
    [(3, 2, 1, ("3 workers", "2 examples")), (2, 10, 9, ("9", "5", "10 examples"))],
    ids=["more workers than examples", "batch larger than shard"],
)
def test_data_that_cannot_be_divided_is_refused_with_the_numbers(
    forked: Command, tmp_path: Path, workers: int, examples: int, batch: int, words: tuple[str, ...]
) -> None:
    script = tmp_path / "few.py"
    script.write_text(
        "import sys, numpy as np, ps\n"
        "with ps.connect() as kv:\n"
        "    kv.init({'w': np.zeros(4)})\n"
        "    for x in kv.batches(np.zeros(int(sys.argv[1])), int(sys.argv[2])): kv.step({'w': np.zeros(4)})\n"
    )
    process = forked("run", "-w", workers, script, examples, batch)
    assert process.wait() == 2
    for word in words:
        assert word in process.text
    assert "Traceback" not in process.text


def test_zero_workers(command: Command) -> None:
    process = command("run", "-w", 0, TRAIN)
    assert process.wait() == 2
    assert len(process.lines) == 1 and "workers" in process.text and "0" in process.text


def ask_zeromq(address: str, message: bytes) -> bytes:
    with zmq.Context() as context, context.socket(zmq.DEALER) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        sock.connect(address)
        sock.send(message)
        assert sock.poll(10_000), f"no answer from {address}"
        return sock.recv()


def ask_stream(address: str, message: bytes) -> bytes:
    stream = UnixStream.connect(address.removeprefix("unix://"))
    stream.put(message)
    stream.flush()
    until = time.monotonic() + 10
    while time.monotonic() < until and not stream.closed:
        for header, _ in stream.receive():
            stream.close()
            return header
        time.sleep(0.01)
    raise AssertionError(f"no answer from {address}")


def test_a_peer_of_another_version_is_told_both(start: Start) -> None:
    cluster = start(workers=1)
    server = cluster.wait_status(lambda status: status["servers"])["servers"][0]
    for address in (cluster.address, *server["addresses"]):
        if address.startswith("shm:"):
            continue
        message = bytearray(encode(Ping(1)))
        message[2] = VERSION + 8
        ask = ask_stream if address.startswith("unix:") else ask_zeromq
        answer = decode(ask(address, bytes(message)))
        assert isinstance(answer, Error) and answer.code == "version"
        assert f"version {VERSION + 8}" in answer.text and f"version {VERSION}" in answer.text
    (worker,) = cluster.train(1, "--steps", 5)
    assert worker.wait() == 0


@pytest.mark.parametrize("how", ["error", "welcome"])
def test_a_scheduler_of_another_version_ends_the_worker_with_both_versions(command: Command, how: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        port = sock.bind_to_random_port("tcp://127.0.0.1")
        worker = command("worker", "--scheduler", f"127.0.0.1:{port}", TRAIN)

        def answer() -> None:
            if not sock.poll(20_000):
                return
            origin, header = sock.recv_multipart()
            hello = decode(header)
            assert isinstance(hello, Hello)
            text = f"the peer speaks protocol version {VERSION}, this process version {VERSION + 8}"
            reply = Error(0, "version", text) if how == "error" else Welcome(0, 1, 0, 10.0, {})
            told = bytearray(encode(reply))
            told[2] = VERSION + 8
            sock.send_multipart([origin, bytes(told)])

        thread = threading.Thread(target=answer)
        thread.start()
        assert worker.wait(30) == 6, worker.text
        thread.join()
    assert f"version {VERSION + 8}" in worker.text and f"version {VERSION}" in worker.text
    assert "Traceback" not in worker.text


def test_a_script_that_leaves_its_connection_open_ends_in_order(start: Start, tmp_path: Path) -> None:
    script = tmp_path / "open.py"
    script.write_text(
        "import numpy as np, ps\nkv = ps.connect()\nkv.init({'w': np.zeros(4)})\n"
        "while kv.clock < 5: kv.step({'w': np.ones(4)})\n"
    )
    cluster = start(workers=2)
    workers = cluster.train(2, script=str(script))
    assert [worker.wait() for worker in workers] == [0, 0]
    assert cluster.scheduler.wait() == 0


def test_a_job_whose_workers_do_not_come_says_who_is_missing(start: Start) -> None:
    cluster = start(workers=3, start_timeout=2)
    (worker,) = cluster.train(1)
    assert worker.wait() == 3
    assert "1 of 3 workers" in worker.text and "Traceback" not in worker.text
    assert cluster.scheduler.wait() == 4
    assert cluster.servers[0].wait() == 3


def test_python_runs_a_script_without_a_cluster(command: Command) -> None:
    process = command(TRAIN, "--steps", 5, program=(sys.executable,))
    assert process.wait() == 0
    assert "result rank=0 clock=5" in process.text


POKE = """
import ctypes, numpy as np, ps
with ps.connect(optimizer="sgd:lr=0.5") as kv:
    params = kv.init({"w": np.zeros(4096, np.float32)})
    kv.step({"w": np.ones(4096, np.float32)})
    ctypes.memset(params["w"].ctypes.data, 0, 4)  # as PyTorch does, which knows nothing of read-only arrays
"""


@pytest.mark.parametrize(
    "how", ["--transport shm", "--transport ipc", "--transport tcp", "--compress int8", "--params private", ""]
)
def test_a_write_into_the_weights_ends_alike_with_every_transport(forked: Command, tmp_path: Path, how: str) -> None:
    script = tmp_path / "poke.py"
    script.write_text(POKE)
    run = forked("run", "-w", 1, *how.split(), script) if how else forked(script, program=(sys.executable,))
    assert run.wait() == (139 if how else -signal.SIGSEGV)
    assert "Fatal Python error: Segmentation fault" in run.text
    assert 'poke.py", line 6 in <module>' in run.text
    assert not how or "a script that writes to the read-only weights ends so" in run.text

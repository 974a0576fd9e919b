"""ps.run in a real kernel of Jupyter: results, what workers print, exceptions, and cells that are interrupted."""

from __future__ import annotations

import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
manager = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")

from support.cluster import PATIENCE, clean_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

DEFINED = """
import time
import numpy as np
import ps

x = np.random.default_rng(0).standard_normal((200, 5), np.float32)
y = x @ np.arange(5, dtype=np.float32)

class Result:
    def __init__(self, **found):
        self.__dict__.update(found)

def train(lr, fails=False):
    with ps.connect(optimizer=f"adagrad:lr={lr}", local_optimizer=f"adagrad:lr={lr}") as kv:
        params = kv.init({"w": np.zeros(5, np.float32)})
        for a, b in kv.batches((x, y), batch_size=20):
            off = a @ params["w"] - b
            if fails and kv.rank == 1:
                raise KeyError(f"no such thing on {kv.rank}")  # told in the cell
            kv.step({"w": a.T @ off / len(a)}, loss=np.mean(off**2))
        kv.barrier()
        print("rank", kv.rank, "of", kv.num_workers)
        return Result(error=float(np.mean((x @ params["w"] - y) ** 2)), rank=kv.rank, mode=kv.job.mode)

def on_and_on():
    with ps.connect(optimizer="sgd:lr=0.1") as kv:
        kv.init({"w": np.zeros(5, np.float32)})
        while True:
            kv.step({"w": np.ones(5, np.float32)})
            if kv.clock == 3:
                print("under way", flush=True)
            if STUBBORN and kv.clock > 3:
                try:
                    time.sleep(60)
                except SystemExit:
                    time.sleep(60)
"""


class Kernel:
    """A notebook's kernel, whose processes and files are all known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = f"TEST_MARK={folder.name}"
        env = clean_environment(TMPDIR=str(folder), TEST_MARK=folder.name, IPYTHONDIR=str(folder / "ipython"))
        env |= {name: str(folder / "jupyter") for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
        self.manager, self.client = manager.start_new_kernel(
            kernel_name="python3", startup_timeout=PATIENCE, env=env, extra_arguments=["--HistoryManager.enabled=False"]
        )

    def run(self, code: str, until: str = "", then: Callable[[], object] = lambda: None) -> tuple[str, str]:
        """Run a cell; return what it shows, and the name of its error. ``then`` is called once it shows ``until``."""
        asked = self.client.execute(code)
        shown, error, deadline = "", "", time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                message: dict[str, Any] = self.client.get_iopub_msg(timeout=1.0)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown += content["text"]
            elif kind == "execute_result":
                shown += content["data"]["text/plain"]
            elif kind == "error":
                error = content["ename"]
                shown += "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return shown, error
            if until and until in shown:
                until = ""
                then()
        raise AssertionError(f"the cell does not end; so far it shows: {shown}")

    def left(self) -> list[str]:
        """Return the processes that the kernel has started and that live, and the temporary files that there are."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (process / "environ").read_bytes() and int(process.name) != self._kernel:
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found + [path.name for path in self.folder.glob("*") if path.name not in ("ipython", "jupyter")]

    @property
    def _kernel(self) -> int:
        return int(self.manager.provisioner.process.pid)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    folder = Path(tempfile.mkdtemp(prefix="nb", dir="/tmp"))
    made = Kernel(folder)
    try:
        shown, error = made.run(DEFINED)
        assert not error, shown
        assert made.left() == []
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_a_cells_function_is_trained_and_what_rank_0_returned_is_the_cells(kernel: Kernel) -> None:
    shown, error = kernel.run(
        "found = ps.run(train, 0.3, servers=1, workers=2, mode='federated', rounds=3, local_epochs=5)\n"
        "print(type(found) is Result, found.rank, found.mode, found.error < 1)"
    )
    assert not error, shown
    assert "worker 1 | rank 1 of 2" in shown
    assert "True 0 federated True" in shown
    assert kernel.left() == []


def test_a_workers_exception_is_the_cells_with_the_cells_lines(kernel: Kernel) -> None:
    shown, error = kernel.run("ps.run(train, 0.3, True, workers=2)")
    assert error == "KeyError"
    assert "no such thing on 1" in shown
    assert 'raise KeyError(f"no such thing on {kv.rank}")  # told in the cell' in shown
    assert "rank 0 of" in shown, "the other worker goes on"
    assert kernel.left() == []


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_cell_that_is_interrupted_leaves_nothing_behind(kernel: Kernel, stubborn: bool) -> None:
    def interrupt() -> None:
        kernel.manager.interrupt_kernel()

    def interrupt_twice() -> None:
        interrupt()
        time.sleep(0.5)  # what the first asks for takes longer, and the second may come at any moment
        interrupt()

    begun = time.monotonic()
    shown, error = kernel.run(
        f"STUBBORN = {stubborn}\nps.run(on_and_on, workers=2, mode='async', grace=30)",
        "under way",
        interrupt_twice if stubborn else interrupt,
    )
    assert error == "KeyboardInterrupt", shown
    assert "SIGINT: ending all processes; once more to kill them" in shown
    assert time.monotonic() - begun < 25, "neither waits for the grace to be over"
    assert kernel.left() == []
    assert kernel.run("1 + 1") == ("2", ""), "the kernel goes on"

"""A scheduler and servers as child processes, for a benchmark that is the worker itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import ps


def start(command: list[str], **env: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start ``psctl COMMAND`` and return it with the address it listens on."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "ps.cli", *command],
        env={**os.environ, **env, "PS_READY_FD": str(write)},
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with open(read) as ready:  # noqa: PTH123
        address = ready.readline().strip()
    if not address:
        raise SystemExit(f"psctl {' '.join(command)} did not start")
    return process, address


@contextlib.contextmanager
def cluster(*flags: str, servers: int = 1, workers: int = 1) -> Iterator[str]:
    """Run a scheduler and servers; yield the scheduler's address."""
    scheduler, address = start(["scheduler", "--port", "0", "-s", str(servers), "-w", str(workers), *flags])
    processes = [scheduler]
    try:
        for rank in range(servers):
            processes.append(start(["server", "--scheduler", address, "--rank", str(rank)])[0])
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(10)


def join(address: str) -> ps.KV:
    """Become the worker of the job at ``address``."""
    os.environ["PS_SCHEDULER"] = address
    return ps.connect()

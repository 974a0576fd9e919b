"""What one host is like: software, cores, limits, memory, names, shared memory, disk, and speed over TCP."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import zmq

import ps
from ps import cores, descriptors
from ps.doctor.finding import Finding, State
from ps.doctor.places import listed, places
from ps.errors import Unshared
from ps.loopback import is_loopback
from ps.protocol.codec import VERSION
from ps.protocol.segment import PAGE, Segment
from ps.protocol.sockets import Socket, open_socket

LIBRARIES = ("numpy", "pyzmq", "msgpack")
PEERS = 1024
"""Open files with room for some hundred peers."""
LEAST_MEMORY, LEAST_DISK = 512 << 20, 1 << 30
SLOW_DISK = 50.0
"""MB/s below which a checkpoint of a gigabyte takes twenty seconds."""
WRITTEN = 32 << 20
SENT, BLOCK = 64 << 20, 4 << 20
ROUND_TRIPS = 50
GROUP = Path("/sys/fs/cgroup")


def examine(folder: Path, threads: int = 0) -> list[Finding]:
    """Return what there is to say of this host. ``folder``: where checkpoints would go; ``threads``: of a process."""
    name = socket.gethostname()
    checks = (software, processors(threads), files, memory, names, sharing, disk(folder), loopback)
    return [Finding(name, *found) for check in checks for found in check()]


Found = tuple[str, State, str, str]
"""What, how it is, in words, and what to do."""
Check = Callable[[], Iterator[Found]]


def software() -> Iterator[Found]:
    """Versions."""
    libraries = " ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    text = f"paramserver {ps.__version__}, protocol {VERSION}, Python {platform.python_version()}, {libraries}"
    yield "versions", "ok", f"{text}, libzmq {zmq.zmq_version()}, {platform.system()} {platform.release()}", ""


def processors(threads: int) -> Check:
    """Cores given, against those there are, the container's quota, and threads."""

    def look() -> Iterator[Found]:
        usable, given, there = cores.cores(), len(os.sched_getaffinity(0)), os.cpu_count() or 1
        quota = f"; the container's quota is {usable} of them" if usable < given else ""
        limited = f" of {there}" if given < there else ""
        told = os.environ.get("OMP_NUM_THREADS", "")
        asked = threads or (int(told) if told.isdigit() else 0)
        text = f"{given}{limited} cores{quota}"
        if asked > usable:
            advice = f"give a process at most {usable} threads: --threads, OMP_NUM_THREADS"
            yield "cores", "warning", f"{text}, and {asked} threads for a process", advice
        elif usable < given and not asked:
            advice = f"libraries count {given} cores; set OMP_NUM_THREADS={usable}"
            yield "cores", "warning", text, advice
        else:
            yield "cores", "ok", text, ""

    return look if hasattr(os, "sched_getaffinity") else _nothing


def files() -> Iterator[Found]:
    """Open files."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = descriptors.MOST if hard < 0 else hard
    text = f"{soft:,} open files, at most {most:,}"
    if most < descriptors.LEAST:
        yield "open files", "wrong", text, f"a role needs at least {descriptors.LEAST}: ulimit -n 4096"
    elif most < PEERS:
        yield "open files", "warning", text, "one to three a peer are needed: ulimit -n 4096, or LimitNOFILE= of a unit"
    else:
        yield "open files", "ok", text, ""


def memory() -> Iterator[Found]:
    """Memory, and what a container has of it."""
    try:
        rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, left = (int(rows[key].split()[0]) << 10 for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        yield "memory", "unknown", "this system does not say", ""
        return
    text = f"{left / 1e9:.1f} of {total / 1e9:.1f} GB available"
    try:
        most, used = int((GROUP / "memory.max").read_text()), int((GROUP / "memory.current").read_text())
        left = min(left, max(0, most - used))
        text += f"; the container may have {most / 1e9:.1f} GB and has {used / 1e9:.1f}"
    except (OSError, ValueError):
        pass
    state: State = "ok" if left > LEAST_MEMORY else "warning"
    advice = "" if state == "ok" else "servers need room for the model and the optimizer's state, workers for gradients"
    yield "memory", state, text, advice


def names() -> Iterator[Found]:
    """What this host's own name means."""
    name = socket.gethostname()
    try:
        found = places(name)
    except OSError as error:
        advice = "give --host an address, or put the name into /etc/hosts or the DNS"
        yield "own name", "warning", f"{name} is the name of no host ({error.strerror})", advice
        return
    text = listed(found)
    if all(is_loopback(where) for where in found):
        advice = "fine on one host; over several give --host or --advertise an address that others reach"
        yield "own name", "warning", f"{name} is {text}: loopback only", advice
    else:
        yield "own name", "ok", f"{name} is {text}", ""


def sharing() -> Iterator[Found]:
    """Whether processes of this host can share memory."""
    try:
        segment = Segment.create(PAGE)
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with here, there:
            socket.send_fds(here, [b"x"], [segment.fd])
            _, fds, _, _ = socket.recv_fds(there, 1, 1)
            for fd in fds:
                os.close(fd)
    except (Unshared, OSError) as error:
        advice = "processes of this host talk over Unix sockets and TCP instead; containers: one IPC and user"
        yield "shared memory", "warning", f"not possible: {error}", advice
        return
    yield "shared memory", "ok", "possible between processes of one user in one container", ""


def disk(folder: Path) -> Check:
    """Room and speed where checkpoints go."""

    def look() -> Iterator[Found]:
        what = f"disk at {folder}"
        try:
            left = shutil.disk_usage(folder).free
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".psctl-doctor-") as file:
                block, began = os.urandom(1 << 20), time.perf_counter()
                for _ in range(WRITTEN >> 20):
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
                speed = WRITTEN / 1e6 / (time.perf_counter() - began)
        except OSError as error:
            advice = "no checkpoint can be written there; take another folder: --dir"
            yield what, "wrong", f"{error.strerror}", advice
            return
        text = f"{left / 1e9:.1f} GB free, writes {speed:,.0f} MB/s"
        if left < LEAST_DISK:
            yield (
                what,
                "warning",
                text,
                "a checkpoint is the model and the optimizer's state, --keep of them: make room",
            )
        elif speed < SLOW_DISK:
            yield what, "warning", text, "save less often, or on another disk: --checkpoint-dir"
        else:
            yield what, "ok", text, ""

    return look


def loopback() -> Iterator[Found]:
    """How fast two sockets of this host talk over TCP."""
    with zmq.Context() as context, open_socket(context, zmq.DEALER) as one, open_socket(context, zmq.DEALER) as other:
        for sock in (one, other):
            sock.setsockopt(zmq.SNDTIMEO, 5000)
            sock.setsockopt(zmq.RCVTIMEO, 5000)
        try:
            one.bind("tcp://127.0.0.1:*")
            other.connect(one.getsockopt_string(zmq.LAST_ENDPOINT))
            latency, speed = _measured(one, other)
        except zmq.ZMQError as error:
            yield "TCP on this host", "wrong", str(error), "a firewall or sandbox forbids processes here to talk"
            return
    yield "TCP on this host", "ok", f"{speed / 1e9:.1f} GB/s, {latency * 1e6:.0f} µs there and back", ""


def _measured(one: Socket, other: Socket) -> tuple[float, float]:
    trips, block = [], bytes(BLOCK)
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        one.send(b"x")
        other.send(other.recv())
        one.recv()
        trips.append(time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(SENT // BLOCK):
        one.send(block, copy=False)
        other.recv(copy=False)
    return sorted(trips)[len(trips) // 2], SENT / (time.perf_counter() - began)


def _nothing() -> Iterator[Found]:
    yield "cores", "unknown", f"{os.cpu_count()} cores", ""

"""What many members cost: the start of 1,000 workers, simulated here against a real scheduler, and, for one server with
the chunks and workers of a large ssp job, a push, a report and an answer to who asks whom it waits for. Processor time.

python scripts/bench/members.py [--start 1000] [--workers 128] [--chunks 125]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import zmq
from local_cluster import start

from ps.config.job import JobConfig
from ps.protocol.codec import decode, encode
from ps.protocol.layout import Layout
from ps.protocol.membership import Membership
from ps.protocol.messages import Attach, Init, InitChunk, Inquire, Push, Start, View
from ps.server.shard.gradient_shard import GradientShard

SETTLED = 5.0
"""Seconds for which the members only send heartbeats, to know what those cost."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=128)
    parser.add_argument("--chunks", type=int, default=125)
    args = parser.parse_args()
    start_many(args.start)
    for mode in ("sync", "async", "ssp"):
        push_many(mode, args.workers, args.chunks)


def start_many(count: int) -> None:
    """Have so many workers and a server join a real scheduler; each is a connection of its own."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    flags = ["-s", "1", "-w", str(count), "--mode", "async", "--start-timeout", "600", "--heartbeat-timeout", "60"]
    scheduler, address = start(["scheduler", "--port", "0", *flags])
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.max_sockets = count + 10
    members: dict[zmq.Socket[bytes], Membership] = {}
    poller = zmq.Poller()
    try:
        used, began = processor_time(scheduler.pid), time.monotonic()
        for number in range(count + 1):
            socket = context.socket(zmq.DEALER)
            socket.linger = 0
            socket.connect(address)
            poller.register(socket, zmq.POLLIN)
            members[socket] = member("worker" if number else "server", address)
        while not all(each.view is not None and each.view.phase == "running" for each in members.values()):
            turn(members, poller)
        took, cost = time.monotonic() - began, processor_time(scheduler.pid) - used
        used, began = processor_time(scheduler.pid), time.monotonic()
        while time.monotonic() - began < SETTLED:
            turn(members, poller)
        each = (processor_time(scheduler.pid) - used) / (time.monotonic() - began)
    finally:
        scheduler.terminate()
        scheduler.wait(20)
        context.destroy(0)
    print(
        f"start of {count} workers: {took:.1f} s, {cost:.2f} s of the scheduler's processor time, in {took:.1f} s of "
        f"which {each * took:.2f} s would have been heartbeats; then {1000 * each:.0f} ms of each second"
    )


def member(role: str, address: str) -> Membership:
    """Return what a process knows that joins."""
    mine = ("tcp://127.0.0.1:1",) if role == "server" else ()
    now = time.monotonic()
    return Membership(role, address, rank=None, addresses=mine, script={}, connect_timeout=600, now=now)  # type: ignore[arg-type]


def turn(members: dict[zmq.Socket[bytes], Membership], poller: zmq.Poller) -> None:
    """Have all members say what they have to, and hear what has come."""
    now = time.monotonic()
    for socket, each in members.items():
        for message in each.tick(now):
            socket.send(encode(message))
    for socket, _ in poller.poll(50):
        each = members[socket]
        while socket.poll(0):
            header = socket.recv()
            if len(header) > 1000 and b"running" not in header[:200]:
                each.heard(now)  # a view of a job that still waits: to read each would be most of the work
            else:
                each.receive(decode(header), now)


def processor_time(process: int) -> float:
    """Return the seconds of a core that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def push_many(mode: str, workers: int, chunks: int) -> None:
    """Have workers, in random order, push all chunks to a server's shard; then all but one go on until they wait."""
    layout = Layout.of({f"w{index}": np.zeros(256, np.float32) for index in range(chunks)})
    job = JobConfig(workers=workers, mode=mode, chunk_size=1024, staleness=2)
    shard, members, number = GradientShard(0), list(range(1, workers + 1)), iter(range(1, 10**9))
    rows = tuple((member, "worker", member - 1, True, "host", ()) for member in members)
    shard.view(View(1, "running", "", "", job.to_dict(), rows), 0.0)
    shard.receive(b"1", Init(0, 1, 1, job.chunk_bytes, layout.pack()), None, 0.0)
    for index, chunk in shard.chunks.items():
        shard.receive(b"1", InitChunk(0, 1, index), np.zeros(chunk.chunk.size, np.float32).tobytes(), 0.0)
    for each in members:
        shard.receive(b"", Attach(0, each, 1), None, 0.0)
        shard.receive(b"", Start(0, each, 0), None, 0.0)
    gradient = np.ones(256, np.float32).tobytes()
    draw, costs = random.Random(0), list[float]()
    for clock in range(6):
        draw.shuffle(members)
        late = members[0] if clock == 3 else None
        if late is not None:
            members.remove(late)
        if clock > 3 and mode == "sync":
            break
        for each in members:
            began = time.process_time()
            for index in shard.chunks:
                shard.receive(b"", Push(next(number), each, index, clock, 0, 1.0, 1.0, False), gradient, 0.0)
            costs.append((time.process_time() - began) / len(shard.chunks))
    began = time.process_time()
    shard.report(100.0)
    report, began = time.process_time() - began, time.process_time()
    shard.receive(b"", Inquire(0, members[0], (1,)), None, 100.0)
    inquire = time.process_time() - began
    print(
        f"{mode}, {workers} workers, {len(shard.chunks)} chunks: {1e6 * statistics.mean(costs):.0f} us a push, "
        f"{1e3 * report:.1f} ms a report, {1e3 * inquire:.1f} ms to say whom a worker waits for"
    )


if __name__ == "__main__":
    main()

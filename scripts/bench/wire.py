"""Time the exchange of a model: push-pull over tcp and ipc, one worker, one server, SGD applied.

    python scripts/bench/wire.py
    python scripts/bench/wire.py --sizes 40 --repeats 30 --json wire.json

The limits are measured in the same run, in turns: ``w -= g`` in place in one process, the same bytes to and fro
over a raw loopback socket, and over a plain pyzmq pair. GB/s are of the model, not of the bytes moved.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import multiprocessing.connection
import socket
import tempfile
from collections.abc import Callable

import numpy as np
import zmq
from limits import in_place_update, interleave, machine
from local_cluster import cluster, join
from outfile import outfile

SMALL = 10_000
FLAGS = ("--optimizer", "sgd:lr=1e-3")


def _socket_echo(port: multiprocessing.connection.Connection, nbytes: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port.send(listener.getsockname()[1])
        peer, _ = listener.accept()
        buffer = memoryview(bytearray(nbytes))
        while True:
            got = 0
            while got < nbytes:
                count = peer.recv_into(buffer[got:])
                if not count:
                    return
                got += count
            peer.sendall(buffer)


def raw_socket(stack: contextlib.ExitStack, nbytes: int) -> Callable[[], object]:
    """Return the exchange of ``nbytes`` both ways over one loopback TCP socket."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_socket_echo, args=(theirs, nbytes), daemon=True)
    child.start()
    peer = stack.enter_context(socket.create_connection(("127.0.0.1", ours.recv())))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    data, back = np.ones(nbytes, np.uint8), memoryview(bytearray(nbytes))

    def exchange() -> None:
        peer.sendall(data)
        got = 0
        while got < nbytes:
            got += peer.recv_into(back[got:])

    return exchange


def _zmq_echo(address: multiprocessing.connection.Connection, endpoint: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        sock.setsockopt(zmq.LINGER, 0)
        sock.bind(endpoint)
        address.send(sock.getsockopt_string(zmq.LAST_ENDPOINT))
        while True:
            sock.send_multipart(sock.recv_multipart(copy=False), copy=False)


def raw_zmq(stack: contextlib.ExitStack, nbytes: int, kind: str) -> Callable[[], object]:
    """Return the echo of one message of ``nbytes`` by a plain pyzmq ROUTER, as ps uses it but without ps."""
    ours, theirs = multiprocessing.Pipe()
    # Not ipc://*, for which ZeroMQ makes a folder where we stand that nobody removes.
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="wire-"))
    endpoint = "tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{directory}/echo.sock"
    child = multiprocessing.get_context("spawn").Process(target=_zmq_echo, args=(theirs, endpoint), daemon=True)
    child.start()
    stack.callback(child.terminate)
    context = stack.enter_context(zmq.Context())
    sock = stack.enter_context(context.socket(zmq.DEALER))
    sock.setsockopt(zmq.LINGER, 0)
    sock.connect(ours.recv())
    data = np.ones(nbytes, np.uint8)

    def echo() -> None:
        sock.send_multipart([b"header", data], copy=False)
        sock.recv_multipart(copy=False)

    return echo


def exchange(stack: contextlib.ExitStack, n_floats: int, transport: str) -> Callable[[], object]:
    """Return a push-pull of ``n_floats`` parameters with a server process over a transport."""
    kv = stack.enter_context(join(stack.enter_context(cluster("--transport", transport, *FLAGS))))
    params = kv.init({"w": np.ones(n_floats, np.float32)})
    grads = {"w": np.full(n_floats, 1e-6, np.float32)}
    return lambda: kv.push_pull(grads, params)


def measure(n_floats: int, repeats: int, transports: list[str]) -> dict[str, float]:
    """Return the median seconds of each case for one size of model."""
    nbytes = n_floats * 4
    with contextlib.ExitStack() as stack:
        cases: dict[str, Callable[[], object]] = {"in place": in_place_update(n_floats)}
        if n_floats > SMALL:
            cases["raw socket"] = raw_socket(stack, nbytes)
        for transport in transports:
            if n_floats <= SMALL:
                cases[f"zmq echo {transport}"] = raw_zmq(stack, nbytes, transport)
            cases[transport] = exchange(stack, n_floats, transport)
        return interleave(cases, repeats)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1,40,400", help="megabytes of model, comma-separated")
    parser.add_argument("--transports", default="tcp,ipc")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=outfile)
    args = parser.parse_args()
    transports = args.transports.split(",")
    here = machine()
    print("  ".join(f"{key} {value}" for key, value in here.items()))
    results: dict[str, dict[str, float]] = {}
    small = measure(SMALL, args.repeats * 20, transports)
    results["10 k parameters"] = small
    print(f"\n10 k parameters, one push-pull{'':14}{'median µs':>12}{'× raw echo':>12}")
    for transport in transports:
        echo = small[f"zmq echo {transport}"]
        print(f"  pyzmq echo, {transport:30}{echo * 1e6:12.0f}{1:12.2f}")
        print(f"  ps, {transport:38}{small[transport] * 1e6:12.0f}{small[transport] / echo:12.2f}")
    for size in args.sizes.split(","):
        megabytes = float(size)
        repeats = max(5, int(args.repeats * min(1, 80 / megabytes)))
        times = results[f"{size} MB"] = measure(int(megabytes * 250_000), repeats, transports)
        print(f"\n{size} MB, one push-pull with SGD{'':16}{'median ms':>10}{'GB/s':>8}{'of in place':>13}")
        for name, seconds in times.items():
            rate, share = megabytes / 1000 / seconds, times["in place"] / seconds
            print(f"  {name:42}{seconds * 1000:10.2f}{rate:8.2f}{share:13.3f}")
    if args.json:
        args.json.write_text(json.dumps({"machine": here, "seconds": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Promises of the ways to the servers: the fastest that works, one line that says why not, and no guessing."""

from __future__ import annotations

import atexit
import errno
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from ps.errors import PSError, Refused, Unshared
from ps.protocol import segment as segment_module
from ps.protocol.codec import encode
from ps.protocol.membership import Peer
from ps.protocol.messages import Error, Shared
from ps.protocol.segment import PAGE, Segment
from ps.protocol.transports import shm_channel as shm_module
from ps.protocol.transports.shm_channel import ShmChannel
from ps.testing import LocalCluster
from ps.worker.server_channels import ServerChannels, ToShare, open_channels
from support.held import descriptors, mappings
from support.identity import identify
from support.lineserver import Fake, LineServer, framed, say

Start = Callable[..., LocalCluster]
NBYTES = 2 * PAGE
SOMEBODY = socket.create_server(("127.0.0.1", 0))
"""Takes connections and says nothing."""
atexit.register(SOMEBODY.close)
TCP = f"tcp://127.0.0.1:{SOMEBODY.getsockname()[1]}"
YES = framed(encode(Shared(0, False)))
NO = framed(encode(Error(0, "shm", "not with you")))


def peer(rank: int, *addresses: str) -> Peer:
    return Peer(rank + 1, "server", rank, True, f"host{rank}, pid 7", addresses)


def shm(server: LineServer) -> str:
    return f"shm://{server.path}"


@pytest.fixture
def find() -> Iterator[Callable[..., ServerChannels]]:
    """Open channels: ``find(peer(0, …), transport="shm", viewing=True)``."""
    context: zmq.Context[Any] = zmq.Context()
    found: list[ServerChannels] = []

    def start(*servers: Peer, transport: str = "auto", seeding: bool = False, viewing: bool = False) -> ServerChannels:
        shared = ToShare(NBYTES, seeding=seeding, viewing=viewing)
        found.append(open_channels(context, list(servers), transport, shared, identity=identify(7)))
        return found[-1]

    yield start
    for channels in found:
        channels.close()
    context.destroy(linger=0)


Find = Callable[..., ServerChannels]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged, each line with its level."""
    caplog.set_level(logging.INFO, "ps.worker")
    return lambda: [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


Said = Callable[[], list[str]]


def home(segment: Segment) -> Any:
    return say(framed(encode(Shared(0, True))), fds=lambda: [os.dup(segment.fd)])


def test_a_server_that_takes_the_memory_is_reached_by_it_and_nothing_is_said(
    find: Find, said: Said, fake: Fake
) -> None:
    channels = find(peer(0, TCP, shm(fake(say(YES)))))
    assert isinstance(channels.channels[0], ShmChannel) and channels.memory is not None and channels.view is None
    assert said() == [] and channels.names[0].startswith("server 0 (host0, pid 7) at shm://")


# Falling back


def dead(fake: Fake) -> str:
    """The address of a server that was killed: its socket is a file without a listener."""
    server = fake(None)
    server.close()
    return shm(server)


def no_room(monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(segment_module.os, call, refuse)


CASES: dict[str, tuple[Callable[[Fake, pytest.MonkeyPatch], str], str]] = {
    "killed": (lambda fake, patch: dead(fake), "Connection refused"),
    "refuses": (lambda fake, patch: shm(fake(say(NO))), "not with you"),
    "hangs up": (lambda fake, patch: shm(fake(say())), "closed the line"),
    "silent": (
        lambda fake, patch: patch.setattr(shm_module, "HANDSHAKE", 0.2) or shm(fake(None)),  # type: ignore[func-returns-value]
        r"no answer within 0\.2 s",
    ),
    "no room": (
        lambda fake, patch: no_room(patch, "posix_fallocate", errno.ENOSPC) or shm(fake(None)),  # type: ignore[func-returns-value]
        r"no room for \d+ bytes of shared memory: No space left",
    ),
    "no descriptor": (
        lambda fake, patch: no_room(patch, "memfd_create", errno.EMFILE) or shm(fake(None)),  # type: ignore[func-returns-value]
        "no shared memory can be made: Too many open files",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_another_way_is_taken_and_one_line_says_why(
    find: Find, said: Said, fake: Fake, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, why = CASES[case]
    address = make(fake, monkeypatch)
    before = descriptors(), mappings()
    began = time.monotonic()
    channels = find(peer(0, address, TCP))
    assert time.monotonic() - began < 10
    assert channels.memory is None and channels.view is None and not isinstance(channels.channels[0], ShmChannel)
    assert channels.names == [f"server 0 (host0, pid 7) at {TCP}"]
    [line] = said()
    assert line.startswith("WARNING server 0 (host0, pid 7): no shared memory (") and line.endswith(f"using {TCP}")
    assert re.search(why, line), line
    channels.close()
    assert mappings() == before[1]


@pytest.mark.parametrize("case", CASES)
def test_where_shared_memory_was_demanded_the_error_names_the_server_the_reason_and_what_to_do(
    find: Find, said: Said, fake: Fake, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    make, why = CASES[case]
    address = make(fake, monkeypatch)
    before = descriptors(), mappings()
    with pytest.raises(Unshared, match=rf"^server 0 \(host0, pid 7\) cannot share memory .*{why}.*auto$") as caught:
        find(peer(0, address, TCP), transport="shm")
    assert caught.value.exit_code == 7 and said() == []
    del caught
    deadline = time.monotonic() + 10  # the server is a thread of this process, which closes what is its own
    while descriptors() > before[0] or mappings() > before[1]:
        assert time.monotonic() < deadline, "something is left"
        time.sleep(0.01)


def test_shared_memory_that_no_server_here_offers_is_refused_where_it_was_demanded(find: Find, tmp_path: Path) -> None:
    for addresses in ((TCP,), (f"shm://{tmp_path}/gone.sock", TCP)):
        with pytest.raises(
            Refused, match=r"server 3 .* cannot be reached by shm from here; it offers .*--transport auto"
        ):
            find(peer(3, *addresses), transport="shm")


def test_a_server_of_another_host_or_container_is_said_once_and_without_alarm(
    find: Find, said: Said, tmp_path: Path
) -> None:
    channels = find(peer(0, f"shm://{tmp_path}/gone.sock", TCP), peer(1, TCP))
    assert channels.memory is None
    one, other = said()
    assert (
        one
        == f"INFO server 0 (host0, pid 7): no shared memory ({tmp_path}/gone.sock cannot be opened here); using {TCP}"
    )
    assert other == f"INFO server 1 (host1, pid 7): no shared memory (it offers none); using {TCP}"


def test_a_server_of_this_host_that_cannot_be_reached_is_worth_a_warning(
    find: Find, said: Said, tmp_path: Path
) -> None:
    place = f"{socket.gethostname()}, pid 7"
    find(Peer(1, "server", 0, True, place, (f"shm://{tmp_path}/gone.sock", TCP)))
    [line] = said()
    assert line.startswith(f"WARNING server 0 ({place}): no shared memory ({tmp_path}/gone.sock cannot be opened here)")


def test_a_user_who_wants_tcp_hears_nothing(find: Find, said: Said, fake: Fake) -> None:
    assert find(peer(0, shm(fake(None)), TCP), transport="tcp").memory is None
    assert said() == []


def test_a_server_at_whose_address_nobody_listens_is_named_with_what_to_do(find: Find, said: Said) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nobody = f"tcp://127.0.0.1:{gone.getsockname()[1]}"
    find(peer(0, TCP), peer(1, nobody), transport="tcp")
    (line,) = said()
    assert line.startswith(
        f"WARNING server 1 (host1, pid 7) cannot be reached from here: nobody can be reached at {nobody}"
    )
    assert line.endswith("Start it with another --host or --advertise")


def test_a_servers_name_is_looked_up_once(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: asked.append(host) or look_up(host, *a, **k))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    find(peer(0, f"tcp://localhost:{port}"), transport="tcp")
    assert asked == ["localhost"]


def test_each_server_is_said_to_have_its_own_reason(find: Find, said: Said, fake: Fake, tmp_path: Path) -> None:
    gone = f"shm://{tmp_path}/gone.sock"
    channels = find(peer(0, shm(fake(say(NO))), TCP), peer(1, gone, TCP), peer(2, shm(fake(say(YES))), TCP))
    assert [isinstance(channel, ShmChannel) for channel in channels.channels] == [
        False,
        False,
        True,
    ] and channels.memory is not None
    refused, absent = said()
    assert "server 0" in refused and "not with you" in refused
    assert "server 1" in absent and "not with you" not in absent and "cannot be opened" in absent


# Weights in place


def test_a_window_is_opened_when_all_servers_keep_the_weights_in_one_memory(find: Find, fake: Fake) -> None:
    segment = Segment.create(NBYTES)
    channels = find(*(peer(rank, shm(fake(home(segment))), TCP) for rank in range(2)), viewing=True)
    assert channels.view is not None
    segment.array(0, NBYTES)[5] = 8
    assert channels.view.array[5] == 8 and channels.view.array.nbytes == NBYTES
    with pytest.raises(ValueError, match="read-only"):
        channels.view.array[5] = 9


def test_there_is_no_window_without_that(find: Find, fake: Fake) -> None:
    one, other = Segment.create(NBYTES), Segment.create(NBYTES)
    for answers, viewing in (
        ([home(one), home(other)], True),
        ([home(one), say(YES)], True),
        ([say(YES), home(one)], True),
        ([home(one), say(NO)], True),
        ([home(one), home(one)], False),
    ):
        channels = find(*(peer(rank, shm(fake(answer)), TCP) for rank, answer in enumerate(answers)), viewing=viewing)
        assert channels.view is None and channels.memory is not None


def test_without_room_for_a_window_the_weights_are_copied(
    find: Find, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise Unshared("no address space")

    monkeypatch.setattr("ps.worker.server_channels.MappedView", full)
    channels = find(peer(0, shm(fake(home(Segment.create(NBYTES))))), viewing=True)
    assert channels.view is None and isinstance(channels.channels[0], ShmChannel)


def test_only_the_worker_that_seeds_offers_memory_for_the_weights(find: Find, fake: Fake) -> None:
    for seeding, viewing, count in ((True, True, 2), (True, False, 1), (False, True, 1)):
        got: list[int] = []
        server = fake(lambda sock, data, fds, got=got: got.append(len(fds)) or sock.sendall(YES))  # type: ignore[misc]
        find(peer(0, shm(server)), seeding=seeding, viewing=viewing)
        assert got == [count]


def test_what_was_opened_is_closed_when_one_server_cannot_be_reached(find: Find, fake: Fake) -> None:
    server, other = fake(say(YES)), fake(say(NO))
    before = descriptors(), mappings()
    with pytest.raises(PSError):
        find(peer(0, shm(server)), peer(1, shm(other)), transport="shm")
    server.close()
    other.close()
    after = descriptors(), mappings()
    assert after[0] <= before[0] and after[1] == before[1]


# Whole jobs


def trained(kv: Any) -> bytes:
    params = kv.init({"a": np.zeros(3000, np.float32), "b": np.linspace(0, 1, 77)})
    for step in range(12):
        random = np.random.default_rng(100 * step + kv.rank)
        kv.step({name: random.standard_normal(value.shape).astype(value.dtype) for name, value in params.items()})
    return b"".join(np.array(value).tobytes() for value in params.values())


@pytest.mark.parametrize(
    ("workers", "job"),
    [
        (1, {"optimizer": "adam"}),
        (2, {"optimizer": "momentum", "clip_norm": 0.5}),
        (4, {"optimizer": "adagrad", "aggregator": "weighted"}),
        (4, {"optimizer": "lion", "clip_value": 0.3, "servers": 3}),
        (2, {"optimizer": "adamw", "overlap": True}),
    ],
)
def test_the_bits_are_the_same_over_every_transport(loopback: Start, workers: int, job: dict[str, Any]) -> None:
    common = {"servers": 2, "workers": workers, "chunk_size": 1024, **job}
    ways = [{"transport": "tcp"}, {"transport": "ipc"}, {"transport": "shm"}, {"transport": "shm", "params": "private"}]
    found = [set(loopback(**common, **way).run(*[trained] * workers)) for way in ways]
    assert len(set.union(*found)) == 1, [len(digests) for digests in found]


@pytest.mark.parametrize("job", [{"optimizer": "adam"}, {"optimizer": "momentum", "clip_norm": 0.5}])
def test_a_job_of_workers_that_share_memory_and_others_that_cannot_gives_the_bits_of_tcp(
    loopback: Start, monkeypatch: pytest.MonkeyPatch, job: dict[str, Any]
) -> None:
    common = {"servers": 2, "workers": 3, "chunk_size": 1024, **job}
    wanted = set(loopback(transport="tcp", **common).run(trained, trained, trained))
    assert len(wanted) == 1

    create, seats = ShmChannel.open, iter([True, False, False, True, True, False])
    used: list[bool] = []

    def choosy(*args: Any) -> ShmChannel:  # each worker asks two servers
        used.append(next(seats, True))
        if not used[-1]:
            raise Unshared("as a test wants")
        return create(*args)

    monkeypatch.setattr(ShmChannel, "open", choosy)
    assert set(loopback(transport="auto", **common).run(trained, trained, trained)) == wanted
    assert len(used) == 6 and used.count(True) == 3


def test_a_server_that_refuses_memory_is_still_used(loopback: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps.protocol.transports.unix_listener.MOST", 0)
    [found] = loopback(transport="auto", servers=2, chunk_size=1024).run(trained)
    [wanted] = loopback(transport="tcp", servers=2, chunk_size=1024).run(trained)
    assert found == wanted

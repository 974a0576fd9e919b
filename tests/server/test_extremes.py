"""Promises to whoever is spoken to: valid messages with extreme values in every field end no process.

From a member, from a stranger and from a member of another job; what the two last say changes no bit of the weights.
"""

from __future__ import annotations

import contextlib
import gc
import random
import tracemalloc
from pathlib import Path

import msgpack
import pytest

from ps.config import ProcessConfig
from ps.errors import BadMessage
from ps.protocol.codec import MAGIC, VERSION, encode
from ps.protocol.messages import TYPES, Error, Hello, Leave, Ok, Ping, Pong, Welcome
from ps.protocol.query import fetch_status
from ps.server.scheduler.service import serve as serve_scheduler
from ps.server.shard.service import serve as serve_server
from support import extremes
from support.extremes import TARGETS, WHO, Who
from support.schema import beyond, ends, extreme, fields_of
from support.wire import Peer, Service

COUNT = 160
SEED = 20260
MOST_GROWN = 3_000_000
"""Bytes of memory by which a process may grow while it is told anything; most is what members may send it to keep."""


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("name", TARGETS)
def test_extreme_values_end_no_process_and_strangers_change_no_weights(name: str, who: Who) -> None:
    said = extremes.run(name, who, SEED, COUNT)
    assert said.total() == COUNT
    assert said["taken"] > 0


@pytest.mark.parametrize("who", ["member", "stranger"])
@pytest.mark.parametrize("name", ["scheduler federated", "scheduler sync", "server async", "server federated none"])
def test_the_memory_of_a_process_does_not_grow_with_what_is_said_to_it(name: str, who: Who) -> None:
    target, chance = TARGETS[name](), random.Random(SEED)
    target.warm_up()
    extremes.speak(target, who, chance, 150)
    tracemalloc.start()
    try:
        extremes.speak(target, who, chance, 350)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MOST_GROWN


def test_real_services_live_whatever_a_stranger_says_within_the_ranges_and_beyond(tmp_path: Path) -> None:
    scheduler = Service(serve_scheduler, {"workers": 1}, ProcessConfig())
    address = scheduler.address
    server = Service(serve_server, ProcessConfig(scheduler=address, runtime_dir=str(tmp_path)))
    chance, headers = random.Random(SEED), []
    for number, cls in TYPES.items():
        for _ in range(6):
            with contextlib.suppress(BadMessage):
                headers.append((cls, encode(extreme(cls, chance, member=chance.getrandbits(62)))))
        kinds = fields_of(cls)
        for name, kind in kinds.items():
            values = {key: ends(other)[0] for key, other in kinds.items()} | {name: chance.choice(beyond(kind))}
            headers.append((cls, MAGIC + bytes((VERSION, number)) + msgpack.packb(list(values.values()))))
    for listener in (address, server.address):
        for begin in range(0, len(headers), 150):  # of more, one connection would be cut
            with Peer(listener) as peer:
                for cls, header in headers[begin : begin + 150]:
                    if cls is not Hello:  # a stranger that joins is a member
                        peer.socket.send_multipart([header, *([b"x" * 64] if cls.payload else [])])
                peer.say(Ping(77))
                assert peer.hear(Pong, lambda pong: pong.request == 77)
    status = fetch_status(address)
    assert (status["phase"], len(status["servers"]), len(status["workers"])) == ("waiting", 1, 0)
    with Peer(address) as peer:
        peer.say(Hello(0, 1, "worker", -1, "h", 1, "", (), {}))
        seat = peer.hear(Welcome).member
        peer.say(Leave(1, seat, {}))
        peer.hear(Ok)
    assert (scheduler.result(), server.result()) == (0, 0)


def test_a_refusal_does_not_quote_what_came_at_length() -> None:
    scheduler = Service(serve_scheduler, {"workers": 1}, ProcessConfig())
    with Peer(scheduler.address) as peer:
        for settings in ({"optimizer": "x" * 60_000}, {"x" * 60_000: 1}, {"mode": "y" * 60_000}, {"seed": [1] * 9000}):
            peer.say(Hello(5, 1, "worker", -1, "h", 1, "", (), settings))
            answer = peer.hear(Error)
            assert len(answer.text) <= 2000
        peer.say(Hello(0, 2, "worker", -1, "h", 1, "", (), {"optimizer": "sgd:lr=0.1"}))
        seat = peer.hear(Welcome).member
        peer.say(Hello(5, 3, "server", 0, "h", 1, "", (), {}))
        peer.hear(Welcome)
        peer.say(Leave(1, seat, {}))
        peer.hear(Ok)

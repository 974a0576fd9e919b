"""Promises of the inbox, on real sockets: garbage is counted, answered and forgotten, and nobody else notices."""

from __future__ import annotations

import pytest
import zmq

from ps.errors import BadMessage
from ps.protocol.codec import VERSION, decode, encode
from ps.protocol.inbox import SKIP, Inbox
from ps.protocol.messages import Error, Ok, Ping, Pong, Pull, Status, Weights
from support.inboxes import HEAD, PULL, PUSH, Dial, Listen, answer, turn


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_message_is_yielded_with_its_sender_and_its_payload_uncopied(
    listen: Listen, dial: Dial, transport: str
) -> None:
    inbox, address = listen(transport)
    peer = dial(address)
    peer.send_multipart([PUSH, b"x" * 100_000])
    ((origin, message, payload),) = turn(inbox)
    assert message == decode(PUSH)
    assert bytes(payload) == b"x" * 100_000
    assert payload.readonly or isinstance(payload, memoryview)
    inbox.send(origin, Ok(1))
    assert answer(inbox, peer) == Ok(1)
    assert not inbox.rejected


def test_pings_are_answered_and_not_yielded(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(encode(Ping(5)))
    assert answer(inbox, peer) == Pong(5, "server", 2)


@pytest.mark.parametrize(
    ("frames", "reason", "code"),
    [
        ([b"garbage"], "not ps", "bad-message"),
        ([b""], "not ps", "bad-message"),
        ([b"", b""], "not ps", "bad-message"),
        ([b"PS"], "not ps", "bad-message"),
        ([b"PS\x7f\x0e\x91\x00"], "version", "version"),
        ([HEAD + b"\xc8\x91\x00"], "unknown type", "bad-message"),
        ([PUSH[:-1], b"x"], "malformed header", "bad-message"),
        ([PUSH + b"\0", b"x"], "malformed header", "bad-message"),
        ([HEAD + b"\x0e\x92\x00\x00"], "malformed header", "bad-message"),
        ([HEAD + b"\x0e\x91\xa1x"], "malformed header", "bad-message"),
        ([PUSH], "frames", "bad-message"),
        ([PULL, b"payload"], "frames", "bad-message"),
        ([PUSH, b"x", b"y"], "frames", "bad-message"),
        ([b"x"] * 5000, "frames", "bad-message"),
        ([HEAD + b"\x04" + bytes(300_000)], "header size", "bad-message"),
        ([HEAD + b"\x24\x95\x01\x01\x01\x01\xdd\xff\xff\xff\xff" + bytes(1000)], "malformed header", "bad-message"),
    ],
    ids=range(16),
)
def test_each_kind_of_garbage_is_counted_by_its_reason_and_answered(
    listen: Listen, dial: Dial, frames: list[bytes], reason: str, code: str
) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send_multipart(frames)
    error = answer(inbox, peer)
    assert isinstance(error, Error)
    assert (error.request, error.code) == (0, code)
    assert error.text
    assert dict(inbox.rejected) == {reason: 1}
    peer.send(PULL)
    assert [message for _, message, _ in turn(inbox)] == [decode(PULL)]


def test_a_version_error_names_both_versions(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(b"PS" + bytes((VERSION + 1,)) + PULL[3:])
    error = answer(inbox, peer)
    assert isinstance(error, Error)
    assert error.text == f"the peer speaks protocol version {VERSION + 1}, this process version {VERSION}"


def test_errors_are_never_answered(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(encode(Error(3, "bad-message", "you are wrong")))
    peer.send(HEAD + encode(Error(3, "bad-message", "you are wrong"))[3:])
    peer.send(encode(Ping(1)))
    assert answer(inbox, peer) == Pong(1, "server", 2)
    assert dict(inbox.rejected) == {"error": 2}


def test_every_error_sent_is_counted_by_its_code(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    inbox.send(origin, Error(9, "evicted", "you left"))
    inbox.reject(origin, 9, BadMessage("chunk 3 has 12 bytes, the frame 4", "payload size"))
    inbox.reject(origin, 9, BadMessage("a scheduler has no use for Pull"))
    assert dict(inbox.rejected) == {"evicted": 1, "payload size": 1, "refused": 1}


def test_at_most_so_many_messages_are_yielded_at_once(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    for _ in range(10):
        peer.send(PULL)
    peer.send(encode(Ping(1)))
    taken = len(turn(inbox, 3))
    assert taken <= 3
    while taken < 10:
        taken += len(turn(inbox, 3))
    assert answer(inbox, peer) == Pong(1, "server", 2)


def test_a_message_of_very_many_frames_does_not_keep_the_loop(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer, other = dial(address), dial(address)
    count = 30 * SKIP
    peer.send_multipart([b""] * count)
    turns = 0
    while not inbox.rejected:
        assert turn(inbox) == []
        turns += 1
    assert turns >= count // SKIP
    assert dict(inbox.rejected) == {"frames": 1}
    other.send(encode(Ping(1)))
    assert answer(inbox, other) == Pong(1, "server", 2)


def test_an_answer_to_a_peer_that_is_gone_is_dropped(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer, other = dial(address), dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    peer.close()
    inbox.send(b"nobody", Ok(1))
    inbox.lend(b"nobody", Weights(1, 2, 3, 0), b"x" * 100_000)
    for _ in range(5000):
        inbox.send(origin, Ok(1))
    other.send(encode(Ping(1)))
    assert answer(inbox, other) == Pong(1, "server", 2)


def test_a_message_that_cannot_be_written_is_counted_and_does_not_garble_the_next(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    inbox.send(origin, Status(1, {"value": object()}))
    inbox.send(origin, Status(1, {"value": "x" * 5_000_000}))
    assert inbox.lend(origin, Weights(1 << 70, 2, 3, 0), b"payload") is None
    assert inbox.rejected["unsent"] == 3
    inbox.send(origin, Ok(1))
    assert answer(inbox, peer) == Ok(1)


def test_lent_weights_are_free_once_they_are_sent(listen: Listen, dial: Dial) -> None:
    inbox, address = listen()
    peer = dial(address)
    peer.send(PULL)
    ((origin, _, _),) = turn(inbox)
    lease = inbox.lend(origin, Weights(9, 3, 5, 1), bytearray(200_000))
    header, payload = peer.recv_multipart()
    assert decode(header) == Weights(9, 3, 5, 1)
    assert payload == bytes(200_000)
    lease.wait(10)
    assert lease.done


def test_a_message_whose_address_is_not_known_is_yielded_without_one() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as peer:
        router.bind("inproc://inbox")  # it has no addresses at all, as a connection that has closed has none any more
        peer.connect("inproc://inbox")
        peer.send(PULL)
        inbox = Inbox(router, "scheduler", 0, tells_address=True)
        assert [type(message) for _, message, _ in turn(inbox)] == [Pull]
        assert inbox.address == ""


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_from_which_connections_messages_were_taken_is_known_once_it_is_asked(
    listen: Listen, dial: Dial, transport: str
) -> None:
    inbox, address = listen(transport)
    one, other = dial(address), dial(address)
    one.send(PULL)
    assert len(list(turn(inbox))) == 1 and inbox.heard() == set()
    heard = []
    inbox.note_heard()
    for peer in (one, other, one):
        peer.send(PULL)
        turn(inbox)
        heard.append(inbox.heard())
    assert [len(each) for each in heard] == [1, 1, 1] and heard[0] == heard[2] != heard[1]
    inbox.note_heard(on=False)
    one.send(PULL)
    turn(inbox)
    assert inbox.heard() == set()

"""Promises of the codec: what is encoded is decoded, and nothing else gets through, at bounded cost."""

from __future__ import annotations

import dataclasses
import random
import struct
import threading
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ps.errors import BadMessage, ProtocolError, VersionMismatch
from ps.protocol import messages as m
from ps.protocol.codec import MAGIC, MAX_HEADER, SHORT, VERSION, decode, encode, limit_of
from ps.protocol.fields import MAX_DEPTH, MAX_NESTED, check_of
from ps.protocol.ranges import MOST_STEPS, MOST_TENSORS
from support.long import cases
from support.samples import LAYOUT, SAMPLES
from support.schema import any_message

HEAD = MAGIC + bytes((VERSION,))

NUMBERS = {cls: number for number, cls in m.TYPES.items()}


def raw(cls: type[m.Message], body: bytes) -> bytes:
    return b"PS" + bytes((VERSION, NUMBERS[cls])) + body


def peak(header: bytes) -> int:
    """Return the most memory that decoding takes, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(BadMessage):
            decode(header)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@settings(max_examples=cases(1000, 10_000), deadline=None)
@given(any_message())
def test_what_is_encoded_is_decoded(message: m.Message) -> None:
    assert decode(encode(message)) == message


@settings(max_examples=cases(2000, 20_000), deadline=None)
@given(st.binary(max_size=64))
@example(b"")
@example(HEAD)
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data if data[:2] != b"PS" else b"ps" + data)


@settings(max_examples=cases(3000, 30_000), deadline=None)
@given(st.sampled_from(sorted(m.TYPES)), st.binary(max_size=2 * SHORT))
def test_any_body_is_a_message_or_bad(number: int, body: bytes) -> None:
    try:
        message = decode(b"PS" + bytes((VERSION, number)) + body)
    except BadMessage as error:
        assert str(error)
    else:
        assert type(message) is m.TYPES[number]


LONG = [
    m.Init(1, 2, 2, 1 << 20, LAYOUT * 40),
    m.Heartbeat(1, 2, {"a": {f"k{i}": (i, {"b": None}) for i in range(100)}}),
    m.View(1, "running", "", "", {"x": "y" * 500}, ((1, "server", 0, False, "p", ("tcp://h:1",)),) * 9),
    m.Inquire(0, 1, tuple(range(300, 700))),
]


@settings(max_examples=cases(100, 1000), deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_mutated_header_is_a_message_or_an_error(seed: int) -> None:
    """A hundred of them for each seed: that many draws of hypothesis' own would take a hundred times as long."""
    rng, sound = random.Random(seed), [encode(message) for message in (*SAMPLES, *LONG)]
    for _ in range(100):
        header = bytearray(rng.choice(sound))
        for _ in range(rng.randint(1, 4)):
            header[rng.randrange(len(header))] = rng.randrange(256)
        header += rng.randbytes(rng.randint(0, 4) * rng.randint(0, 1))
        try:
            decode(bytes(header))
        except ProtocolError as error:
            assert str(error), header


@pytest.mark.parametrize("staged", [0, 400], ids=["read at once", "read piece by piece"])
@pytest.mark.parametrize(("field", "word"), [("phase", "party"), ("phase", ""), ("phase", "publish"), ("wrong", "odd")])
def test_a_word_that_programs_act_on_and_do_not_know_is_refused(staged: int, field: str, word: str) -> None:
    sound = m.RoundStatus(1, 0, 1, "collect", 0, True, ((7, 1.0, "nan"), *((n, 1.0, "") for n in range(staged))))
    assert decode(encode(sound)) == sound
    notes = ((7, 1.0, word),) if field == "wrong" else ()
    odd = dataclasses.replace(sound, staged=notes + sound.staged, **({"phase": word} if field == "phase" else {}))
    with pytest.raises(BadMessage, match="RoundStatus") as refused:
        decode(encode(odd))
    assert refused.value.reason == "malformed header"


def test_the_code_of_an_error_or_of_a_failure_may_be_one_of_another_version() -> None:
    assert decode(encode(m.View(1, "failed", "of-tomorrow", "why", {}, ()))).code == "of-tomorrow"  # type: ignore[arg-type]
    assert decode(encode(m.Error(1, "of-tomorrow", "why"))) == m.Error(1, "of-tomorrow", "why")  # type: ignore[arg-type]


@pytest.mark.parametrize("message", [*SAMPLES, *LONG], ids=lambda message: type(message).__name__)
def test_a_header_cut_anywhere_is_bad(message: m.Message) -> None:
    header = encode(message)
    for stop in range(len(header)) if len(header) < 600 else range(0, len(header), 7):
        with pytest.raises(BadMessage):
            decode(header[:stop])
    with pytest.raises(BadMessage):
        decode(header + b"\0")


@pytest.mark.parametrize("size", [0xFF, 0xFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize(
    "lead", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"], ids=["array", "map", "str", "bin", "ext"]
)
@pytest.mark.parametrize("padding", [0, SHORT, 100_000])
def test_a_declared_size_costs_nothing(lead: bytes, size: int, padding: int) -> None:
    body = b"\x95\x01\x01\x01\x01" + lead + struct.pack(">I", size) + bytes(padding)
    assert peak(raw(m.Init, body)) < 100_000 + 30 * len(body)
    assert peak(raw(m.Init, lead + struct.pack(">I", size) + bytes(padding))) < 100_000 + 4 * len(body)


@pytest.mark.parametrize("lead", [b"\xdd\x00\x00\xff\xff", b"\xdc\x4e\x20", b"\xdd\x00\x00\x00\x40", b"\x9f", b"\x91"])
@pytest.mark.parametrize("cls", [m.Init, m.Heartbeat, m.Inquire, m.View, m.Ping])
@pytest.mark.parametrize("size", [SHORT - 4, 200_000])
def test_arrays_in_arrays_cost_no_more_than_their_bytes(cls: type[m.Message], lead: bytes, size: int) -> None:
    before = b"\x01" * (len(dataclasses.fields(cls)) - 1)  # type: ignore[arg-type]
    body = bytes((0x90 + len(before) + 1,)) + before + lead * (size // len(lead))
    assert peak(raw(cls, body)) < 2_000_000


@pytest.mark.parametrize("cls", [m.Heartbeat, m.Init, m.Inquire])
def test_a_header_full_of_empty_maps_costs_little(cls: type[m.Message]) -> None:
    before = b"\x01" * (len(dataclasses.fields(cls)) - 1)  # type: ignore[arg-type]
    body = bytes((0x90 + len(before) + 1,)) + before + b"\xdd" + struct.pack(">I", 15_000) + b"\x80" * 15_000
    assert peak(raw(cls, body)) < 2_000_000


def test_dicts_of_a_message_are_plain_and_shallow_however_long_they_are() -> None:
    for padding in ("", "x" * SHORT):
        deep: Any = padding
        for _ in range(MAX_DEPTH - 1):
            deep = (deep,)
        assert decode(encode(m.Welcome(1, 1, 0, 1.0, {"a": deep}))).job == {"a": deep}
        for value in (
            {"a": (deep,)},
            {"a": b"bytes" + padding.encode()},
            {"a": msgpack.ExtType(5, b"x"), "b": padding},
        ):
            with pytest.raises(BadMessage):
                decode(raw(m.Heartbeat, msgpack.packb((1, 1, value))))
        for key in (1, None, b"k", (1,)):
            packed = b"\x82" + msgpack.packb(key) + b"\x01" + msgpack.packb("p") + msgpack.packb(padding)
            with pytest.raises(BadMessage):
                decode(raw(m.Heartbeat, b"\x93\x01\x01" + packed))
        with pytest.raises(BadMessage):
            decode(raw(m.Heartbeat, msgpack.packb((1, 1, {"a": msgpack.Timestamp(1), "b": padding}))))


def test_arrays_have_their_limits() -> None:
    names = tuple(f"n{i}" for i in range(MOST_TENSORS + 1))
    most = tuple((name, "float32", (1,)) for name in names[:-1])
    assert decode(encode(m.InitRequest(1, 2, most))).layout == most
    with pytest.raises(BadMessage, match=f"{MOST_TENSORS + 1} elements; the limit is {MOST_TENSORS}"):
        decode(encode(m.InitRequest(1, 2, tuple((name, "float32", (1,)) for name in names))))
    with pytest.raises(BadMessage):
        decode(encode(m.InitRequest(1, 2, (("n" * SHORT, "float32", (1,) * (MAX_NESTED + 1)),))))


@pytest.mark.parametrize(
    "body",
    [
        (1, 2, 3, "4", 5, 1.0, 1.0, True),
        (1, 2, 3, 4.0, 5, 1.0, 1.0, True),
        (1, 2, 3, True, 5, 1.0, 1.0, True),
        (1, 2, 3, None, 5, 1.0, 1.0, True),
        (1, 2, 3, 4, 5, float("nan"), 1.0, True),
        (1, 2, 3, 4, 5, 1.0, 1.0, 1),
        (1, 2, 3, 1 << 63, 5, 1.0, 1.0, True),
        (1, 2, 3, (1 << 64) - 1, 5, 1.0, 1.0, True),
        (1, 2, 3, 4, 5, 1 << 63, 1.0, True),
        (1, 2, 3, 4, 5, 1.0, 1.0),
        (1, 2, 3, 4, 5, 1.0, 1.0, True, 9),
        [],
        {},
        7,
        "text",
    ],
)
def test_a_push_with_a_field_of_another_type_is_bad(body: Any) -> None:
    with pytest.raises(BadMessage, match="Push"):
        decode(raw(m.Push, msgpack.packb(body)))


def test_the_highest_clock_can_be_sent_back_one_higher() -> None:
    top = decode(encode(m.Pull(1, 2, 3, MOST_STEPS)))
    assert decode(encode(m.Waiting(0, (), top.clock + 1, ()))).clock == MOST_STEPS + 1
    with pytest.raises(BadMessage, match=r"Pull.clock: -1 is not a whole number from 0"):
        decode(encode(m.Pull(1, 2, 3, -1)))


def test_integers_and_infinity_are_floats() -> None:
    assert decode(raw(m.NormPart, msgpack.packb((1, 2, 3)))).value == 3
    assert decode(encode(m.NormPart(1, 2, float("inf")))).value == float("inf")


@pytest.mark.parametrize("version", [v for v in range(256) if v != VERSION])
def test_another_version_is_refused_by_an_error_that_names_both(version: int) -> None:
    for message in SAMPLES[1:]:
        header = bytearray(encode(message))
        header[2] = version
        with pytest.raises(VersionMismatch, match=f"version {version}, this process version {VERSION}"):
            decode(bytes(header))


@pytest.mark.parametrize("version", range(256))
def test_an_error_is_read_in_every_version(version: int) -> None:
    header = bytearray(encode(m.Error(5, "version", "old")))
    header[2] = version
    assert decode(bytes(header)) == m.Error(5, "version", "old")


def test_an_unknown_number_is_bad() -> None:
    for number in set(range(256)) - set(m.TYPES):
        with pytest.raises(BadMessage, match=f"unknown message type {number}"):
            decode(b"PS" + bytes((VERSION, number)) + b"\x91\x00")


@pytest.mark.parametrize(
    "cls, limit", [(m.Heartbeat, limit_of(m.Heartbeat)), (m.Init, MAX_HEADER), (m.Push, limit_of(m.Push))]
)
def test_too_long_a_header_is_refused_before_it_is_read(cls: type[m.Message], limit: int) -> None:
    header = raw(cls, b"\x93" + bytes(limit))
    with pytest.raises(BadMessage, match=f"{cls.__name__}: a header of {len(header)} bytes; the limit is {limit}"):
        decode(header)


def test_too_long_a_header_is_refused_where_it_is_made() -> None:
    limit = limit_of(m.Welcome)
    with pytest.raises(BadMessage, match=f"Welcome: a header of .* the limit is {limit}"):
        encode(m.Welcome(0, 1, 0, 10.0, {"optimizer": "x" * limit}))


@pytest.mark.parametrize(
    "value", ["\ud800", 1 << 64, b"\xff" * 3, object()], ids=["surrogate", "int", "bytes", "object"]
)
def test_what_cannot_be_written_is_refused_and_the_next_message_is_whole(value: Any) -> None:
    for message in (m.Welcome(0, 1, 0, 10.0, {"a": value}), m.InitRequest(1, 2, ((value, "float32", (1,)),))):
        with pytest.raises(BadMessage):
            decode(encode(message))
    assert decode(encode(m.Ping(7))) == m.Ping(7)


def test_two_threads_encode_without_mixing_their_bytes() -> None:
    wrong: list[bytes] = []

    def work(message: m.Message, expected: bytes) -> None:
        wrong.extend(got for _ in range(3000) if (got := encode(message)) != expected)

    threads = [threading.Thread(target=work, args=(message, encode(message))) for message in LONG]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_field_of_an_undecided_type_is_refused_at_import() -> None:
    with pytest.raises(TypeError, match="cannot have fields"):
        check_of(bytes)

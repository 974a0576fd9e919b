"""Promises of ranges: every field of every message has one, and nothing beyond it gets through decoding."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any

import msgpack
import pytest

from ps.errors import BadMessage
from ps.protocol import messages as m
from ps.protocol.codec import MAGIC, VERSION, decode, encode, limit_of
from ps.protocol.fields import BEYOND, MALFORMED, bare, check_of, words_of
from ps.protocol.ranges import AtMost, Within
from support.samples import SAMPLES
from support.schema import beyond, ends, fields_of, leaves

TYPES = list(m.TYPES.values())


def written(message: m.Message, name: str, value: Any) -> bytes:
    """Return the header of a message with another value in one field, whatever it is."""
    values = {key: getattr(message, key) for key in fields_of(type(message))} | {name: value}
    number = next(number for number, cls in m.TYPES.items() if cls is type(message))
    return MAGIC + bytes((VERSION, number)) + bytes(msgpack.packb(list(values.values())))


@pytest.mark.parametrize("cls", TYPES, ids=lambda cls: cls.__name__)
def test_every_field_and_every_part_of_one_has_a_range(cls: type[m.Message]) -> None:
    for name, kind in fields_of(cls).items():
        for where, part in leaves(kind, name):
            plain, bound = bare(part)
            if plain in (int, float):
                assert isinstance(bound, Within), f"{cls.__name__}.{where} needs a range"
            elif plain is str or plain is dict or getattr(plain, "__args__", ())[1:] == (Ellipsis,):
                assert isinstance(bound, AtMost), f"{cls.__name__}.{where} needs a greatest length"


@pytest.mark.parametrize("kind", [int, float, str, dict[str, Any], tuple[bool, ...], tuple[int, bool]])
def test_a_field_without_a_range_is_refused_at_import(kind: Any) -> None:
    with pytest.raises(TypeError, match="without a range"):
        check_of(kind)
    with pytest.raises(TypeError, match="needs one range"):
        check_of(Annotated[kind, "some words"])


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_the_ends_of_each_range_get_through_and_what_is_beyond_is_refused_by_name(message: m.Message) -> None:
    cls = type(message)
    for name, kind in fields_of(cls).items():
        for value in ends(kind):
            if bare(kind)[0] == dict[str, Any]:
                continue
            changed = dataclasses.replace(message, **{name: value})
            if len(written(message, name, value)) <= limit_of(cls):
                assert decode(encode(changed)) == changed
        for value in beyond(kind):
            header = written(message, name, value)
            with pytest.raises(BadMessage) as refused:
                decode(header)
            text = str(refused.value)
            assert cls.__name__ in text
            assert len(text) < 600
            if "a header of" not in text and "msgpack" not in text:
                assert name in text, text


@pytest.mark.parametrize("size", [0, 40], ids=["read at once", "read piece by piece"])
def test_a_value_that_is_beyond_its_range_is_named_by_message_field_and_place(size: int) -> None:
    padding = tuple((n, 1.0, "") for n in range(size))
    with pytest.raises(BadMessage, match=r"RoundStatus.*staged\[\d+\]\[1\]: -1.0 is not a number from 0") as found:
        decode(encode(m.RoundStatus(1, 0, 1, "collect", 0, True, (*padding, (1, -1.0, "")))))
    assert found.value.reason == BEYOND
    with pytest.raises(
        BadMessage, match=r"Upload.rank: 'xxxxxxxx' is not a whole number from 0 to 2147483647"
    ) as found:
        decode(written(m.Upload(9, 2, 1, 0, 0, 0), "rank", "x" * 8))
    assert found.value.reason == MALFORMED
    assert len(str(found.value)) < 120


def test_a_header_is_no_longer_than_its_fields_can_make_it() -> None:
    assert limit_of(m.Ping) < 32
    assert limit_of(m.Push) < 256
    assert limit_of(m.Heartbeat) < 20_000
    for message in SAMPLES:
        for name, kind in fields_of(type(message)).items():
            longest = max(ends(kind), key=lambda value: len(msgpack.packb(value)))
            if bare(kind)[0] != dict[str, Any]:
                sound = dataclasses.replace(message, **{name: longest})
                assert decode(encode(sound)) == sound


def test_numbers_that_mean_nothing_below_zero_or_without_end_are_not_let_through() -> None:
    for message in (
        m.Upload(9, 2, 1, -1, 0, 0),
        m.Upload(9, 2, 1, 0, -1, 0),
        m.Push(9, 2, 0, -1, 0, 1.0, 1.0, True),
        m.Push(9, 2, 0, 0, 0, math.inf, 1.0, True),
        m.Push(9, 2, 0, 0, 0, 1.0, 1.5, True),
        m.Push(9, 2, 0, 0, 0, 1.0, 1.0, True, ((1, 0, 2e6),)),
        m.Push(9, 2, 0, 0, 0, 1.0, 1.0, True, ((1, 0, 0.1),) * 3),
        m.Scale(9, 2, 0, 0, -0.5),
        m.Start(9, 2, -1),
        m.RoundStatus(1, 0, 1, "collect", 0, True, ((1, -1.0, ""),)),
        m.RoundStatus(1, 0, 1, "collect", 0, True, ((1, math.nan, ""),)),
    ):
        with pytest.raises(BadMessage):
            decode(encode(message))


def test_what_is_for_people_is_cut_when_it_is_sent_and_reports_lose_what_does_not_fit() -> None:
    said = decode(encode(m.Error(1, "config", "é" * 300_000 + "\ud800")))
    assert len(said.text) == 2000 and said.text.endswith("…")
    odd = {"clock": 3, "big": 1 << 900, "deep": [[[[[[1]]]]]], "name\ud800": "\udcff", "x" * 900: 1, "object": object()}
    odd |= {f"metric {n}": "x" * 300 for n in range(200)} | {"loss": math.nan}
    report = decode(encode(m.Heartbeat(1, 1, odd))).report
    assert report["clock"] == 3
    assert report["big"] is None and report["object"] is None
    assert max(map(len, report)) == 100
    assert 20 < len(report) < 60


def test_words_are_those_of_their_kinds() -> None:
    assert words_of(fields_of(m.Hello)["role"]) == {"server", "worker"}
    with pytest.raises(BadMessage, match=r"Hello.role: 'scheduler' is not one of server, worker"):
        decode(encode(m.Hello(0, 1, "scheduler", -1, "h", 1, "", (), {})))  # type: ignore[arg-type]

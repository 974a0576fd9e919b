"""Promises of the messages: their bytes stay, and each is one line in a log."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ps.protocol.codec import decode, encode
from ps.protocol.messages import TYPES, Message, base
from support.samples import SAMPLES

GOLDEN = dict(line.split() for line in (Path(__file__).parent / "golden.txt").read_text().splitlines())


def test_every_message_has_golden_bytes() -> None:
    assert {type(message) for message in SAMPLES} == set(TYPES.values())
    assert list(GOLDEN) == [type(message).__name__ for message in SAMPLES]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_the_bytes_of_a_message_never_change(message: Message) -> None:
    golden = bytes.fromhex(GOLDEN[type(message).__name__])
    assert encode(message) == golden
    assert decode(golden) == message


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_is_one_line_in_a_log(message: Message) -> None:
    text = repr(message)
    assert text.startswith(f"{type(message).__name__}(")
    assert "\n" not in text
    assert len(text) < 600


def test_messages_are_frozen_and_hold_nothing_but_their_fields() -> None:
    for message in SAMPLES:
        assert not hasattr(message, "__dict__")
        with pytest.raises(AttributeError):
            setattr(message, dataclasses.fields(message)[0].name, 1)  # type: ignore[arg-type]


def test_what_may_answer_a_message_is_a_message() -> None:
    names = {cls.__name__ for cls in TYPES.values()}
    assert {answer for cls in TYPES.values() for answer in cls.answers} <= names


def test_no_number_is_given_twice() -> None:
    with pytest.raises(TypeError, match="Twice and Error have the number 0"):

        @base.message(0)
        class Twice(Message):
            request: int

    assert TYPES[0].__name__ == "Error"

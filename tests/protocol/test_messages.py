"""Promises of the messages: their bytes stay, and each is one line in a log."""

from __future__ import annotations

import copy
import dataclasses
import pickle
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
        with pytest.raises(AttributeError):
            delattr(message, dataclasses.fields(message)[0].name)  # type: ignore[arg-type]
        with pytest.raises(AttributeError):
            message.other = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_equals_its_copies_and_those_of_its_type_with_the_same_values_alone(message: Message) -> None:
    values = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}  # type: ignore[arg-type]
    assert type(message)(**values) == type(message)(*values.values()) == message
    assert copy.copy(message) == copy.deepcopy(message) == pickle.loads(pickle.dumps(message)) == message
    assert message != tuple(values.values())
    for name in values:
        assert type(message)(**{**values, name: "other"}) != message
    with pytest.raises(TypeError):
        type(message)(*values.values(), 1)


def test_messages_of_two_types_are_never_equal_and_those_that_are_equal_have_one_hash() -> None:
    push, partial = (cls for cls in TYPES.values() if cls.__name__ in ("Push", "PartialPush"))
    few = next(message for message in SAMPLES if type(message) is partial)
    values = [getattr(few, field.name) for field in dataclasses.fields(push)]  # type: ignore[arg-type]
    assert push(*values) != few != push(*values)
    assert hash(push(*values)) == hash(push(*values))


def test_what_has_a_default_may_be_left_out() -> None:
    for message in SAMPLES:
        declared = dataclasses.fields(message)  # type: ignore[arg-type]
        needed = {f.name: getattr(message, f.name) for f in declared if f.default is dataclasses.MISSING}
        made = type(message)(**needed)
        assert all(getattr(made, f.name) == f.default for f in declared if f.name not in needed)
        if needed:
            with pytest.raises(TypeError):
                type(message)(**dict(list(needed.items())[1:]))


def test_what_may_answer_a_message_is_a_message() -> None:
    names = {cls.__name__ for cls in TYPES.values()}
    assert {answer for cls in TYPES.values() for answer in cls.answers} <= names


def test_no_number_is_given_twice() -> None:
    with pytest.raises(TypeError, match="Twice and Error have the number 0"):

        @base.message(0)
        class Twice(Message):
            request: int

    assert TYPES[0].__name__ == "Error"

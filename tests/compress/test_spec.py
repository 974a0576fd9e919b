"""The text of a compression: what is read is what was meant, or an error says what to write."""

from __future__ import annotations

import pytest

from ps.compress import CODECS
from ps.errors import ConfigError


@pytest.mark.parametrize("name", CODECS)
def test_a_bare_name_is_a_whole_codec(name: str) -> None:
    spec = CODECS.parse(name)
    assert spec.build().max_bytes(1000, "float32") > 0
    assert CODECS.parse(str(spec)) == spec == CODECS.spec(name)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("none", "none"),
        (" int8 ", "int8"),
        ("topk:0.001", "topk:ratio=0.001,momentum=0.0,warmup=0"),
        ("topk:1e-2, warmup=400 ,momentum=.9", "topk:ratio=0.01,momentum=0.9,warmup=400"),
        ("topk:momentum=0.9", "topk:ratio=0.01,momentum=0.9,warmup=0"),
        ("randomk: 0.5", "randomk:ratio=0.5"),
        ("powersgd:2", "powersgd:rank=2,columns=0"),
        ("powersgd:columns=512,rank=8", "powersgd:rank=8,columns=512"),
    ],
)
def test_the_first_number_needs_no_key(text: str, canonical: str) -> None:
    spec = CODECS.parse(text)
    assert str(spec) == canonical
    assert CODECS.parse(canonical) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int4", "unknown compress 'int4'; did you mean 'int8'? there are bf16, fp16, int8, none, onebit"),
        ("", "unknown compress ''; there are"),
        ("topk:1%", "expected key=number after the colon, not '1%'"),
        ("topk:", "expected key=number after the colon, not ''"),
        ("topk:0.1,0.9", "expected key=number after the colon, not '0.9'"),
        ("topk:0.1,ratio=0.2", "ratio is given twice"),
        (
            "topk:0.1,momentun=0.9",
            "topk takes no 'momentun'; did you mean 'momentum'? it takes ratio, momentum, warmup",
        ),
        ("topk:0", "topk: ratio=0.0 must be a finite number above 0 and at most 1"),
        ("topk:nan", "ratio=nan must be a finite number"),
        ("randomk:2", "randomk: ratio=2.0 must be"),
        ("topk:0.1,momentum=1", "momentum=1.0 must be a finite number at least 0 and below 1"),
        ("topk:0.1,warmup=2.5", "warmup=2.5 must be a whole number"),
        ("powersgd:0", "rank=0.0 must be a whole number at least 1"),
        ("powersgd:1.5", "rank=1.5 must be a whole number"),
        ("fp16:16", "fp16 takes no numbers"),
        ("none:ratio=1", "none takes no numbers"),
    ],
)
def test_a_wrong_one_is_named_with_what_to_write_instead(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CODECS.parse(text)
    assert message in str(caught.value)


def test_a_spec_made_by_hand_is_checked_like_one_that_was_read() -> None:
    with pytest.raises(ConfigError, match="rank=0"):
        CODECS.spec("powersgd", (("rank", 0.0),))
    with pytest.raises(ConfigError, match="int8 takes no numbers"):
        CODECS.spec("int8", (("bits", 4.0),))

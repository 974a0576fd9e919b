"""Promises of protocol/README.md: its tables say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

import ps
from ps.errors import BadMessage, VersionMismatch
from ps.number import MOST_COMPARED
from ps.protocol import backlog, codec, fields, layout
from ps.protocol.error_codes import ERRORS, code_of
from ps.protocol.messages import TYPES, Elsewhere, Entries, Notes, Packed, View
from ps.protocol.messages.data import Rates, Sections
from ps.protocol.messages.leases import Runs
from ps.protocol.messages.pipeline import Lines, Used
from ps.protocol.messages.secure import Boxes, Keys, Offers, Rows, Signatures
from ps.protocol.messages.words import Defect, FailureCode, JobPhase, OrderPhase, Ruling, ShardPhase
from ps.server.scheduler import service

ROOT = Path(ps.__file__).parent.parent
README = (ROOT / "protocol" / "README.md").read_text(encoding="utf-8")
WORDS: dict[Any, str] = {
    get_type_hints(View, include_extras=True)["members"]: "members",
    Packed: "layout",
    Entries: "entries",
    Rates: "rates",
    Notes: "notes",
    Lines: "lines",
    Used: "used",
    Runs: "runs",
    Sections: "sections",
    Rows: "rows",
    Signatures: "rows",
    Offers: "offers",
    Keys: "keys",
    Boxes: "boxes",
    Elsewhere: "placed",
}


def word_of(kind: Any) -> str:
    """Return what the table calls a field's type; where words are meant that programs act on, it is some text."""
    if kind in WORDS:
        return WORDS[kind]
    plain, _ = fields.bare(kind)
    if fields.words_of(plain):
        return "str"
    if get_origin(plain) is dict:
        return "map"
    if get_origin(plain) is tuple:
        return f"[{word_of(get_args(plain)[0])}]"
    return str(plain.__name__)


def ranges() -> dict[str, str]:
    """Return what each range is called for, in the order of their first fields: those that have it."""
    kinds: dict[str, dict[str, str]] = {}
    for cls in TYPES.values():
        for name, kind in get_type_hints(cls, include_extras=True).items():
            if name in cls.__match_args__ and fields.bare(kind)[1] is not None:  # type: ignore[attr-defined]
                kinds.setdefault(name, {})[cls.__name__] = fields.words_for(kind)
    found: dict[str, list[str]] = {}
    for name, by_message in kinds.items():
        usual = max(by_message.values(), key=list(by_message.values()).count)
        found.setdefault(usual, []).append(name)
        for message, words in by_message.items():
            if words != usual:
                found.setdefault(words, []).append(f"{message}.{name}")
    return {words: ", ".join(names) for words, names in found.items()}


def table(heading: str, first: str) -> list[list[str]]:
    """Return the rows of the table under a heading whose first column has this name."""
    lines = README.split(f"{heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_message_table_is_complete_and_right() -> None:
    written = {int(row[0]): (row[1], row[2], row[4]) for row in table("## Messages", "number")}
    hints = {number: get_type_hints(cls, include_extras=True) for number, cls in TYPES.items()}
    coded = {
        number: (
            cls.__name__,
            ", ".join(f"{name} {word_of(hints[number][name])}" for name in cls.__match_args__),  # type: ignore[attr-defined]
            "yes" if cls.payload else "no",
        )
        for number, cls in TYPES.items()
    }
    assert written == coded


def test_every_range_is_written_as_it_is_declared() -> None:
    assert {row[1]: row[0] for row in table("### Ranges", "fields")} == ranges()


def test_what_may_answer_is_written_as_it_is_coded() -> None:
    written = {
        row[1]: {*re.findall(r"\b[A-Z][A-Za-z]+\b", row[6])} - {"Error"} for row in table("## Messages", "number")
    }
    coded = {cls.__name__: {*cls.answers} for cls in TYPES.values() if cls.answers}
    for like in ("Skip", "PartialPush", "Veto"):
        assert written[like] == {"Push"}, "it is like Push"
        written[like] = written["Push"]
    assert written | coded == written


def test_every_answer_named_is_a_message() -> None:
    names = {cls.__name__ for cls in TYPES.values()}
    for row in table("## Messages", "number"):
        assert set(re.findall(r"\b[A-Z][A-Za-z]+\b", row[6])) <= names


def test_every_error_code_is_explained() -> None:
    sources = [*(ROOT / "server").rglob("*.py"), *(ROOT / "protocol").rglob("*.py")]
    said = {
        code
        for path in sources
        for code in re.findall(r'Error\((?:getattr\([^)]*\)|[^",\n]*), "([a-z-]+)"', path.read_text())
    }
    explained = {row[0].strip("`") for row in table("### Error codes", "code")}
    assert said - {"bad-message", "version"} == explained - {"bad-message", "version"}
    assert {code_of(BadMessage()), code_of(VersionMismatch())} <= explained


@pytest.mark.parametrize("words", [JobPhase, FailureCode, OrderPhase, ShardPhase, Defect, Ruling])
def test_every_word_that_programs_act_on_is_written_down(words: Any) -> None:
    named = set(re.findall(r"[a-z]+(?:-[a-z]+)*", README))
    words = get_args(words)[0] if get_origin(words) is Annotated else words
    assert fields.words_of(words) - {""} <= named


def test_every_reason_for_which_a_job_fails_is_explained_and_raised_as_something() -> None:
    folder = ROOT / "server" / "scheduler"
    said = (folder / "state.py").read_text() + (folder / "moving.py").read_text()
    codes = set(re.findall(r'"failed",\s*"([a-z-]+)"', said))
    codes |= set(re.findall(r'return "([a-z-]+)", ', (folder / "absence.py").read_text()))
    explained = README.split("Why it failed is in", 1)[1].split("Otherwise both are empty", 1)[0]
    assert codes == set(re.findall(r"`([a-z-]+)` \(", explained))
    assert codes <= ERRORS.keys()


def test_the_limits_are_those_of_the_code() -> None:
    rows = dict(row[:2] for row in table("### Limits", "what"))
    large = ", ".join(sorted(cls.__name__ for cls in TYPES.values() if cls.large))
    assert rows["a frame"] == f"{codec.MAX_FRAME >> 20} MiB, to the scheduler {service.LONGEST >> 20} MiB"
    assert rows["what is not taken yet"] == f"{backlog.MOST_GROWN >> 20} MiB by which memory grows"
    assert rows["contributions whose distances are measured"] == str(MOST_COMPARED)
    large_row = next(row for row in rows if row.startswith("header of"))
    assert ", ".join(sorted(re.findall(r"[A-Z]\w+", large_row))) == large
    assert rows[large_row] == f"{codec.MAX_HEADER >> 20} MiB"
    assert rows["any other header"] == f"{codec.MAX_SMALL_HEADER >> 10} KiB"
    assert f"{layout.MAX_TENSORS:,} tensors" in rows["a model"]
    assert layout.MAX_CHUNKS == 1 << 20
    assert layout.MAX_BYTES == 1 << 40
    assert f"at most {fields.MAX_NESTED} elements" in README
    assert f"at most {fields.MAX_DEPTH} levels" in README
    assert layout.FINE * layout.ALIGN == 12800


def test_the_worked_example_is_what_the_code_computes() -> None:
    model = layout.Layout.unpack((("w", "float32", (1000, 100)), ("b", "float64", (10,))))
    cut = [[c.index, c.server, c.dtype, c.start, c.stop, c.offset] for c in model.chunks(2, 131072)]
    assert [[str(cell) for cell in row] for row in cut] == table("## Layout, buffer and chunks", "chunk")
    assert f"The buffer has {model.nbytes:,} bytes" in README


def test_the_example_bytes_are_those_of_a_ping() -> None:
    from ps.protocol.messages import Ping

    assert f"Ping with request 7 is `{codec.encode(Ping(7)).hex(' ')}`" in README


def test_the_version_in_the_title_is_the_codes() -> None:
    assert README.startswith(f"# The wire protocol, version {codec.VERSION}\n")

"""Promises of the page: it needs nothing else, shows everything, escapes everything, and can be read by anybody."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from ps.compare import page as page_module
from ps.compare.look import COLOURS, LOOKS
from ps.compare.page import page
from ps.compare.show import show
from support.made import report

LIBRARY = "/* what draws */"
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
VOID = ("meta", "br", "link", "img")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def text(found: dict[str, Any]) -> str:
    return page(found, LIBRARY)


def figures_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    drawn: dict[str, Any] = json.loads(found[1])
    return drawn


@pytest.fixture(scope="module")
def drawn(text: str) -> dict[str, Any]:
    return figures_of(text)


class Reader(HTMLParser):
    """Collects what is visible, what elements refer to, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
                self.sources.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open):
            self.words.append(data)


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a report with its name; one that is a label's count has none."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from numbers(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value


def test_every_number_of_the_report_is_shown(found: dict[str, Any], text: str) -> None:
    words = Reader(text).words
    cells = set(words)
    whole = " ".join(words)
    for key, value in numbers(found):
        shown = show(key, value, found["metric"])
        assert shown in cells or re.search(rf"(?<![\d.,]){re.escape(shown)}(?![\d])", whole), (key, value, shown)


def test_every_title_command_and_note_is_shown(found: dict[str, Any], text: str) -> None:
    whole = " ".join(Reader(text).words)
    for run in (*found["runs"], *found["dropouts"]):
        assert run["title"] in whole
        assert run["command"] in whole
        assert all(line in whole for line in run["tail"])
    assert all(note in whole for note in found["notes"])


def test_a_script_is_written_as_it_would_be_typed(found: dict[str, Any]) -> None:
    words = Reader(page({**found, "script": "-m package.train", "args": ["--name", "a b"]}, LIBRARY)).words
    assert "-m package.train --name 'a b'" in words


def test_it_needs_nothing_from_elsewhere_and_runs_no_other_script(text: str) -> None:
    assert Reader(text).sources == []
    assert not re.search(r"https?:|//\w|@import|url\(|<link|<img|<iframe", text)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:" in policy[1]
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in SCRIPT.findall(text)]
    assert len(digests) == 2
    assert policy[1].endswith("script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))


def test_no_library_can_end_the_element_that_it_stands_in(found: dict[str, Any]) -> None:
    text = page(found, "x = '</script><!-- <script>';")
    assert text.count("</script") == 3 and "<!--" not in text


def test_each_figure_has_one_place_that_says_what_it_shows(text: str, drawn: dict[str, Any]) -> None:
    places = re.findall(r'<div id="([\w-]+)" role="img" aria-label="[^"]{10,}"></div>', text)
    assert places == list(drawn)
    assert len(drawn) == 3 + 2 + 2 + 2  # curves, traffic, holdings, drop-outs
    ids = Reader(text).ids
    assert len(ids) == len(set(ids))


def test_each_curve_has_a_line_with_a_dash_or_marker_of_its_own(found: dict[str, Any], drawn: dict[str, Any]) -> None:
    runs = [run for run in found["runs"] if run["curve"]]
    for key in ("clock", "examples", "bytes"):
        lines = drawn[f"curve-{key}"]["data"]
        assert [line["name"] for line in lines] == [run["title"] for run in runs]
        for line, run in zip(lines, runs, strict=True):
            if run["curve"][-1][key]:
                assert line["x"] == [one[key] for one in run["curve"]]
                assert line["y"] == pytest.approx([1 - one["value"] for one in run["curve"]])
                assert f"<b>{show('value', run['curve'][-1]['value'])}</b>" in line["text"][-1]
    assert drawn["curve-clock"]["layout"]["yaxis"]["ticktext"][:2] == ["0 %", "50 %"]
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_a_metric_that_is_no_accuracy_is_drawn_as_it_is(found: dict[str, Any]) -> None:
    lines = figures_of(page({**found, "metric": "loss"}, LIBRARY))["curve-examples"]["data"]
    assert lines[0]["y"] == [one["value"] for one in found["runs"][0]["curve"]]


def test_a_run_without_traffic_is_a_level_over_bytes(found: dict[str, Any], drawn: dict[str, Any]) -> None:
    level, *others = drawn["curve-bytes"]["data"]
    assert len(level["x"]) == 2 and level["y"] == [level["y"][0]] * 2
    assert level["y"][0] == pytest.approx(1 - found["runs"][0]["final"])
    assert level["x"][1] == max(line["x"][-1] for line in others)


def test_bars_and_grids_have_the_reports_numbers(found: dict[str, Any], drawn: dict[str, Any]) -> None:
    runs = [run for run in found["runs"] if run["per_participant"]]
    up, down = drawn["totals"]["data"]
    assert (up["x"], down["x"]) == ([run["bytes_up"] for run in runs], [run["bytes_down"] for run in runs])
    mean = drawn["traffic"]["data"][0]
    for i, run in enumerate(runs):
        moved = [one["bytes_up"] for one in run["per_participant"]]
        assert mean["x"][i] + mean["error_x"]["array"][i] == pytest.approx(max(moved))
        assert mean["x"][i] - mean["error_x"]["arrayminus"][i] == pytest.approx(min(moved))
    for run in (run for run in runs if run["shares"]):
        (grid,) = drawn[f"holdings-{run['name']}"]["data"]
        assert grid["zmin"] == 0
        for row, rank, share in zip(grid["z"], grid["y"], run["shares"], strict=True):
            assert rank == str(share["rank"])
            assert {label: n for label, n in zip(grid["x"], row, strict=True) if n} == share["labels"]


def test_drop_outs_show_both_ends_of_each_run(found: dict[str, Any], drawn: dict[str, Any]) -> None:
    for run, row in zip(found["dropouts"], drawn["dropouts"]["data"], strict=True):
        assert row["x"] == [run["without"], run["final"]]
        assert row["marker"]["symbol"] == ["circle-open", "circle"]
    lines = max(row["y"][0].count("<br>") + 1 for row in drawn["dropouts"]["data"])
    assert drawn["dropouts"]["layout"]["height"] - 70 >= 18 * lines * len(found["dropouts"]), (
        "names stand on each other"
    )
    for run, row in zip(found["dropouts"], drawn["times"]["data"], strict=True):
        assert row["x"] == [run["wall_without_s"], run["wall_s"] if run["finished"] else None]


def test_it_follows_the_readers_theme_and_width(text: str) -> None:
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@media (prefers-color-scheme:dark)" in style
    assert "@media (max-width: 40rem)" in style
    assert 'name="viewport" content="width=device-width,initial-scale=1"' in text
    used = set(re.findall(r"var\((--[\w-]+)\)", text)) - {"--run"}
    light, dark = style.split("@media (prefers-color-scheme:dark)")
    assert all(f"{name}:" in light for name in used)
    assert all(f"{name}:" in dark.split("@media print")[0] for name in used)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1])
def test_every_line_stands_out_from_the_page(theme: int) -> None:
    page_light = luminance(COLOURS["page"][theme])
    for look in LOOKS.values():
        own = luminance((look.light, look.dark)[theme])
        brighter, darker = max(own, page_light), min(own, page_light)
        assert (brighter + 0.05) / (darker + 0.05) >= 3  # WCAG 2, for graphics


def test_what_a_script_prints_cannot_become_markup(found: dict[str, Any]) -> None:
    bad = "<script>alert(1)</script>\"'&<b>"
    shares = [{"rank": 0, "labels": {bad: 3}}]
    run = {**found["runs"][4], "tail": [bad], "why": bad, "title": bad, "command": bad, "shares": shares}
    text = page({**found, "script": bad, "runs": [*found["runs"][:4], run], "notes": [bad]}, LIBRARY)
    assert text.count("<script") == 3
    assert "".join(Reader(text).words).count(bad) >= 5
    drawn = figures_of(text)  # whose texts Plotly takes for markup
    (grid,) = drawn[f"holdings-{run['name']}"]["data"]
    assert grid["x"] == ["&lt;script&gt;alert(1)&lt;/script&gt;\"'&amp;&lt;b&gt;"]
    assert bad not in json.dumps(drawn, ensure_ascii=False).replace('\\"', '"')


def test_there_is_a_page_when_nothing_came_of_anything(found: dict[str, Any]) -> None:
    empty = {"final": None, "curve": [], "per_participant": [], "shares": [], "spread": {}, "refused": {}, "metric": ""}
    runs = [{**run, **empty, "ended": "failed", "status": 2} for run in found["runs"]]
    text = page({**found, "runs": runs, "dropouts": []}, LIBRARY)
    assert "No run has evaluated anything." in text and "No run has recorded a step." in text
    assert figures_of(text) == {}
    Reader(text)


def test_the_library_is_there_whole_and_loads_nothing(found: dict[str, Any]) -> None:
    pytest.importorskip("plotly")
    assert page_module.has_library()
    text = page(found, page_module.library())
    library = SCRIPT.findall(text)[0]
    assert "plotly.js v" in library[:1000] and len(text) < 6_000_000
    assert Reader(text).sources == []
    assert "http" not in text.replace(library, "").replace("http-equiv", "")

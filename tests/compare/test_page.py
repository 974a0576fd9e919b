"""Promises of the page: it needs nothing else, shows everything, escapes everything, and can be read by anybody."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from made import report

from ps.compare.look import BACKGROUND, LOOKS
from ps.compare.page import page
from ps.compare.show import show

SVG = re.compile(r"<svg.*?</svg>", re.DOTALL)
VOID = ("meta", "br", "link", "img")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return report(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def text(found: dict[str, Any]) -> str:
    return page(found)


class Reader(HTMLParser):
    """Collects what is visible, what elements refer to, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []
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
            if name == "aria-labelledby":
                self.refers += (value or "").split()
            if name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
                self.sources.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
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


def test_it_needs_nothing_from_elsewhere(text: str) -> None:
    assert Reader(text).sources == []
    assert not re.search(r"https?:|//\w|@import|url\(|<script|<link|<img|<iframe", text)
    assert "default-src 'none'; style-src 'unsafe-inline'" in text


def test_pictures_are_well_formed_and_say_what_they_show(text: str) -> None:
    drawn = [ET.fromstring(svg) for svg in SVG.findall(text)]
    shown = [svg for svg in drawn if svg.get("aria-hidden") is None]
    assert len(shown) == 3 + 2 + 4 + 2 + 2  # curves, traffic, sketches, holdings, drop-outs
    for svg in shown:
        assert svg.get("role") == "img"
        title = svg.find("title")
        assert title is not None
        assert title.text
        assert title.get("id") in (svg.get("aria-labelledby") or "").split()


def test_ids_are_unique_and_every_reference_leads_to_one(text: str) -> None:
    read = Reader(text)
    assert len(read.ids) == len(set(read.ids))
    assert set(read.refers) <= set(read.ids)


def test_nothing_is_drawn_outside_its_picture(text: str) -> None:
    for svg in map(ET.fromstring, SVG.findall(text)):
        _, _, width, height = map(float, (svg.get("viewBox") or "").split())
        for element in svg.iter():
            for key, limit in (
                ("x", width),
                ("x1", width),
                ("x2", width),
                ("cx", width),
                ("y", height),
                ("cy", height),
            ):
                assert 0 <= float(element.get(key, 0)) <= limit, (element.tag, element.attrib)
            for x, y in re.findall(r"([-\d.]+),([-\d.]+)", element.get("points", "")):
                assert 0 <= float(x) <= width
                assert 0 <= float(y) <= height


def test_each_curve_has_a_line_with_a_dash_or_marker_of_its_own(found: dict[str, Any], text: str) -> None:
    plot = next(svg for svg in SVG.findall(text) if "plot-examples-title" in svg)
    assert len(ET.fromstring(plot).findall("polyline")) == len([run for run in found["runs"] if run["curve"]])
    assert len({look.marker for look in LOOKS.values()}) == len(LOOKS)


def test_a_run_without_traffic_is_a_level_over_bytes(text: str) -> None:
    plot = ET.fromstring(next(svg for svg in SVG.findall(text) if "plot-bytes-title" in svg))
    levels = [line for line in plot.findall("line") if line.get("stroke") == "var(--centralized)"]
    assert len(levels) == 1
    assert levels[0].get("y1") == levels[0].get("y2")


def test_it_follows_the_readers_theme_and_width(text: str) -> None:
    style = text[text.index("<style>") : text.index("</style>")]
    assert "@media (prefers-color-scheme:dark)" in style
    assert "@media (max-width:40rem)" in style
    assert 'name="viewport" content="width=device-width,initial-scale=1"' in text
    used = set(re.findall(r"var\((--[\w-]+)\)", text)) - {"--run"}
    light, dark = style.split("@media (prefers-color-scheme:dark)")
    assert all(f"{name}:" in light for name in used)
    assert all(f"{name}:" in dark.split("@media print")[0] for name in used)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_line_stands_out_from_the_page(theme: str) -> None:
    page_light = luminance(BACKGROUND[theme])
    for look in LOOKS.values():
        own = luminance(look.light if theme == "light" else look.dark)
        brighter, darker = max(own, page_light), min(own, page_light)
        assert (brighter + 0.05) / (darker + 0.05) >= 3  # WCAG 2, for graphics


def test_what_a_script_prints_cannot_become_markup(found: dict[str, Any]) -> None:
    bad = "<script>alert(1)</script>\"'&"
    run = {**found["runs"][3], "tail": [bad], "why": bad, "title": bad, "command": bad}
    text = page({**found, "script": bad, "runs": [*found["runs"][:3], run], "notes": [bad]})
    assert "<script" not in text
    assert "".join(Reader(text).words).count(bad) >= 5


def test_there_is_a_page_when_nothing_came_of_anything(found: dict[str, Any]) -> None:
    empty = {"final": None, "curve": [], "per_participant": [], "shares": [], "spread": {}, "refused": {}, "metric": ""}
    runs = [{**run, **empty, "ended": "failed", "status": 2} for run in found["runs"]]
    text = page({**found, "runs": runs, "dropouts": []})
    assert "No run has evaluated anything." in text
    Reader(text)

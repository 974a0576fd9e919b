"""Page: the report as one HTML file that needs nothing else: no scripts, no fonts, no pictures from anywhere."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ps.compare import sections
from ps.compare.css import STYLE
from ps.compare.dropped import dropouts
from ps.compare.markup import Markup, details, join, table, tag
from ps.compare.show import show

SAFE = "default-src 'none'; style-src 'unsafe-inline'"
"""The page may not load anything, whatever a script's name or a run's last lines would have it do."""


def page(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    title = f"{report['script']}: one script, compared"
    body = tag(
        "body",
        _head(report),
        tag(
            "main",
            sections.results(report),
            sections.curves(report),
            sections.numbers(report),
            sections.traffic(report),
            sections.data(report),
            dropouts(report),
            sections.differences(report),
            sections.failures(report),
            _commands(report),
        ),
        _foot(report),
    )
    head = join(
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{SAFE}"><meta name="color-scheme" '),
        Markup('content="light dark">'),
        tag("title", title),
        Markup(f"<style>{STYLE}</style>"),
    )
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head.text}</head>\n{body.text}</html>\n'


def _head(report: Mapping[str, Any]) -> Markup:
    script = shlex.join([report["script"], *report["args"]])
    count = len({run["paradigm"] for run in report["runs"]})
    how = {1: "one paradigm", 2: "two paradigms", 3: "three paradigms"}[count] if count else "nothing"
    return tag(
        "header",
        tag("h1", f"One script, {how}"),
        tag("p", tag("code", script), " run in each of them on one machine, and what came of it.", class_="lead"),
    )


def _commands(report: Mapping[str, Any]) -> Markup:
    runs = [*report["runs"], *report["dropouts"]]
    rows = ((run["name"], tag("code", run["command"] or "not run")) for run in runs)
    listed = table(("run", "command"), rows, "Each run by itself", numbers_from=9)
    return tag("section", tag("h2", "The commands"), details("Show how each run was started", listed))


def _foot(report: Mapping[str, Any]) -> Markup:
    facts = [f"{key} {show(key, value)}" for key, value in report["machine"].items()]
    facts += [f"seed {show('seed', report['seed'])}", f"at most {show('timeout_s', report['timeout_s'])} a run"]
    if report["drop"] is not None:
        facts.append(f"{show('drop', report['drop'])} of a federation's clients drop out")
    facts.append(f"report format {show('format', report['format'])}")
    return tag("footer", tag("p", " · ".join(facts)))

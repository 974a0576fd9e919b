"""Page: the report as one HTML file with all it needs inside it, Plotly's script too, which draws the figures.

Plotly was taken of three that people know, for the page it makes: hover, zoom and names that can be switched off, from
figures that are plain dicts, so that nothing of it is needed here but its script. That costs 4.8 MB a page. Bokeh's
script has 1.3 MB, but its figures are objects of a package with eight others behind it, whose colours are fixed when
they are made; Vega-Lite's has 0.9 MB, out of a binary wheel of 33 MB, and it evaluates expressions as code.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import shlex
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ps.compare import sections
from ps.compare.look import themes
from ps.compare.markup import Markup, details, join, table, tag
from ps.compare.show import show

SAFE = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:"
"""The page loads nothing, and runs the two scripts it was made with, whatever a run's last lines would have it do."""

ADVICE = "report.html is drawn by plotly, which is not installed. Try: pip install plotly"


def has_library() -> bool:
    """Whether there is what draws the figures."""
    return importlib.util.find_spec("plotly") is not None


def library() -> str:
    """Return Plotly's script, whole."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def page(report: Mapping[str, Any], library: str) -> str:
    """Return the page of a report; ``library`` is the script that draws its figures."""
    drawn: sections.Figures = {}
    title = f"{report['script']}: one script, compared"
    body = tag(
        "body",
        _head(report),
        tag(
            "main",
            sections.results(report),
            sections.curves(report, drawn),
            sections.numbers(report),
            sections.traffic(report, drawn),
            sections.data(report, drawn),
            sections.dropouts(report, drawn),
            sections.differences(report),
            sections.failures(report),
            _commands(report),
        ),
        _foot(report),
    )
    scripts = [closed(library), closed(_read("page.js"))]
    sources = " ".join(f"'sha256-{digest(script)}'" for script in scripts)
    head = join(
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{SAFE}; script-src {sources}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        Markup(f"<style>{_style()}</style>"),
    )
    data = json.dumps(drawn, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    foot = f'<script type="application/json" id="figures">{data}</script>\n' + "".join(
        f"<script>{script}</script>\n" for script in scripts
    )
    body_text = body.text.removesuffix("</body>")
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head.text}</head>\n{body_text}{foot}</body></html>\n'


def _style() -> str:
    return f"{themes()}\n{_read('page.css')}"


def _read(name: str) -> str:
    return resources.files("ps.compare").joinpath(name).read_text(encoding="utf-8")


def closed(script: str) -> str:
    """Return a script in which nothing ends the element that it stands in."""
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def digest(script: str) -> str:
    """Return by what a content security policy knows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _head(report: Mapping[str, Any]) -> Markup:
    script = " ".join((report["script"], shlex.join(report["args"]))).rstrip()  # which is quoted already
    count = len({run["paradigm"] for run in report["runs"]})
    how = ("nothing", "one paradigm", "two paradigms", "three paradigms", "four paradigms")[count]
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

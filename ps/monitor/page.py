"""The live page: one HTML file with all it needs inside it. What it shows it asks for once a second."""

from __future__ import annotations

from importlib import resources

from ps.compare.look import themes
from ps.compare.markup import Markup, join, tag
from ps.compare.page import closed, digest, library

SAFE = "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; connect-src 'self'; base-uri 'none'"
"""The page asks only whoever it came from, and runs the two scripts it was made with."""


def page() -> str:
    """Return the page, with Plotly's script in it."""
    scripts = [closed(library()), closed(_read("page.js"))]
    sources = " ".join(f"'sha256-{digest(script)}'" for script in scripts)
    head = join(
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{SAFE}; script-src {sources}">'),
        Markup('<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'),
        tag("title", "psctl"),
        Markup(f"<style>{themes()}\n{_read('page.css')}</style>"),
    )
    body = _body().text
    ends = "".join(f"<script>{script}</script>\n" for script in scripts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head.text}</head>\n<body>{body}{ends}</body></html>\n'


def _body() -> Markup:
    """Return what is filled by page.js, by ids."""
    header = tag(
        "header",
        tag(
            "div",
            tag("h1", "psctl", id="title"),
            tag("span", "…", id="phase", class_="pill"),
            tag("span", "asks for news", id="news", class_="news", role="status", aria_live="polite"),
            class_="top",
        ),
        tag("div", tag("div", id="bar"), class_="bar", id="progress", role="progressbar", aria_label="how far it is"),
        tag("p", id="where", class_="lead"),
        tag("p", id="facts", class_="soft"),
        tag("p", id="trouble", class_="bad"),
    )
    return join(
        header,
        tag(
            "main",
            tag("ul", id="tiles", class_="tiles"),
            tag("section", tag("h2", "Now"), tag("ul", id="notes", class_="notes"), id="notes-section", hidden=""),
            tag("section", tag("div", id="plots", class_="plots"), id="plots-section"),
            tag("section", id="rounds", hidden=""),
            tag(
                "section",
                tag("h2", "Members"),
                tag("p", id="members-note", class_="soft"),
                tag("div", id="members", class_="scroll", tabindex="0", role="region", aria_label="Members"),
            ),
            tag("section", tag("h2", "Deaths"), tag("ul", id="deaths", class_="notes"), id="deaths-section", hidden=""),
            tag("section", tag("h2", "Settings"), tag("dl", id="settings"), id="settings-section"),
        ),
        tag("footer", tag("p", id="foot")),
    )


def _read(name: str) -> str:
    return resources.files("ps.monitor").joinpath(name).read_text(encoding="utf-8")

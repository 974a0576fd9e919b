"""The page's figures as Plotly draws them: plain dicts of data and layout, from the report alone.

Colours are CSS variables, which page.js looks up in the reader's theme. Every text is escaped: Plotly reads markup.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ps.compare.look import LOOKS, ink
from ps.compare.show import mark, show
from ps.compare.table import verdict

Figure = dict[str, Any]
Run = Mapping[str, Any]

FAR = 8.0
"""Series whose ends are so many times apart share a logarithmic axis: on a linear one the short ones would vanish."""
HIGH = 0.9
"""Accuracies beyond this are drawn on an axis by their error."""
ERRORS = tuple(factor / 10.0**power for power in range(1, 7) for factor in (10, 5, 2))
LEAST_ERROR = 1e-6
LEAST_CHANGE = 0.1
"""What the axis of drop-outs spans of an accuracy, at least: smaller changes are mostly chance, and look small."""
MARKERS = 9
ROW = 46


def by_error(runs: Sequence[Run], metric: str) -> bool:
    """Whether curves are drawn by what is missing to 1: most of the range would be taken by the beginning."""
    values = [one["value"] for run in runs for one in run["curve"]]
    return metric == "accuracy" and max(values) > HIGH and min(values) >= 0


def curve(runs: Sequence[Run], metric: str, key: str, title: str) -> Figure:
    """Return the metric of each run over clock, examples or bytes; a run that moves none is a level at its last."""
    missing = by_error(runs, metric)
    ends = [run["curve"][-1][key] for run in runs if run["curve"][-1][key] > 0]
    far = bool(ends) and max(ends) >= FAR * min(ends)
    starts = [one[key] for run in runs for one in run["curve"] if one[key] > 0]
    data = []
    for run in runs:
        points = [one for one in run["curve"] if one[key] > 0 or not far]
        level = not run["curve"][-1][key]
        xs = [one[key] for one in points]
        if level:
            points = [run["curve"][-1]] * 2
            xs = [min(starts) if far else 0, max(ends)] if ends else [0, 1]
        look = LOOKS[run["name"]]
        shown = [max(1 - one["value"], LEAST_ERROR) if missing else one["value"] for one in points]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": _text(run["title"]),
                "x": xs,
                "y": shown,
                "text": [_point(one, metric) for one in points],
                "hovertemplate": "%{text}",
                "line": {"color": ink(run["name"]), "dash": look.dash, "width": 2},
                "marker": {"symbol": look.marker, "size": 7, "maxdisplayed": MARKERS},
            }
        )
    layout = _layout(360, legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"})
    layout["margin"]["b"] = 118
    layout["xaxis"] |= {
        "title": _title(f"{title} (logarithmic)" if far else title),
        "type": "log" if far else "linear",
        "tickformat": "~s",
        "ticksuffix": "B" if key == "bytes" else "",
    }
    if far:
        layout["xaxis"]["dtick"] = 1
    else:
        layout["xaxis"]["rangemode"] = "tozero"
    if missing:
        ticks = {"tickvals": list(ERRORS), "ticktext": [mark(metric)(1 - error) for error in ERRORS]}
        layout["yaxis"] |= {"type": "log", "autorange": "reversed", **ticks}
    elif metric == "accuracy":
        layout["yaxis"]["tickformat"] = ".0%"
    return {"data": data, "layout": layout}


def traffic(runs: Sequence[Run]) -> Figure:
    """Return bytes up and down of a participant: the mean as a bar, a whisker from the least to the most."""
    data = []
    for key, way, opacity in (("bytes_up", "up", 1.0), ("bytes_down", "down", 0.4)):
        moved = [[one[key] for one in run["per_participant"]] for run in runs]
        means = [fmean(values) for values in moved]
        bars = _bars(runs, means, way, opacity)
        more = [max(values) - mean for values, mean in zip(moved, means, strict=True)]
        less = [mean - min(values) for values, mean in zip(moved, means, strict=True)]
        whiskers = {"type": "data", "symmetric": False, "array": more, "arrayminus": less, "thickness": 1.2, "width": 4}
        data.append({**bars, "error_x": {**whiskers, "color": ink("ink")}})
    return {"data": data, "layout": _rows(len(runs), barmode="group")}


def totals(runs: Sequence[Run]) -> Figure:
    """Return bytes up and down of all participants together."""
    ways = (("bytes_up", "up", 1.0), ("bytes_down", "down", 0.4))
    data = [_bars(runs, [run[key] for run in runs], way, opacity) for key, way, opacity in ways]
    return {"data": data, "layout": _rows(len(runs), barmode="group")}


def holdings(run: Run, labels: Sequence[str]) -> Figure:
    """Return how many examples of each label every client holds: a row for each client, the darker the more."""
    counts = [[one["labels"].get(label, 0) for label in labels] for one in run["shares"]]
    layout = _layout(max(150, min(520, 70 + 20 * len(counts))))
    layout["xaxis"] |= {"type": "category", "title": _title("label"), "showgrid": False}
    layout["yaxis"] |= {"type": "category", "title": _title("client"), "autorange": "reversed", "showgrid": False}
    heat = {
        "type": "heatmap",
        "z": counts,
        "zmin": 0,
        "zmax": max((max(row) for row in counts if row), default=1),
        "x": [_text(label) for label in labels],
        "y": [str(one["rank"]) for one in run["shares"]],
        "xgap": 1 if len(labels) < 50 else 0,
        "ygap": 1 if len(counts) < 50 else 0,
        "colorscale": [[0, ink("card")], [1, ink(run["name"])]],
        "colorbar": {"thickness": 10, "outlinewidth": 0},
        "hovertemplate": "client %{y}, label %{x}: %{z}<extra></extra>",
    }
    return {"data": [heat], "layout": layout}


def shifts(runs: Sequence[Run], metric: str) -> Figure:
    """Return each run's metric without drop-outs (hollow) and with them (filled)."""
    ends = [(run["without"], run["final"]) for run in runs]
    found = _dumbbells(runs, ends, lambda value: show("final", value, metric))
    if metric == "accuracy":
        found["layout"]["xaxis"] |= {"tickformat": "~%", "range": _span([v for pair in ends for v in pair])}
    return found


def times(runs: Sequence[Run]) -> Figure:
    """Return each run's wall time without and with drop-outs, where there is an end to compare."""
    ends = [(run["wall_without_s"], run["wall_s"] if run["finished"] else None) for run in runs]
    found = _dumbbells(runs, ends, lambda value: show("wall_s", value))
    found["layout"]["xaxis"] |= {"ticksuffix": " s", "rangemode": "tozero"}
    return found


def _dumbbells(
    runs: Sequence[Run], ends: Sequence[tuple[float | None, float | None]], words: Callable[[float], str]
) -> Figure:
    data = []
    for run, pair in zip(runs, ends, strict=True):
        kinds = ("without drop-outs", "with them")
        told = ["" if at is None else f"{words(at)} {kind}" for at, kind in zip(pair, kinds, strict=True)]
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": _text(run["title"]),
                "x": list(pair),
                "y": [f"{_label(run)}<br><i>{_text(_fate(run))}</i>"] * 2,
                "text": told,
                "hovertemplate": "%{text}",
                "line": {"color": ink(run["of"]), "width": 3},
                "marker": {"symbol": ["circle-open", "circle"], "size": 12, "opacity": 1, "line": {"width": 2}},
            }
        )
    return {"data": data, "layout": _rows(len(runs), 58)}


def _span(values: Sequence[float | None]) -> list[float]:
    """Return the ends of an axis of accuracies, with some room, at least ``LEAST_CHANGE`` apart."""
    there = [value for value in values if value is not None] or [0.0, 1.0]
    low, high = min(there), max(there)
    room = max(0.05 * (high - low), (LEAST_CHANGE - (high - low)) / 2)
    return [max(low - room, -0.01), min(high + room, 1.01)]


def _fate(run: Run) -> str:
    return "nobody killed" if not run["killed"] and run["finished"] else verdict(run)


def _bars(runs: Sequence[Run], values: Sequence[float], way: str, opacity: float) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": way,
        "x": list(values),
        "y": [_label(run) for run in runs],
        "text": [f"{show('bytes', value)} {way}" for value in values],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": [ink(run["name"]) for run in runs], "opacity": opacity},
    }


def _rows(count: int, row: int = ROW, **more: Any) -> dict[str, Any]:
    layout = _layout(70 + row * count, showlegend=False, **more)
    layout["yaxis"] |= {"type": "category", "autorange": "reversed", "showgrid": False, "ticksuffix": "  "}
    layout["xaxis"] |= {"nticks": 6, "zeroline": True}
    if "barmode" in more:
        layout["xaxis"] |= {"tickformat": "~s", "ticksuffix": "B"}
    return layout


def _layout(height: int, **more: Any) -> dict[str, Any]:
    axis = {
        "automargin": True,
        "gridcolor": ink("edge"),
        "zerolinecolor": ink("edge"),
        "linecolor": ink("edge"),
        "tickfont": {"color": ink("soft"), "size": 11},
    }
    return {
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 30, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": ink("ink"), "family": 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif', "size": 12},
        "hoverlabel": {"bgcolor": ink("card"), "bordercolor": ink("edge"), "font": {"color": ink("ink")}},
        "modebar": {"color": ink("soft"), "activecolor": ink("ink"), "bgcolor": "rgba(0,0,0,0)"},
        "hovermode": "closest",
        "uirevision": "kept",
        "xaxis": dict(axis),
        "yaxis": dict(axis),
        **more,
    }


def _title(words: str) -> dict[str, Any]:
    return {"text": words, "font": {"color": ink("soft"), "size": 12}}


def _point(one: Mapping[str, Any], metric: str) -> str:
    counts = f"step or round {show('clock', one['clock'])}<br>{show('examples', one['examples'])} examples"
    return f"<b>{show('value', one['value'], metric)}</b><br>{counts}<br>{show('bytes', one['bytes'])}"


def _label(run: Run) -> str:
    """Return a run's title, broken where it has a comma: there is not much room beside the bars."""
    return _text(run["title"]).replace(", ", ",<br>")


def _text(words: str) -> str:
    return html.escape(str(words), quote=False)

"""The sections of the page, each from the report alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from ps.compare.bars import Pair, pairs
from ps.compare.look import swatch
from ps.compare.markup import Markup, Node, details, table, tag
from ps.compare.picture import holdings, labels_of, sketch, spread_words
from ps.compare.plot import Axis, Line, plot
from ps.compare.scale import Scale, around, by_error
from ps.compare.show import mark, show
from ps.compare.table import ending

Report = Mapping[str, Any]

HIGH = 0.9
"""Accuracies beyond this are drawn on an axis by their error."""


def results(report: Report) -> Markup:
    """Return a tile for each run, with its final value."""
    return tag("ul", *(_tile(run, report["metric"]) for run in report["runs"]), class_="tiles")


def numbers(report: Report) -> Markup:
    """Return a row for each run: its totals over all participants, and how it ended."""
    metric = report["metric"]
    columns = (
        ("participants", "participants"),
        ("final", metric),
        ("wall_s", "wall time"),
        ("train_s", "train time"),
        ("examples", "examples"),
        ("bytes_up", "bytes up"),
        ("bytes_down", "bytes down"),
    )
    rows = [
        [run["title"], *(show(key, run[key], metric) for key, _ in columns), *_update(run), _ending(run)]
        for run in report["runs"]
    ]
    titles = [title for _, title in columns]
    head = ("run", *titles, "updates", "contributions each", "examples each", "ended")
    caption = "Totals over all participants; updates are those of the common model, each made of so much"
    return tag("section", tag("h2", "All runs in numbers"), table(head, rows, caption, stacked=True))


def curves(report: Report) -> Markup:
    """Return the metric over clocks, examples and bytes, with the numbers under each plot."""
    metric, runs = report["metric"], [run for run in report["runs"] if run["curve"]]
    if not runs:
        return tag("section", tag("h2", f"How {metric} grows"), tag("p", "No run has evaluated anything."))
    legend = tag("ul", *(tag("li", swatch(run["name"]), run["title"]) for run in runs), class_="legend")
    what = (
        ("clock", "Over steps and rounds", "steps, or rounds of a federation", _count, ""),
        ("examples", "Over examples", "examples seen by all participants", _count, ""),
        ("bytes", "Over bytes", "bytes up and down, all participants", _bytes, _levels(runs)),
    )
    scale = _up(metric, [one["value"] for run in runs for one in run["curve"]])
    figures = [_curve(report, runs, scale, *each) for each in what]
    stretched = "The vertical axis is logarithmic in the error, 100 % less accuracy: gains near the top can be seen."
    return tag(
        "section",
        tag("h2", f"How {metric} grows"),
        tag("p", stretched, class_="soft") if scale.kind == "error" else None,
        legend,
        tag("div", *figures, class_="plots"),
        details("Show every evaluation as numbers", *(_points(run, metric) for run in runs)),
    )


def traffic(report: Report) -> Markup:
    """Return what each participant sent and received."""
    runs = [run for run in report["runs"] if run["per_participant"]]
    each = pairs("traffic", "Bytes up and down per participant", [_pair(run) for run in runs], _bytes)
    total = pairs("totals", "Bytes up and down of all participants", [_totals(run) for run in runs], _bytes)
    head = ("rank", "steps or rounds", "last clock", "examples", "bytes up", "bytes down", "waited")
    keys = ("rank", "records", "clock", "examples", "bytes_up", "bytes_down", "wait_s")
    tables = [
        table(head, [[show(key, one[key]) for key in keys] for one in run["per_participant"]], run["title"])
        for run in runs
    ]
    caption = "Full bars go up, pale bars come down. A whisker reaches from the participant with the least to the most."
    figures = (
        tag("figure", tag("h3", "One participant, on average"), each, tag("figcaption", caption), class_="bars"),
        tag("figure", tag("h3", "All together"), total, class_="bars"),
    )
    return tag(
        "section",
        tag("h2", "Bytes up and down"),
        tag("div", *figures, class_="plots"),
        details("Show every participant as numbers", *tables),
    )


def data(report: Report) -> Markup:
    """Return where the examples were, and which labels each client held."""
    cards, seen = [], set()
    for run in report["runs"]:
        kind = (run["paradigm"], run["partition"])
        if kind not in seen:
            seen.add(kind)
            cards.append(_card(run))
    parts: list[Node] = [tag("h2", "Where the data was"), tag("div", *cards, class_="cards")]
    held = [run for run in report["runs"] if run["shares"]]
    if held:
        parts.append(tag("div", *(_holdings(run) for run in held), class_="plots"))
    spread = [run for run in report["runs"] if run["spread"]]
    if spread:
        parts.append(_spread(spread, report["metric"]))
    parts += [_refused(run) for run in report["runs"] if run["refused"]]
    return tag("section", *parts)


def differences(report: Report) -> Markup:
    """Return what else differs between the runs."""
    notes = (tag("li", note) for note in report["notes"])
    return tag("section", tag("h2", "What differs besides the paradigm"), tag("ul", *notes, class_="notes"))


def failures(report: Report) -> Markup | None:
    """Return the last lines of every run that did not end well."""
    runs = [run for run in (*report["runs"], *report["dropouts"]) if run["tail"]]
    if not runs:
        return None
    parts = []
    for run in runs:
        status = "" if run["status"] is None else f", exit status {show('status', run['status'])}"
        parts.append(tag("h3", f"{run['name']}: {run['why'] or run['ended']}{status}"))
        parts.append(tag("pre", "\n".join(run["tail"])))
    return tag("section", tag("h2", "Last lines of what did not finish"), *parts)


def _tile(run: Mapping[str, Any], metric: str) -> Markup:
    failed = run["ended"] != "finished"
    big = ending(run) if failed and run["final"] is None else show("final", run["final"], metric)
    who = f"{show('participants', run['participants'])} participant{'' if run['participants'] == 1 else 's'}"
    moved = show("bytes", run["bytes_up"] + run["bytes_down"])
    return tag(
        "li",
        swatch(run["name"]),
        tag("div", run["title"], class_="name"),
        tag("div", big, class_="big bad" if failed else "big"),
        tag("div", who, class_="soft"),
        tag("div", run["why"] if failed else f"{show('wall_s', run['wall_s'])}, {moved}", class_="soft"),
        class_="tile",
    )


def _update(run: Mapping[str, Any]) -> list[str]:
    return [show(key, run["update"][key]) for key in ("count", "contributions", "examples")]


def _ending(run: Mapping[str, Any]) -> Markup:
    return tag("span", ending(run), class_="good" if run["ended"] == "finished" else "bad")


def _levels(runs: Sequence[Mapping[str, Any]]) -> str:
    still = [run["title"] for run in runs if not run["bytes_up"] + run["bytes_down"]]
    return f" {', '.join(still)}: nothing moves, drawn as a level at its final value." if still else ""


def _curve(
    report: Report,
    runs: Sequence[Mapping[str, Any]],
    scale: Scale,
    key: str,
    title: str,
    axis: str,
    words: Callable[[float], str],
    note: str,
) -> Markup:
    metric = report["metric"]
    lines = [Line(run["name"], tuple((one[key], one["value"]) for one in run["curve"])) for run in runs]
    drawn = plot(f"plot-{key}", title, lines, Axis(axis, words), Axis(metric, mark(metric)), scale)
    return tag("figure", tag("h3", title), drawn, tag("figcaption", f"{metric} over {axis}.{note}"))


def _up(metric: str, values: Sequence[float]) -> Scale:
    """Return the scale of a metric: by its error for accuracies most of whose range would be taken by the beginning."""
    if metric != "accuracy":
        return around(values)
    return by_error(values) if max(values) > HIGH and min(values) >= 0 else around(values, 1.0)


def _points(run: Mapping[str, Any], metric: str) -> Markup:
    keys = ("clock", "seconds", "examples", "bytes", "value")
    rows = [[show(key, one[key], metric) for key in keys] for one in run["curve"]]
    return table(("step or round", "time", "examples", "bytes", metric), rows, run["title"], numbers_from=1)


def _pair(run: Mapping[str, Any]) -> Pair:
    def spread(key: str) -> tuple[float, float, float]:
        values = [one[key] for one in run["per_participant"]]
        return fmean(values), min(values), max(values)

    return Pair(run["name"], run["title"], spread("bytes_up"), spread("bytes_down"))


def _totals(run: Mapping[str, Any]) -> Pair:
    return Pair(run["name"], run["title"], (run["bytes_up"],) * 3, (run["bytes_down"],) * 3)


def _card(run: Mapping[str, Any]) -> Markup:
    title = run["title"].split(",")[0] if run["paradigm"] == "distributed" else run["title"]
    return tag(
        "div",
        tag("h3", title),
        sketch(run["paradigm"], run["name"], run["partition"]),
        tag("p", run["data"]),
        class_="card",
    )


def _spread(runs: Sequence[Mapping[str, Any]], metric: str) -> Markup:
    """Return the metric of each run's common model over its clients."""
    keys = list(dict.fromkeys(key for run in runs for key in run["spread"]))
    rows = [[run["title"], *(show(key, run["spread"].get(key), metric) for key in keys)] for run in runs]
    return table(("run", *keys), rows, f"{metric} of the last common model, on data like each client's", stacked=True)


def _refused(run: Mapping[str, Any]) -> Markup:
    parts = ", ".join(f"{show('count', count)} {reason}" for reason, count in run["refused"].items())
    return tag("p", f"{run['title']}: contributions that did not count: {parts}.", class_="soft")


def _holdings(run: Mapping[str, Any]) -> Markup:
    shares = [one["labels"] for one in run["shares"]]
    ranks = [one["rank"] for one in run["shares"]]
    labels = labels_of(shares)
    title = f"{run['title']}: examples of each label"
    rows = [
        [show("rank", rank), *(show("count", share.get(label, 0)) for label in labels)]
        for rank, share in zip(ranks, shares, strict=True)
    ]
    return tag(
        "figure",
        tag("h3", title),
        holdings(run["name"], title, shares, ranks),
        tag("figcaption", spread_words(shares)),
        details("Show all clients as numbers", table(("client", *labels), rows, title)),
    )


def _count(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _bytes(value: float) -> str:
    return show("bytes", value).replace(".0 ", " ")

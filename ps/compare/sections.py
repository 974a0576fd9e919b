"""The sections of the page, each from the report alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ps.compare import figures
from ps.compare.figures import Figure
from ps.compare.look import ink
from ps.compare.markup import Markup, Node, details, table, tag
from ps.compare.show import NOTHING, show
from ps.compare.table import ending, verdict

Report = Mapping[str, Any]
Figures = dict[str, Figure]
"""What is drawn where: figures by the ids of their elements, filled by the sections."""


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
        ("bytes_activations", "activations"),
        ("bytes_gradients", "their gradients"),
    )
    rows = [
        [run["title"], *(show(key, run[key], metric) for key, _ in columns), *_update(run), _ending(run)]
        for run in report["runs"]
    ]
    titles = [title for _, title in columns]
    head = ("run", *titles, "updates", "contributions each", "examples each", "ended")
    caption = "Totals over all participants. An update changes the common model, by so many contributions"
    return tag("section", tag("h2", "All runs in numbers"), table(head, rows, caption, stacked=True))


def curves(report: Report, drawn: Figures) -> Markup:
    """Return the metric over clocks, examples and bytes, with the numbers under each plot."""
    metric, runs = report["metric"], [run for run in report["runs"] if run["curve"]]
    if not runs:
        return tag("section", tag("h2", f"How {metric} grows"), tag("p", "No run has evaluated anything."))
    what = (
        ("clock", "Over steps and rounds", "steps, or rounds of a federation", ""),
        ("examples", "Over examples", "examples seen by all participants", ""),
        ("bytes", "Over bytes", "bytes up and down, all participants", _levels(runs)),
    )
    plots = []
    for key, title, axis, note in what:
        drawn[f"curve-{key}"] = figures.curve(runs, metric, key, axis)
        caption = f"{metric} over {axis}.{note}"
        plots.append(tag("figure", tag("h3", title), _place(f"curve-{key}", caption), tag("figcaption", caption)))
    stretched = "The vertical axis is logarithmic in the error, 100 % less accuracy: gains near the top can be seen."
    return tag(
        "section",
        tag("h2", f"How {metric} grows"),
        tag("p", stretched, class_="soft") if figures.by_error(runs, metric) else None,
        tag("p", "A click on a name hides or shows a run, a double click shows it alone.", class_="soft"),
        tag("div", *plots, class_="plots"),
        details("Show every evaluation as numbers", *(_points(run, metric) for run in runs)),
    )


def traffic(report: Report, drawn: Figures) -> Markup:
    """Return what each participant sent and received."""
    runs = [run for run in report["runs"] if run["per_participant"]]
    if not runs:
        return tag("section", tag("h2", "Bytes up and down"), tag("p", "No run has recorded a step."))
    drawn["traffic"], drawn["totals"] = figures.traffic(runs), figures.totals(runs)
    head = ("rank", "steps or rounds", "last clock", "examples", "bytes up", "bytes down", "waited")
    keys = ("rank", "records", "clock", "examples", "bytes_up", "bytes_down", "wait_s")
    between = {"bytes_activations": "activations", "bytes_gradients": "their gradients"}
    tables = []
    for run in runs:
        more = between if any(run[key] for key in between) else {}
        rows = [[show(key, one[key]) for key in (*keys, *more)] for one in run["per_participant"]]
        tables.append(table((*head, *more.values()), rows, run["title"]))
    caption = "Full bars go up, pale bars come down. A whisker reaches from the participant with the least to the most."
    each, total = "One participant, on average", "All together"
    plots = (
        tag("figure", tag("h3", each), _place("traffic", f"Bytes up and down: {each}"), tag("figcaption", caption)),
        tag("figure", tag("h3", total), _place("totals", f"Bytes up and down: {total}")),
    )
    return tag(
        "section",
        tag("h2", "Bytes up and down"),
        tag("div", *plots, class_="plots"),
        details("Show every participant as numbers", *tables),
    )


def data(report: Report, drawn: Figures) -> Markup:
    """Return where the examples and the model were: which labels each client held, which layers each worker."""
    cards, seen = [], set()
    for run in report["runs"]:
        kind = (run["paradigm"], run["partition"])
        if kind not in seen:
            seen.add(kind)
            cards.append(_card(run))
    parts: list[Node] = [tag("h2", "Where the data and the model were"), tag("div", *cards, class_="cards")]
    held = [run for run in report["runs"] if run["shares"]]
    if held:
        parts.append(tag("div", *(_holdings(run, drawn) for run in held), class_="plots"))
    parts += [_parts(run) for run in report["runs"] if run["parts"]]
    spread = [run for run in report["runs"] if run["spread"]]
    if spread:
        parts.append(_spread(spread, report["metric"]))
    parts += [_refused(run) for run in report["runs"] if run["refused"]]
    return tag("section", *parts)


def dropouts(report: Report, drawn: Figures) -> Markup | None:
    """Return what became of each run whose participants were killed half-way."""
    runs, metric = report["dropouts"], report["metric"]
    if not runs:
        return None
    drawn["dropouts"], drawn["times"] = figures.shifts(runs, metric), figures.times(runs)
    plots = [
        tag("figure", tag("h3", title[0].upper() + title[1:]), _place(key, f"{title} without and with drop-outs"))
        for key, title in (("dropouts", metric), ("times", "wall time"))
    ]
    keys = ("final", "without", "wall_s", "wall_without_s", "pause_s")
    head = ("run", "killed", "ranks", "clock", metric, "without", "wall time", "without", "stood still", "training")
    cells = [
        [
            run["title"],
            f"{len(run['killed'])} of {run['participants']}" if run["killed"] else NOTHING,
            ", ".join(map(str, run["killed"])) or NOTHING,
            f"{show('clock', run['killed_clock'])} of {show('clock', run['of_clock'])}" if run["killed"] else NOTHING,
            *(show(key, run[key], metric) for key in keys),
            tag("span", verdict(run), class_="good" if run["finished"] else "bad"),
        ]
        for run in runs
    ]
    return tag(
        "section",
        tag("h2", "When participants drop out"),
        tag("p", "Each run again, with participants killed half-way (SIGKILL): nobody says goodbye."),
        tag("div", *plots, class_="plots"),
        tag("p", "Hollow: without drop-outs. Filled: with them.", class_="soft"),
        table(head, cells, "“Stood still” is the longest time in which nobody did a step after the kill", stacked=True),
    )


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
        tag("div", run["title"], class_="name"),
        tag("div", big, class_="big bad" if failed else "big"),
        tag("div", who, class_="soft"),
        tag("div", run["why"] if failed else f"{show('wall_s', run['wall_s'])}, {moved}", class_="soft"),
        class_="tile",
        style=f"--run:{ink(run['name'])}",
    )


def _update(run: Mapping[str, Any]) -> list[str]:
    return [show(key, run["update"][key]) for key in ("count", "contributions", "examples")]


def _ending(run: Mapping[str, Any]) -> Markup:
    return tag("span", ending(run), class_="good" if run["ended"] == "finished" else "bad")


def _levels(runs: Sequence[Mapping[str, Any]]) -> str:
    still = [run["title"] for run in runs if not run["bytes_up"] + run["bytes_down"]]
    return f" {', '.join(still)}: nothing moves, drawn as a level at its final value." if still else ""


def _place(key: str, words: str) -> Markup:
    """Return where page.js draws the figure of this key, and what it is for those who do not see it."""
    return tag("div", id=key, role="img", aria_label=words)


def _points(run: Mapping[str, Any], metric: str) -> Markup:
    keys = ("clock", "seconds", "examples", "bytes", "value")
    rows = [[show(key, one[key], metric) for key in keys] for one in run["curve"]]
    return table(("step or round", "time", "examples", "bytes", metric), rows, run["title"], numbers_from=1)


def _card(run: Mapping[str, Any]) -> Markup:
    title = run["title"].split(",")[0] if run["paradigm"] == "distributed" else run["title"]
    return tag(
        "div",
        tag("h3", title),
        tag("p", tag("b", "Data."), " ", run["data"]),
        tag("p", tag("b", "Model."), " ", run["model"]),
        class_="card",
        style=f"--run:{ink(run['name'])}",
    )


def _parts(run: Mapping[str, Any]) -> Markup:
    """Return which layers each worker had."""
    rows = [
        [show("rank", one["rank"]), ", ".join(map(str, one["layers"])), show("bytes", one["bytes"])]
        for one in run["parts"]
    ]
    return table(
        ("worker", "layers", "bytes of the model"), rows, f"{run['title']}: what each worker had", stacked=True
    )


def _spread(runs: Sequence[Mapping[str, Any]], metric: str) -> Markup:
    """Return the metric of each run's common model over its clients."""
    keys = list(dict.fromkeys(key for run in runs for key in run["spread"]))
    rows = [[run["title"], *(show(key, run["spread"].get(key), metric) for key in keys)] for run in runs]
    return table(("run", *keys), rows, f"{metric} of the last common model, on data like each client's", stacked=True)


def _refused(run: Mapping[str, Any]) -> Markup:
    parts = ", ".join(f"{show('count', count)} {reason}" for reason, count in run["refused"].items())
    return tag("p", f"{run['title']}: contributions that did not count: {parts}.", class_="soft")


def _holdings(run: Mapping[str, Any], drawn: Figures) -> Markup:
    shares = [one["labels"] for one in run["shares"]]
    labels = labels_of(shares)
    title = f"{run['title']}: examples of each label"
    key = f"holdings-{run['name']}"
    drawn[key] = figures.holdings(run, labels)
    rows = [
        [show("rank", one["rank"]), *(show("count", one["labels"].get(label, 0)) for label in labels)]
        for one in run["shares"]
    ]
    words = spread_words(shares)
    return tag(
        "figure",
        tag("h3", title),
        _place(key, f"{title}. {words}"),
        tag("figcaption", words),
        details("Show all clients as numbers", table(("client", *labels), rows, title)),
    )


def spread_words(shares: Sequence[Mapping[str, int]]) -> str:
    """Return in words how many examples and labels clients hold."""
    sizes = [sum(share.values()) for share in shares]
    kinds = [sum(1 for count in share.values() if count) for share in shares]
    return f"A client holds {_range(sizes)} examples of {_range(kinds)} of the {len(labels_of(shares))} labels."


def labels_of(shares: Sequence[Mapping[str, int]]) -> list[str]:
    """Return all labels, numbers in their order."""
    found = {label for share in shares for label in share}
    return sorted(found, key=lambda label: (0, float(label), label) if _is_number(label) else (1, 0.0, label))


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True

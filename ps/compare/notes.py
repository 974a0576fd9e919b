"""Notes: what makes the runs of a comparison differ besides their paradigm, in sentences. Said wherever it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ps.compare.case import CENTRALIZED, MODEL_PARALLEL
from ps.compare.show import show

CLOSE = 0.05
"""Runs have seen as much when their examples differ by at most this share."""


def notes(runs: Sequence[Mapping[str, Any]], metric: str, with_dropouts: bool) -> list[str]:
    """Return the sentences that hold for these runs."""
    done = [run for run in runs if run["examples"]]
    found = [_examples(done), _updates(done), _evaluation(runs, metric), *_paradigms(runs)]
    found.append(
        "Times are of this machine, on which all participants of a run share the cores: with a machine each, the "
        "runs would differ otherwise. They include starting the processes (train time does not) and the evaluations."
    )
    if with_dropouts:
        found.append(
            "Those who drop out are killed (SIGKILL) half-way through what the run took without drop-outs. Rank 0 is "
            "spared where there are others, because it evaluates."
        )
    return [note for note in found if note]


def _examples(runs: Sequence[Mapping[str, Any]]) -> str:
    if len(runs) < 2:
        return ""
    least, most = min(run["examples"] for run in runs), max(run["examples"] for run in runs)
    if most <= least * (1 + CLOSE):
        return "All runs have seen about as many examples."
    few = min(runs, key=lambda run: run["examples"])
    many = max(runs, key=lambda run: run["examples"])
    return (
        f"The runs have not seen as many examples: {few['name']} {show('examples', least)}, {many['name']} "
        f"{show('examples', most)}. The script's epochs decide for the centralized and the distributed runs, the "
        f"number of rounds, of clients in a round and of local epochs for the federated ones: compare the "
        f"final values with the plot over examples in mind."
    )


def _updates(runs: Sequence[Mapping[str, Any]]) -> str:
    parts = [f"{run['name']} {show('examples', run['update']['examples'])}" for run in runs]
    if len({run["update"]["examples"] for run in runs}) < 2:
        return ""
    return f"One update of the common model is made of different numbers of examples: {', '.join(parts)}."


def _evaluation(runs: Sequence[Mapping[str, Any]], metric: str) -> str:
    blind = [run["name"] for run in runs if run["ended"] == "finished" and not run["curve"]]
    if not blind:
        return ""
    return (
        f"Nothing was evaluated in {', '.join(blind)}: a script says what to evaluate with kv.evaluate, such as "
        f"kv.evaluate(mlp.accuracy, test), before its training loop."
    )


def _paradigms(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    names = {run["name"] for run in runs}
    found = []
    if names & {"async", "ssp"}:
        found.append(
            "Async and ssp apply an update for each worker where sync applies one for all: momentum and plain SGD "
            "may want a smaller learning rate there. Their clock is that of rank 0, whose weights are evaluated."
        )
    paradigms = {run["paradigm"] for run in runs}
    if paradigms - {CENTRALIZED}:
        found.append(
            "Bytes are those of tensors handed over between participants and servers, both ways, in shared memory "
            "as over a network; the centralized run hands nothing over."
        )
    for run in (run for run in runs if run["paradigm"] == MODEL_PARALLEL and run["bytes_up"]):
        forward, back = run["bytes_activations"], run["bytes_gradients"]
        rest = run["bytes_up"] - forward - back
        found.append(
            f"Of the bytes up of {run['name']}, {show('bytes', forward)} are activations on the way to the next stage, "
            f"{show('bytes', back)} their gradients on the way back, and {show('bytes', rest)} gradients of weights on "
            f"the way to the servers. What goes from stage to stage is up for one worker and down for the other."
        )
    return found

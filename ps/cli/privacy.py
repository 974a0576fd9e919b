"""psctl privacy: what a privacy budget buys before a job, and what a job has spent."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_scheduler, timeout_option
from ps.cli.value import place, whole
from ps.errors import UsageError
from ps.number import MOST_CLIENTS, MOST_COMBINED, MOST_STEPS
from ps.secure.sums import FEWEST

EXAMPLES = """\
psctl privacy eps=8,delta=1e-6,clip=1 --rounds 100 --clients-per-round 200
psctl privacy noise=4,delta=1e-6,clip=1 --rounds 100
psctl privacy poisson:eps=8,delta=1e-6,clip=1 --rounds 400 --clients-per-round 200 --clients 10000
psctl privacy skellam:eps=8,delta=1e-6,clip=1 --clients-per-round 200 --secure-min 150
psctl privacy ftrl:eps=8,delta=1e-6,clip=1,separation=20 --rounds 400
psctl privacy    what the job of --scheduler has spent"""

NUMBERS = """\
eps=8          the budget, for all rounds together; or
noise=4        the noise multiplier; with eps too, rounds end when that is spent
delta=1e-6     below one in the number of clients
clip=1         the L2 norm of a client's delta, over all tensors, at most
colluding=0    skellam: clients in a sum whose noise is not counted on
separation=9   ftrl: a client that was in a round is in none of the next 8;
               participations=5: nor in more than so many, bands=8: of which
               so many rounds the noise is in one
spare=2        attempts that may be abandoned after their noise was drawn
quantile=0.5   adapt the clip until this share of the deltas is within it;
               rate=0.2: by how much in a round"""

UNIT = """\
A client as a whole is protected, over all rounds: the models are nearly as likely if nothing of it
had been counted. Every client is taken to be in every round: how clients are selected is neither
uniform nor independent, and nothing is claimed for it. Who took part, and when, is not hidden.
But with poisson: before the budget, as in poisson:eps=8,delta=1e-6,clip=1, each client is drawn for
a round by itself, with the same chance, and neither status nor records tell who was. With skellam:
it is clients that clip and add the noise, under the masks of --secure, against servers too. With
ftrl: each round takes back part of the noise of those before it, and no client is in all of them."""


@click.command(cls=HelpfulCommand, examples=EXAMPLES, notes={"Numbers of BUDGET": NUMBERS, "What is protected": UNIT})
@click.argument("budget", metavar="[BUDGET]", required=False)
@click.option("--rounds", type=whole(1, MOST_STEPS), default=10, metavar="N", help="rounds of the job (10)")
@click.option(
    "--clients-per-round", type=whole(1, MOST_COMBINED), default=100, metavar="N", help="contributions of each (100)"
)
@click.option(
    "--clients",
    type=whole(1, MOST_CLIENTS),
    metavar="N",
    help="clients in all, for poisson (as many as are in a round) and ftrl",
)
@click.option("--secure", metavar="TEXT", default="pairwise:ring=32", help="for skellam (pairwise:ring=32)")
@click.option(
    "--secure-min", type=whole(3, MOST_CLIENTS), metavar="N", help="for skellam: fewest in a sum (half of a round)"
)
@click.option(
    "--parameters", type=whole(1, MOST_STEPS), default=1_000_000, metavar="N", help="for skellam: of a model (1000000)"
)
@click.option("--state", metavar="FILE", type=place(), help="a scheduler's file, of a job that is not running")
@process_options("status")
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def privacy(
    budget: str | None,
    rounds: int,
    clients_per_round: int,
    clients: int | None,
    secure: str,
    secure_min: int | None,
    parameters: int,
    state: str | None,
    timeout: float,
    as_json: bool,
    **options: Any,
) -> int:
    """Show what a BUDGET, as --dp takes it, costs and buys; or, without one, what a job has spent."""
    if budget is not None and state is not None:
        raise UsageError("--state says what a job has spent, BUDGET what one would spend: leave one of them out")
    if budget is not None:
        masks = {"secure": secure, "secure_min": secure_min or max(FEWEST, clients_per_round // 2)}
        found = _planned(budget, rounds, clients_per_round, clients or 0, masks, parameters)
    elif state is not None:
        found = _saved(state)
    else:
        found = _running(find_scheduler(options), timeout)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return 0
    for line in _lines(found):
        click.echo(line)
    return 0


def _planned(
    text: str, rounds: int, clients: int, population: int, masks: Mapping[str, Any], elements: int
) -> dict[str, Any]:
    from ps.config import JobConfig
    from ps.config.privacy import conditions_of, noise_share_of
    from ps.config.secure import adds_noise, encoding_of
    from ps.privacy import PrivacyBudget, parse_privacy

    about = parse_privacy(text).build()
    job = JobConfig.from_dict(
        {
            "mode": "federated",
            "dp": text,
            "rounds": rounds,
            "workers": population or clients * max(1, about.separation),
            "clients_per_round": clients,
            **(masks if about.distributed else {}),
        }
    )
    plan, deviation = PrivacyBudget(about, conditions_of(job, elements)), 0.0
    if adds_noise(job):
        share = noise_share_of(job, elements)
        deviation = math.sqrt(share.variance * clients) * encoding_of(job).step
    count = rounds if plan.most is None else min(rounds, plan.most)
    shares = sorted({max(1, count // 4), max(1, count // 2), count})
    return {
        "eps": about.eps or None,
        "delta": about.delta,
        "clip": about.clip,
        "noise": plan.noise,
        "rounds": count,
        "wanted": rounds,
        "clients": clients,
        "deviation": (deviation or plan.deviation) / clients,
        "after": {str(done): plan.epsilon(done) for done in shares},
    }


def _running(address: str, timeout: float) -> dict[str, Any]:
    from ps.protocol.query import fetch_status

    status = fetch_status(address, timeout)
    found = (status.get("federated") or {}).get("privacy")
    if found is None:
        return {"dp": None}
    return _spent(found, str((status.get("job") or {}).get("dp")))


def _saved(file: str) -> dict[str, Any]:
    from ps.server.scheduler.saved_job import SavedJob

    job = SavedJob.read(Path(file))
    if not job.privacy:
        raise UsageError(f"{file} holds no job with --dp that has come to its rounds")
    return _spent(job.privacy, job.dp)


def _spent(account: Mapping[str, Any], text: str) -> dict[str, Any]:
    from ps.privacy import parse_privacy

    about = parse_privacy(text).build()
    return {
        "eps": about.eps or None,
        "delta": about.delta,
        "clip": float(account["clip"]),
        "noise": float(account["noise"]),
        "releases": int(account["releases"]),
        "spent": float(account["spent"]),
        "cut_short": bool(account.get("cut_short")),
    }


def _lines(found: Mapping[str, Any]) -> list[str]:
    """Return an account, or a plan, as lines of at most 80 columns."""
    if "delta" not in found:
        return ["the job has no --dp, or no rounds yet: nothing is protected, and nothing spent"]
    delta = f"delta = {found['delta']:g}"
    if "releases" in found:
        budget = "no budget" if found["eps"] is None else f"of {found['eps']:g}"
        return [
            f"spent          eps = {found['spent']:.4g} {budget}, {delta}",
            f"noisy models   {found['releases']:,}, each with noise = {found['noise']:.5g}",
            f"clip           {found['clip']:.5g} now",
            *(["ended          before all rounds were done: the budget is spent"] if found["cut_short"] else []),
        ]
    lines = [
        f"noise          {found['noise']:.5g} standard deviations for a clip of {found['clip']:g}",
        f"of a mean      {found['deviation']:.4g} in each element, over {found['clients']:,} clients",
    ]
    lines += [f"after round    {int(done):>6,}: eps = {eps:.4g}, {delta}" for done, eps in found["after"].items()]
    if found["rounds"] < found["wanted"]:
        lines.append(f"then           the budget is spent: {found['wanted']:,} rounds were asked for")
    return lines

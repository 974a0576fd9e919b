"""psctl partition: who holds what, before a federated job is started."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options, read_settings
from ps.cli.value import place, whole
from ps.errors import UsageError
from ps.number import MOST_CLIENTS

if TYPE_CHECKING:
    from ps.cli.holdings import Holdings

EXAMPLES = """\
psctl partition dirichlet:0.3 --clients 100 --seed 1
psctl partition shards:2 --dataset digits
psctl partition labels:3 --clients 400 --clients-shown 40
psctl partition quantity:0.5 --json | jq .sizes"""

WAYS = """\
iid            equal shares by chance
shards:2       sorted by label, cut into 2 shards for each client (McMahan et al. 2017)
dirichlet:0.5  for each label, proportions over clients from a Dirichlet (Hsu et al. 2019)
               ,balance=1,least=10: as NIID-Bench (Li et al. 2022): at least ten each
labels:2       2 labels for each client, divided equally (Li et al. 2022)
quantity:0.5   sizes from a Dirichlet, labels by chance
features:0.1   equal shares, each client's noisier than the last one's
own            nothing is divided: each client brings its own data"""


@click.command(cls=HelpfulCommand, examples=EXAMPLES, notes={"Ways to divide (SPEC)": WAYS})
@click.argument("spec", metavar="SPEC")
@click.option("--clients", type=whole(1, MOST_CLIENTS), default=10, metavar="N", help="number of clients (10)")
@click.option("--seed", type=whole(0, (1 << 63) - 1), default=0, metavar="N", help="the job's seed (0)")
@click.option(
    "--dataset",
    type=click.Choice(["mnist", "digits"]),
    metavar="[mnist|digits]",
    help="what is divided (mnist where --data or PS_DATA say where it is, else digits)",
)
@click.option(
    "--data", metavar="PATH", type=place(), help="folder with MNIST's files, or a set in their format (PS_DATA)"
)
@click.option(
    "--clients-shown", type=whole(1, 1000), default=20, metavar="N", help="clients in the picture, at most (20)"
)
@process_options("partition")
@click.option("--json", "as_json", is_flag=True, help="print JSON: each client's count of each label")
def partition(
    spec: str,
    clients: int,
    seed: int,
    dataset: str | None,
    data: str | None,
    clients_shown: int,
    as_json: bool,
    **options: Any,
) -> int:
    """Show how SPEC divides a data set among clients: who holds how much of which label.

    Every client of a job with this partition, seed and number of clients computes the same division.
    """
    read_settings(options)
    holdings = _divide(spec, clients, seed, dataset, data)
    if as_json:
        click.echo(json.dumps(holdings.as_json()))
        return 0

    from rich.console import Console

    from ps.cli.picture import picture

    console = Console(highlight=False)
    console.print(picture(holdings, console.width, clients_shown))
    return 0


def _divide(spec: str, clients: int, seed: int, dataset: str | None, data: str | None) -> Holdings:
    from ps.cli.holdings import Holdings
    from ps.data import PARTITIONERS, digits, mnist
    from ps.data import partition as divide

    parsed = PARTITIONERS.parse(spec)
    if not parsed.build().divides:
        raise UsageError(f"{parsed.name} divides nothing: each client brings its own data. Try: psctl partition iid")
    name = dataset or ("mnist" if data or os.environ.get("PS_DATA") else "digits")
    if name == "digits" and data:
        raise UsageError("--data says where MNIST is, and --dataset digits needs no folder: leave one of them out")
    train = (digits() if name == "digits" else mnist(data))[0]
    return Holdings.of(name, divide(parsed, train.y, clients, seed), train.y)

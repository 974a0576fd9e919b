"""psctl ping: whether one process answers."""

from __future__ import annotations

import json
from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_keys, find_scheduler, read_address, timeout_option


@click.command(
    cls=HelpfulCommand,
    examples="psctl ping tcp://10.0.0.1:7070\npsctl ping    the scheduler of --scheduler, PS_SCHEDULER or here",
)
@click.argument("address", required=False)
@process_options("ping")
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def ping(address: str | None, timeout: float, as_json: bool, **options: Any) -> int:
    """Ask the process at ADDRESS whether it is alive, and what it is."""
    from ps.protocol.query import ping as ask

    target = read_address(address) if address else find_scheduler(options)
    answer = ask(target, timeout, find_keys(options))
    if as_json:
        click.echo(json.dumps({"address": target, **answer}))
    else:
        rank = "" if answer.get("role") == "scheduler" or answer.get("rank") is None else f" {answer['rank']}"
        click.echo(
            f"{answer['role']}{rank} at {target} answered in {answer['ms']:.2f} ms (protocol {answer['version']})"
        )
    return 0

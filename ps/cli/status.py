"""psctl status: the members of a job, their clocks, and who waits for whom."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_keys, find_scheduler, timeout_option
from ps.errors import ConnectTimeout

WATCH_INTERVAL = 1.0


@click.command(
    cls=HelpfulCommand,
    examples="psctl status --scheduler 10.0.0.1:7070\npsctl status --watch\npsctl status --json | jq .workers",
)
@process_options("status")
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="print JSON; with --watch, a line each second")
@click.option("--watch", is_flag=True, help="ask again every second, until Ctrl-C")
def status(timeout: float, as_json: bool, watch: bool, **options: Any) -> int:
    """Show the members of a job, their clocks and lag, and who waits for whom."""
    from ps.protocol.query import fetch_status

    address, seconds, keys = find_scheduler(options), timeout, find_keys(options)
    if as_json:
        while True:
            click.echo(json.dumps(fetch_status(address, seconds, keys), indent=None if watch else 2))
            if not watch:
                return 0
            time.sleep(WATCH_INTERVAL)

    from rich.console import Console

    from ps.cli.view import view

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    if not watch:
        console.print(view(fetch_status(address, seconds, keys), console.width))
        return 0

    from rich.live import Live

    with Live(console=console, auto_refresh=False) as live:
        while True:
            try:
                live.update(view(fetch_status(address, seconds, keys), console.width), refresh=True)
            except ConnectTimeout as error:
                live.update(str(error), refresh=True)
            time.sleep(WATCH_INTERVAL)

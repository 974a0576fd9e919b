"""psctl page: a running job in a browser, and for Prometheus."""

from __future__ import annotations

from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options, read_settings
from ps.cli.target import find_keys, find_scheduler

PATHS = """\
/ is the page; /snapshot.json and /curves.json are what it shows; /metrics is for Prometheus. All is
read-only. With --page-token FILE whoever asks says Authorization: Bearer TOKEN; a browser is given
the token behind the address: http://host:7080/#token=TOKEN."""


@click.command(
    cls=HelpfulCommand,
    examples="psctl page --scheduler 10.0.0.1:7070\npsctl page --page-host 0.0.0.0 --page-token token.txt",
    notes={"Addresses": PATHS},
)
@process_options("page")
def page(**options: Any) -> int:
    """Serve a page that shows a running job: its members, curves, waits, rounds. Ctrl-C ends it."""
    from ps.launch.page_process import page_address, page_socket, page_token
    from ps.monitor.serving import serve, watcher_of

    process = read_settings(options).process().config
    scheduler, keys, token = find_scheduler(options), find_keys(options), page_token(process.page_token)
    with page_socket(process) as sock:
        watcher = watcher_of(scheduler, keys)
        watcher.look()
        click.echo(f"the job of the scheduler at {scheduler} is at {page_address(sock, token)}")
        serve(sock, watcher, token)
    return 0

"""psctl helper: the second party of --secure helper, in the foreground."""

from __future__ import annotations

from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.logs import log_by_hand
from ps.cli.options import process_options
from ps.cli.target import find_scheduler
from ps.cli.value import real, whole
from ps.config.values import LONGEST_WAIT
from ps.number import MOST_CLIENTS

TRUST = """\
A helper learns no delta, and servers learn no single one, unless the helper and they work together:
run it where those who run the servers have nothing to say. It tells the sum of masks of those who
are in a round's sum, once for each task, and never of fewer clients than it is told here."""


@click.command(
    cls=HelpfulCommand,
    examples="psctl helper --scheduler 10.0.0.1\npsctl helper --scheduler 10.0.0.1 --least 10",
    notes={"Trust": TRUST},
)
@process_options("follow")
@click.option(
    "--least", type=whole(3, MOST_CLIENTS), default=3, metavar="N", help="fewest clients in a sum, if not more (3)"
)
@click.option(
    "--timeout",
    type=real(low=0, high=LONGEST_WAIT),
    default=60.0,
    metavar="X",
    help="seconds to wait for a job that is not there, or has no model yet (60)",
)
def helper(least: int, timeout: float, **options: Any) -> int:
    """Help a federated job with --secure helper: tell servers the sum of clients' masks, and no single one.

    It is no member of the job, connects outwards only, and ends with it.
    """
    from ps.helper.process import serve

    address = find_scheduler(options, "helper")
    log_by_hand()
    return serve(address, least, timeout)

"""psctl checkpoint and psctl export: a checkpoint of a running job, now; and the model of one as a file of weights."""

from __future__ import annotations

from typing import Any

import click

from ps.cli.help import HelpfulCommand
from ps.cli.options import process_options
from ps.cli.target import find_scheduler
from ps.cli.value import place, real
from ps.config.values import LONGEST_WAIT
from ps.errors import CheckpointError


@click.command(
    cls=HelpfulCommand,
    examples="psctl checkpoint --scheduler 10.0.0.1:7070\npsctl checkpoint --timeout 600",
)
@process_options("status")
@click.option(
    "--timeout",
    type=real(above=0, high=LONGEST_WAIT),
    default=120.0,
    metavar="X",
    help="seconds to wait until it is whole (120)",
)
def checkpoint(timeout: float, **options: Any) -> int:
    """Have a running job make a checkpoint now, and wait until it is whole."""
    from ps.protocol.messages import CheckpointMade, CheckpointRequest
    from ps.protocol.query import ask

    made = ask(find_scheduler(options), CheckpointRequest(1, False), CheckpointMade, timeout)
    newest = f"{made.folder} is the newest whole one, of step {made.step}" if made.folder else "none is whole"
    if made.why:
        raise CheckpointError(f"no checkpoint was made: {made.why}. {newest[0].upper()}{newest[1:]}")
    click.echo(newest)
    return 0


@click.command(
    cls=HelpfulCommand,
    examples="psctl export checkpoints model.safetensors\npsctl export checkpoints/step-000420 model.safetensors",
)
@click.argument("directory", metavar="DIR")
@click.argument("file", metavar="FILE", type=place())
@click.option("--masters", is_flag=True, help="float32 masters of what is trained in half precision")
def export(directory: str, file: str, masters: bool) -> int:
    """Write the model of the newest whole checkpoint in DIR, or of the one that DIR is, as safetensors.

    DIR may also be an address that fsspec understands.
    """
    from ps.checkpoint.export import export_model

    click.echo(export_model(directory, file, masters=masters))
    return 0

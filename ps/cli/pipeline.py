"""psctl pipeline: what a schedule of pipeline stages looks like, before anything is trained."""

from __future__ import annotations

import click

from ps.cli.help import HelpfulCommand, HelpfulGroup
from ps.cli.value import whole

MOST_STAGES, MOST_MICROBATCHES, MOST_WAVES = 100, 200, 4

EXAMPLES = """\
psctl pipeline show --stages 4 --microbatches 8 --schedule 1f1b
psctl pipeline show --stages 4 --microbatches 8 --schedule zero-bubble
psctl pipeline show --stages 8 --microbatches 8 --schedule interleaved:2
psctl pipeline show --stages 2 --microbatches 4 --waves 2"""

SCHEDULES = """\
fill-drain     all forward passes, then all backward passes (GPipe, Huang et al. 2018)
1f1b           one of each in turns, so that little is held (PipeDream, Narayanan et al. 2019)
1f1b:1         with one more micro-batch under way, which hides the time that sending takes
interleaved:2  1f1b with 2 stages on each worker (Megatron-LM, Narayanan et al. 2021)
zero-bubble    backward passes in two parts, the second of which fills gaps (Qi et al. 2023)"""


@click.group(cls=HelpfulGroup, examples=EXAMPLES)
def pipeline() -> None:
    """Show how pipeline stages take turns."""


@pipeline.command(cls=HelpfulCommand, examples=EXAMPLES, notes={"Schedules": SCHEDULES})
@click.option("--stages", type=whole(1, MOST_STAGES), default=4, metavar="N", help="stages of the model (4)")
@click.option("--microbatches", type=whole(1, MOST_MICROBATCHES), default=8, metavar="N", help="parts of a batch (8)")
@click.option("--schedule", default="1f1b", metavar="SPEC", help="in which order passes are done (1f1b)")
@click.option("--waves", type=whole(1, MOST_WAVES), default=1, metavar="N", help="steps that are under way at once (1)")
def show(stages: int, microbatches: int, schedule: str, waves: int) -> int:
    """Show what each worker does when, and for which share of the time it is idle.

    A backward pass takes twice as long as a forward pass here, half of it for the input, and sending takes no time.
    """
    from rich.console import Console

    from ps.cli.schedule_picture import schedule_picture

    console = Console(highlight=False)
    console.print(schedule_picture(stages, microbatches, schedule, console.width, waves))
    return 0

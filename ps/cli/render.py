"""psctl render: what an engine runs, as files for it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from ps.cli.help import HelpfulCommand, HelpfulGroup, SectionOption
from ps.cli.options import TWINS, job_options, process_options, read_settings, script_arguments
from ps.cli.roles import SCRIPT_SETTINGS
from ps.cli.value import place
from ps.config.values import PATH
from ps.engines.registry import MODULES, engine
from ps.engines.workload import Workload
from ps.errors import UsageError
from ps.regular_file import reason, shown
from ps.script import Script
from ps.whole import write_whole

EXAMPLES = """\
psctl render --list
psctl render slurm -s 2 -w 8 --cpus-per-task 4 train.py --epochs 3 > job.sbatch
psctl render kubernetes -s 2 -w 8 --image registry/train:1 train.py > train.yaml
psctl render helm -s 2 -w 8 --image registry/train:1 --out chart train.py
psctl render compose -s 2 -w 4 train.py > compose.yaml"""


class _Engines(HelpfulGroup):
    """The engines as commands, each made when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in MODULES and cmd_name not in self.commands:
            self.add_command(_command(cmd_name))
        return click.Group.get_command(self, ctx, cmd_name)


@click.group(cls=_Engines, examples=EXAMPLES, invoke_without_command=True)
@click.option("--list", "is_list", is_flag=True, help="list the engines")
@click.pass_context
def render(ctx: click.Context, is_list: bool) -> None:
    """Write what an engine runs, for a job of the given settings: nothing is started."""
    if is_list:
        for name in MODULES:
            found = engine(name)
            click.echo(f"{name:12} {found.about}{'; psctl run --on ' + name if found.run else ''}")
        ctx.exit()


def _command(name: str) -> click.Command:
    found = engine(name)

    def write(script: Script, args: tuple[str, ...], out: str | None, **options: Any) -> int:
        given = found.read({option.name: options.pop(f"engine_{option.name}") for option in found.options})
        work = Workload.of(read_settings(options), script, args, shlex.join(["psctl", *sys.argv[1:]]))
        _deliver(found.render(work, given), out)
        return 0

    write.__doc__ = f"Write {found.about}.\n\n    Everything after SCRIPT is passed to the script, untouched."
    function: Any = job_options(process_options("run")(script_arguments(write)))
    for option in reversed(found.options):
        default = "" if option.default in (None, ()) else f" ({option.kind.show(option.default)})"
        function = click.option(
            option.flag,
            f"engine_{option.name}",
            type=place() if option.kind is PATH else str,
            metavar=option.kind.metavar,
            multiple=option.repeats,
            cls=SectionOption,
            section=name.capitalize(),
            help=option.help + default,
        )(function)
    function = click.option("--out", type=place(), metavar="PATH", help="folder for the files; - for one (-)")(function)
    return click.command(
        name,
        cls=HelpfulCommand,
        context_settings=SCRIPT_SETTINGS,
        examples=found.example,
        notes={"Settings": TWINS},
        short_help=found.about,
    )(function)


def _deliver(files: Any, out: str | None) -> None:
    """Print the one file, or write all of them into a folder."""
    if out in (None, "-"):
        if len(files) > 1:
            raise UsageError(f"these are {len(files)} files: say with --out into which folder")
        click.echo(next(iter(files.values())), nl=False)
        return
    folder = Path(out or "")
    for name, text in files.items():
        place = folder / name
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write to {shown(str(folder))}: {reason(error)}") from None
        write_whole(place, text)
    click.echo(f"{len(files)} files in {out}")

"""psctl config: every setting, its value, and where that came from."""

from __future__ import annotations

import json
from typing import Any

import click

from ps import native
from ps.cli.help import HelpfulCommand
from ps.cli.options import TWINS, job_options, process_options, read_settings
from ps.config import JobConfig, ProcessConfig, Settings, settings_of


@click.command(
    cls=HelpfulCommand,
    examples="psctl config\nPS_MODE=ssp psctl config --workers 4 --json",
    notes={"Settings": TWINS},
)
@job_options
@process_options("*")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def config(as_json: bool, **options: Any) -> int:
    """Show every setting with its value and its source: a flag, a variable, the TOML file or the default."""
    rows = _rows(read_settings(options))
    if as_json:
        click.echo(json.dumps({row["name"]: row for row in rows}, indent=2))
        return 0

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("setting", "value", "from", "meaning"):
        table.add_column(column, overflow="fold")
    for row in rows:
        style = "dim" if row["source"] == "default" else "bold"
        table.add_row(row["name"], row["text"], row["source"], row["help"], style=style)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 140)
    console.print(table, markup=False)
    return 0


def _rows(settings: Settings) -> list[dict[str, Any]]:
    rows = []
    for cls, loaded in ((JobConfig, settings.job()), (ProcessConfig, settings.process())):
        for name, row in settings_of(cls).items():
            value = getattr(loaded.config, name)
            text, source = row.show(value), loaded.sources[name]
            if name == "kernels" and value != (here := native.outcome(value)):
                text += f" ({here})"
            rows.append(
                {
                    "name": name,
                    "value": value,
                    "text": text,
                    "source": source,
                    "flag": row.flag,
                    "env": row.env,
                    "help": row.help,
                }
            )
    return rows

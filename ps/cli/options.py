"""Options made from the tables of settings, and the settings read back from them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import click

from ps.cli.help import SectionOption
from ps.cli.value import place
from ps.config import JobConfig, ProcessConfig, Setting, Settings, find_toml, settings_of
from ps.config.values import BOOL
from ps.script import Script

F = TypeVar("F", bound=Callable[..., Any])

TWINS = """\
Every flag has an environment twin: --chunk-size is PS_CHUNK_SIZE; and a key, chunk_size, in
paramserver.toml (or the file of --config or PS_CONFIG). The script's defaults are weakest, then
the TOML file, then the environment; flags win. psctl config shows what is in force, and why."""


def read_settings(options: Mapping[str, Any]) -> Settings:
    """Return the settings behind a command's parsed options; what plug-ins add may be named in them."""
    flags = {name: value for name, value in options.items() if value not in (None, ()) and name != "config_file"}
    settings = Settings(flags, os.environ, find_toml(os.environ, options.get("config_file")))
    if modules := settings.plugins():
        from ps import plugins

        plugins.load(modules)
    return settings


def job_options(function: F) -> F:
    """Add a flag for every setting of the job."""
    return _add(function, settings_of(JobConfig).values(), "Job")


def job_options_of(hidden: Sequence[str], **defaults: Any) -> Callable[[F], F]:
    """Add the flags of a job for a command that sets some of them itself, and has defaults of its own for others."""

    def decorate(function: F) -> F:
        rows = [replace(row, default=defaults.get(row.name, row.default)) for row in settings_of(JobConfig).values()]
        return _add(function, rows, "Job", hidden)

    return decorate


def process_options(role: str, title: str = "Process") -> Callable[[F], F]:
    """Add a flag for every setting of a process that this role takes; every setting for role ``*``."""

    def decorate(function: F) -> F:
        rows = settings_of(ProcessConfig).values()
        function = _add(function, [row for row in rows if role == "*" or role in row.roles], title)
        config = click.option(
            "--config",
            "config_file",
            metavar="FILE",
            type=place(),
            cls=SectionOption,
            section=title,
            help="TOML file to read",
        )
        return config(function)

    return decorate


def say_untracked(settings: Settings, command: str) -> None:
    """Say so where a variable or a file would have a command of many runs show them in a tracker."""
    process = settings.process()
    if process.config.track is not None:
        source = process.sources["track"]
        click.echo(
            f"track = {process.config.track} ({source}) means nothing to {command}: psctl run heeds it", err=True
        )


def script_arguments(function: F) -> F:
    """Add SCRIPT, which python could run or, after ``-m``, import, and the arguments that go to it untouched."""

    @functools.wraps(function)
    def with_script(*given: Any, script: str, is_module: bool, **options: Any) -> Any:
        return function(*given, script=Script(script, is_module), **options)

    about = "SCRIPT is the name of a module or package, as of python -m"
    decorated: Any = click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")(with_script)
    decorated = click.argument("script", metavar="SCRIPT")(decorated)
    return cast(F, click.option("-m", "is_module", is_flag=True, help=about)(decorated))


def _add(function: F, rows: Iterable[Setting], section: str, hidden: Sequence[str] = ()) -> F:
    for row in reversed(list(rows)):
        function = _option(row, section, hidden=row.name in hidden)(function)
    return function


def _option(row: Setting, section: str, *, hidden: bool = False) -> Callable[[F], F]:
    words = f"{row.help} ({row.show(row.default)})" if row.default is not None else row.help
    common: dict[str, Any] = {
        "default": None,
        "help": words,
        "cls": SectionOption,
        "section": section,
        "hidden": hidden,
    }
    if row.kind is BOOL:
        return click.option(f"{row.flag}/--no-{row.flag[2:]}", row.name, **common)
    metavar = f"[{'|'.join(row.choices)}]" if row.choices else row.kind.metavar
    if row.repeats:
        return click.option(row.flag, row.name, type=str, metavar=metavar, multiple=True, **{**common, "default": ()})
    names = [*([row.short] if row.short else []), row.flag, row.name]
    return click.option(*names, type=str, metavar=metavar, **common)

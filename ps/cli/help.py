"""Help pages: options in sections, examples and exit codes below them."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import click

from ps import errors


def _exit_codes() -> str:
    rows = {0: "everything went well", 1: "anything else, such as a script's own exception"}
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, errors.PSError) and kind.__base__ is errors.PSError:
            if not kind.exit_code:
                continue
            text = (kind.__doc__ or "").rstrip(".")
            rows[kind.exit_code] = text[0].lower() + text[1:]
    rows |= {130: "interrupted (Ctrl-C)", 143: "terminated (SIGTERM); 128 + n: killed by signal n"}
    return "\n".join(f"{code:>3}  {text}" for code, text in sorted(rows.items()))


EXIT_CODES = _exit_codes()


class Sections:
    """The parts of a help page below the options."""

    def __init__(self, examples: str = "", notes: Mapping[str, str] | None = None) -> None:
        self.parts = {**({"Examples": examples} if examples else {}), **(notes or {})}

    def write(self, formatter: click.HelpFormatter) -> None:
        """Add the parts to a page. What is wider than that is broken: a comment goes below its example."""
        for title, text in self.parts.items():
            with formatter.section(title):
                indent = " " * formatter.current_indent
                for line in _fitted(title, text, formatter.width - len(indent)):
                    formatter.write(indent + line + "\n")


def _fitted(title: str, text: str, width: int) -> list[str]:
    """Return a text's lines, as they are if they fit; else broken as examples, as a list of terms, or as prose."""
    lines = text.splitlines()
    if all(len(line) <= width for line in lines):
        return lines
    if title == "Examples":
        return [part for line in lines for part in _example(line, width)]
    if any("  " in line for line in lines):
        whole: list[str] = []
        for line in lines:
            if line.startswith("    ") and whole:
                whole[-1] += f" {line.strip()}"
            else:
                whole.append(line)
        return [part for line in whole for part in _term(line, width)]
    return textwrap.wrap(" ".join(lines), width)


def _term(line: str, width: int) -> list[str]:
    match = re.match(r" *\S+(?: \S+)* {2,}", line)
    indent = " " * (len(match[0]) if match else 4)
    return textwrap.wrap(line, width, subsequent_indent=indent) if len(line) > width else [line]


def _example(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    command, _, comment = line.partition("    ")
    return [*broken(command, width), *([f"    {comment.strip()}"] if comment else [])]


def broken(command: str, width: int) -> list[str]:
    """Return a command as lines that a shell takes for one."""
    if len(command) <= width:
        return [command]
    parts = textwrap.wrap(command, width - 2, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
    return [*(f"{part} \\" for part in parts[:-1]), parts[-1]]


class HelpfulGroup(click.Group):
    """A group whose page ends with examples and notes.

    ``modules``: commands by name, and the modules that have them: one is loaded when its command is asked for, since a
    process that starts hundreds of times needs one of them.
    """

    def __init__(
        self,
        *args: Any,
        examples: str = "",
        notes: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        **kwargs: Any,
    ):
        self._sections = Sections(examples, notes)
        self._modules = dict(modules or {})
        super().__init__(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the page where nothing is asked for."""
        if not args:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they were declared or added."""
        return [*self._modules, *(name for name in self.commands if name not in self._modules)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, loaded when it is first asked for."""
        if cmd_name in self._modules and cmd_name not in self.commands:
            self.add_command(getattr(importlib.import_module(self._modules[cmd_name]), cmd_name))
        elif cmd_name not in self.commands:
            self.load()  # so that it can be said which name is near
        return super().get_command(ctx, cmd_name)

    def load(self) -> dict[str, click.Command]:
        """Return all commands by name."""
        context = click.Context(self)
        return {name: command for name in self.list_commands(context) if (command := self.get_command(context, name))}

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and notes."""
        self._sections.write(formatter)


class HelpfulCommand(click.Command):
    """A command whose options stand in sections; its page ends with examples and notes."""

    def __init__(self, *args: Any, examples: str = "", notes: Mapping[str, str] | None = None, **kwargs: Any):
        self._sections = Sections(examples, notes)
        super().__init__(*args, **kwargs)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each section under its title."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                title = param.section if isinstance(param, SectionOption) else "Options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and notes."""
        self._sections.write(formatter)


class SectionOption(click.Option):
    """An option that stands in a section of its command's help page."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        self.section = section
        super().__init__(*args, **kwargs)

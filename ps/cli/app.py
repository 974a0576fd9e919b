"""The command group, and how whatever goes wrong becomes one line and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import click

import ps
from ps import sigterm
from ps.cli.help import EXIT_CODES, HelpfulGroup
from ps.config import JobConfig, settings_of
from ps.errors import JobEnded, PSError
from ps.log_line import JSON, VARIABLE, json_line
from ps.sink import kept_going, open_closed_descriptors
from ps.text import shortened

EXAMPLES = """\
psctl demo    something to see at once
psctl run -s 2 -w 4 train.py --epochs 3    a cluster on this machine
psctl run -w 4 --mode ssp --staleness 3 train.py
psctl scheduler -s 2 -w 4 --host 10.0.0.1    over several machines, one role each
psctl server --scheduler 10.0.0.1
psctl worker --scheduler 10.0.0.1 train.py
psctl status --scheduler 10.0.0.1"""

LONGEST_LINE = 2000
"""Characters of an error's line, at most."""

MODULES = {
    "run": "ps.cli.run",
    "demo": "ps.cli.demo",
    "render": "ps.cli.render",
    "compare": "ps.cli.compare",
    "scheduler": "ps.cli.roles",
    "server": "ps.cli.roles",
    "worker": "ps.cli.roles",
    "status": "ps.cli.status",
    "top": "ps.cli.top",
    "page": "ps.cli.page",
    "checkpoint": "ps.cli.checkpoint",
    "drain": "ps.cli.drain",
    "export": "ps.cli.checkpoint",
    "follow": "ps.cli.follow",
    "helper": "ps.cli.helper",
    "ping": "ps.cli.ping",
    "doctor": "ps.cli.doctor",
    "chaos": "ps.cli.chaos",
    "keys": "ps.cli.keys",
    "trace": "ps.cli.trace",
    "partition": "ps.cli.partition",
    "pipeline": "ps.cli.pipeline",
    "simulate": "ps.cli.simulate",
    "privacy": "ps.cli.privacy",
    "config": "ps.cli.config",
}
"""Commands in the order of the help page, and where each is."""


@click.group(
    cls=HelpfulGroup,
    examples=EXAMPLES,
    notes={"Exit codes": EXIT_CODES},
    modules=MODULES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(ps.__version__, prog_name="psctl")
def psctl() -> None:
    """Train a model with a parameter server: start clusters and processes, and look at them."""


def run_command(argv: Sequence[str] | None = None, *, has_launcher: bool = False) -> int:
    """Run psctl; every PSError becomes one line on standard error and its exit code.

    ``has_launcher``: a launcher has started this process and speaks for it.
    """
    open_closed_descriptors()
    with kept_going("stderr"):
        return _run(argv, has_launcher)


def _run(argv: Sequence[str] | None, has_launcher: bool) -> int:
    try:
        with sigterm.heeded():
            args = None if argv is None else list(argv)
            try:
                result = psctl.main(args=args, prog_name="psctl", standalone_mode=False, obj=has_launcher)
            except PSError as error:
                if not sigterm.asked():
                    raise
                return _fail(str(error), sigterm.status())  # as when the others were asked as well, and went first
            except RuntimeError as error:  # Python 3.11 wraps what a signal raises while a class is made
                if isinstance(error.__cause__, SystemExit | KeyboardInterrupt):
                    raise error.__cause__ from None
                raise
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        return _fail(_explain(error), error.exit_code)
    except JobEnded as ended:
        print(f"psctl: {ended}", file=sys.stderr)
        return ended.exit_code
    except PSError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except SystemExit as leave:
        return _exit_status(leave)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _UNWRITTEN:
            return _unwritten(error)
        traceback.print_exc()
        return 1


_UNWRITTEN = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _unwritten(error: OSError) -> int:
    """A command whose output is all that it is for could not write it: say so, and have nobody try again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    if error.errno == errno.EPIPE:  # as of a program that a signal ends: whoever read it has had enough
        return 128 + signal.SIGPIPE
    return _fail(f"cannot write to {error.filename or 'standard output'}: {error.strerror}", PSError.exit_code)


def _exit_status(leave: SystemExit) -> int:
    if leave.code is None or isinstance(leave.code, int):
        return leave.code or 0
    print(leave.code, file=sys.stderr)
    return 1


def _fail(message: str, code: int) -> int:
    line = _in_one_line(message)
    if os.environ.get(VARIABLE) == JSON:
        print(json_line("psctl", line, level="error", exit_code=str(code)), file=sys.stderr)
    else:
        print(f"psctl: error: {line}", file=sys.stderr)
    return code


def _in_one_line(message: str) -> str:
    """Return a message, which may quote anything, as a line that a terminal shows as it is."""
    text = shortened(" ".join(message.split()), LONGEST_LINE)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _explain(error: click.ClickException) -> str:
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "psctl"
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        name = error.option_name.lstrip("-").removeprefix("no-").replace("-", "_")
        if name in settings_of(JobConfig):
            return f"{error.option_name} is a setting of the job: give it to psctl scheduler or psctl run"
        guesses = f"; did you mean {error.possibilities[0]}?" if error.possibilities else ""
        return f"no such option: {error.option_name}{guesses} Try: {path} --help"
    return f"{message}{'' if message.endswith('?') else '.'} Try: {path} --help"

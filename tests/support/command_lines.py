"""Command lines of psctl at random, from the commands' own options, and psctl without what would start a process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import click

from ps import errors
from ps.cli.app import psctl, run_command
from ps.cli.help import HelpfulGroup
from ps.cli.value import Value
from ps.config import JobConfig, ProcessConfig, Setting, settings_of
from support import odd_values

SETTINGS: dict[str, Setting] = {**settings_of(JobConfig), **settings_of(ProcessConfig)}
LIMIT = 20.0
"""Seconds after which a command line that starts nothing hangs."""
LONGEST = 2100
"""Characters of a line, at most."""
CODES = {0, 130, 143} | {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
FILES = {
    "script.py": "print(1)\n",
    "bad.py": "def f(:\n",
    "file": "nothing of ours\n",
    "x.json": "[1, {}]",
    "x.csv": "up,down\n1,\n",
    "damaged.toml": "workers = 99999999999999999999999999\n",
    "plug.py": "",
}
STARTS = (
    *(
        "ps.launch.cluster.run",
        "ps.server.shard.service.serve",
        "ps.server.scheduler.service.serve",
        "ps.worker.run_script",
    ),
    *("ps.protocol.query.fetch_status", "ps.protocol.query.ping", "ps.simulate.simulation.simulate"),
    *("ps.compare.comparison.run_all", "ps.simulate.examples.synthetic", "ps.following.follower.follow"),
    "ps.helper.process.serve",
    "ps.engines.slurm_job.run_job",
)
"""What starts processes, waits for them or computes for long."""


class Started(errors.Refused):
    """The command line was good enough to start something."""


class Hangs(BaseException):
    """A command line did not come to an end."""


@dataclass(slots=True)
class CommandLine:
    """Words for psctl, variables of its environment and a file of settings in its folder."""

    words: list[str]
    env: dict[str, str] = field(default_factory=dict)
    toml: str = ""


def leaves(group: HelpfulGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command that does something, with the words that lead to it."""
    for name, command in group.load().items():
        if isinstance(command, HelpfulGroup):
            yield from leaves(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = list(leaves(psctl)) if isinstance(psctl, HelpfulGroup) else []


def draw(rng: random.Random) -> CommandLine:
    """Return a command line: one of our commands with some of its options, most of them right."""
    path, command = rng.choice(COMMANDS)
    words: list[str] = []
    positions: list[str] = []
    options = [param for param in command.params if isinstance(param, click.Option)]
    for param in rng.sample(options, min(len(options), rng.choice((0, 1, 1, 2, 3, 5)))):
        name = rng.choice([*param.opts, *param.secondary_opts])
        if rng.random() < 0.02:
            name = name[:-1] + rng.choice("xq-")
        words.append(name)
        if not param.is_flag and rng.random() < 0.98:
            given = _value(rng, param)
            words[-1:] = [f"{name}={given}"] if name.startswith("--") and rng.random() < 0.5 else [name, given]
    for param in command.params:
        if isinstance(param, click.Argument) and rng.random() < 0.9:
            is_path = param.name != "spec" and param.name != "address"
            for _ in range(1 if param.nargs == 1 else rng.randrange(3)):
                pool = odd_values.PATHS if is_path else odd_values.ADDRESSES
                positions.append(odd_values.spec(rng, "spec") if param.name == "spec" else rng.choice(pool))
                if is_path and rng.random() < 0.4:
                    positions[-1] = rng.choice(("script.py", "file", "x.json"))
    line = CommandLine([*path, *words, *positions])
    if rng.random() < 0.1:
        row = rng.choice([*SETTINGS.values()])
        line.env[row.env] = odd_values.value(rng, row).replace("\0", "").replace("\ud800", "")
    if rng.random() < 0.1:
        row = rng.choice([*SETTINGS.values()])
        given = odd_values.value(rng, row)
        quoted = given if rng.random() < 0.5 else repr(given)
        line.toml = f"{row.name} = {quoted}\n".replace("\ud800", "").replace("\udcff", "")
    return line


def _value(rng: random.Random, param: click.Option) -> str:
    name = param.name or ""
    if isinstance(param.type, Value):
        return odd_values.value(rng, param.type.row)
    if name in odd_values.BY_NAME:
        return odd_values.spec(rng, name)
    if name in SETTINGS:
        return odd_values.value(rng, SETTINGS[name])
    if isinstance(param.type, click.Choice):
        return rng.choice([*map(str, param.type.choices), *odd_values.TEXTS])
    return rng.choice((*odd_values.PATHS, *odd_values.NUMBERS, *odd_values.TEXTS))


def furnish(folder: Path) -> None:
    """Put files and what is none into a folder, for command lines to name."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "folder").mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(folder / "fifo")
        (folder / "loop").symlink_to("loop")
        (folder / "link").symlink_to("gone")


@contextlib.contextmanager
def nothing_is_started() -> Iterator[None]:
    """Have everything that would start a process raise ``Started`` instead."""
    with contextlib.ExitStack() as held:
        for name in STARTS:
            held.enter_context(mock.patch(name, side_effect=Started("started")))
        held.enter_context(mock.patch("ps.descriptors.claim"))
        held.enter_context(mock.patch("ps.launch.parent.untie"))
        yield


def judge(line: CommandLine) -> str:
    """Run a command line here, in the working directory; return what is wrong with how it ended, or nothing."""
    path = Path("paramserver.toml")
    path.unlink(missing_ok=True)
    if line.toml:
        path.write_text(line.toml)
    out, err = io.StringIO(), io.StringIO()
    before, began = dict(os.environ), time.monotonic()
    modules, search = {*sys.modules}, list(sys.path)
    old = signal.signal(signal.SIGALRM, _hangs)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    code: Any = None
    try:
        os.environ.update(line.env)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_command(line.words)
    except Hangs:
        return f"it hangs: more than {LIMIT:g} s"
    except BaseException as error:
        return f"it raises {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = search
        for name in {*sys.modules} - modules:
            if name in ("plug", "bad", "gone"):
                del sys.modules[name]
    return _verdict(code, err.getvalue(), time.monotonic() - began)


def _verdict(code: int, said: str, seconds: float) -> str:
    lines = [_as_text(line) for line in said.splitlines()]
    if "Traceback" in said:
        return f"a traceback: {lines[-1][:300]}"
    if code not in CODES:
        return f"exit code {code}, which is not documented"
    errors = [line for line in lines if line.startswith("psctl: error: ")]
    if len(errors) != (0 < code < 128) or not all(line.startswith("psctl") for line in lines):
        return f"exit code {code} and not one line for an error: {said[:300]!r}"
    if any(len(line) > LONGEST or not line.isprintable() for line in errors):
        return f"a line of {max(map(len, lines))} characters, or with some that are not to be shown: {said[:200]!r}"
    return ""


def _as_text(line: str) -> str:
    """Return what ``--log-format json`` says as it is said otherwise."""
    if not line.startswith("{"):
        return line
    entry = json.loads(line)
    return f"{entry['process']}: {entry['level']}: {entry['message']}"


def _hangs(number: int, frame: FrameType | None) -> None:
    raise Hangs

"""Compare the exchange of a model: this system, raw limits and other systems, the same work, in turns.

    python scripts/bench/compare.py --quick
    python scripts/bench/compare.py --only one,two,four --json figures.json --plot figures.png
    python scripts/bench/compare.py --markdown - --peers gloo,ddp

The work: N workers each hold a gradient of 40 MB of float32; after a step all have the weights, updated by SGD with
the mean gradient. Every case is checked to do it, then all cases of a setup take turns of many steps each, in an order
that changes from round to round; figures are medians over the turns. Peers that are not installed
(pip install "paramserver[bench]") are left out, with a line; one that fails is reported, and the others go on.
GB/s are of the model, not of the bytes moved; "of memory" are the bytes that a step must read and write, what the
kernel copies included, over what an update in place on two threads reads and writes in the same time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from limits import machine
from outfile import outfile
from race import report
from race.adam import adam
from race.models import models
from race.parts import OTHERS, PARTS, Scale, members, title
from race.plot import plot
from race.targets import targets
from race.turns import Table, take_turns

from ps.config.values import parse_size
from ps.cores import cores

ADAM, MODELS = "adam", "models"
NAMES = (*PARTS, ADAM, MODELS)
QUICK = ("one", "two", "four", "latency", ADAM)


def names_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a reader of names separated by commas, or none, in the order in which they are known."""

    def read(text: str) -> list[str]:
        given = [name.strip() for name in text.split(",") if name.strip() not in ("", "none")]
        for name in given:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return [name for name in known if name in given]

    return read


def size(text: str) -> int:
    """Read a number of bytes of float32."""
    try:
        nbytes = parse_size(text)
    except ValueError:
        nbytes = 0
    if nbytes < 4 or nbytes % 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size of whole float32 numbers, such as 40MB")
    return nbytes


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def duration(text: str) -> float:
    """Read seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time above 0")
    return seconds


def arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", type=names_of(NAMES), metavar="PARTS", help=f"of {','.join(NAMES)} (all; quick: {','.join(QUICK)})"
    )
    parser.add_argument(
        "--peers",
        type=names_of(OTHERS),
        default=list(OTHERS),
        metavar="NAMES",
        help=f"of {','.join(OTHERS)}, or none (all)",
    )
    parser.add_argument("--quick", action="store_true", help="about two minutes: few turns, few points, no sweeps")
    parser.add_argument("--size", type=size, default=40_000_000, help="model of the main tables (40MB)")
    parser.add_argument("--repeats", type=positive, help="turns of each case (9; quick: 5)")
    parser.add_argument("--seconds", type=duration, help="how long a turn is, about (0.4; quick: 0.1)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write all figures and settings")
    parser.add_argument("--plot", type=outfile, metavar="FILE.png", help="draw what was measured")
    parser.add_argument(
        "--markdown",
        type=lambda name: name if name == "-" else outfile(name),
        metavar="FILE",
        help="write the tables for a README; - prints them",
    )
    return parser


def host() -> dict[str, Any]:
    """Return the machine and the versions of all that takes part."""
    found = machine()
    for name in ("paramserver", "pyzmq", "torch", "ray"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def progress(line: str) -> None:
    """Show what is being done, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K  {line} …", end="", file=sys.stderr, flush=True)


def measure(name: str, options: argparse.Namespace, tables: list[Table]) -> None:
    """Measure a part; print and add its tables."""
    repeats = options.repeats or (5 if options.quick else 9)
    seconds = options.seconds or (0.1 if options.quick else 0.4)
    for setup in PARTS[name].setups(Scale(options.size, options.quick)):
        cases, absent = members(name, setup, options.peers)
        where = title(name, setup)
        results = take_turns(setup, cases, repeats, seconds, lambda line, where=where: progress(f"{where}: {line}"))
        progress("")
        tables.append(Table(name, where, setup, results, PARTS[name].x, absent))
        print("", *report.text(tables[-1]), sep="\n", flush=True)
        for case, reason in absent.items():
            print(f"  {case:26}  left out: {reason}", flush=True)


def train(repeats: int) -> dict[str, dict[str, float]]:
    """Measure training steps of ``ps.models`` beside torch's, on one thread and on all; print and return them."""
    found: dict[str, dict[str, float]] = {}
    if importlib.util.find_spec("torch") is None:
        print('\nTraining steps: left out, torch is not installed; pip install "paramserver[bench]"')
        return found
    print("\nTraining steps in one process, in ms")
    for threads in sorted({1, cores()}):
        for words, seconds in models(threads, repeats):
            found[words] = seconds
            figures = "  ".join(f"{case} {taken * 1e3:.2f}" for case, taken in seconds.items())
            print(f"  {words:40}{figures}", flush=True)
    return found


def interrupt(signum: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does: with the children ended and what was measured written."""
    raise KeyboardInterrupt


def main() -> int:
    """Run the comparison. Returns 0; 1 when a case of this system failed; 130 when it was interrupted."""
    options = arguments().parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    here = host()
    print(", ".join(f"{key} {value}" for key, value in here.items()), flush=True)
    tables: list[Table] = []
    updates: dict[str, float] = {}
    steps: dict[str, dict[str, float]] = {}
    interrupted = False
    try:
        for name in options.only or (QUICK if options.quick else NAMES):
            if name == ADAM:
                updates, words = adam(10_000_000, options.repeats or (7 if options.quick else 15))
                print(f"\nAdam, one update of 10 M parameters (fused loop: {words})")
                for case, seconds in updates.items():
                    print(f"  {case:26}{seconds * 1e3:12.1f} ms", flush=True)
            elif name == MODELS:
                steps = train(options.repeats or (7 if options.quick else 31))
            else:
                measure(name, options, tables)
    except KeyboardInterrupt:
        interrupted = True
        print("\ninterrupted; this is what was measured before", file=sys.stderr)
    rows = targets(tables, updates, steps)
    print("\nHow each was set", *report.settings(tables), sep="\n")
    print("\nTargets (compression: compress.py; flat memory: soak.py)", *report.verdicts(rows), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(here, tables, updates, steps, rows), indent=2) + "\n")
    if options.markdown:
        lines = "\n".join(report.markdown(here, tables, updates, steps, rows)) + "\n"
        print("\n" + lines) if options.markdown == "-" else Path(options.markdown).write_text(lines)
    if options.plot:
        words = f"{here['cpu']}, {here['cores']} cores; medians of turns taken in one run"
        print(plot(tables, words, options.plot) or f"plot: {options.plot}")
    failed = any(math.isnan(result.median) and result.case.kind == "ps" for table in tables for result in table.results)
    return 130 if interrupted else int(failed)


if __name__ == "__main__":
    sys.exit(main())

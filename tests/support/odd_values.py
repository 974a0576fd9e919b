"""Odd values: texts that people and programs give for numbers, names, paths and addresses, right ones among them."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.compress import CODECS
from ps.config import Setting
from ps.config.values import ADDRESS, BOOL, DEVICE, INT, MODULES, PATH, SIZE
from ps.optim import OPTIMIZERS, SCHEDULES
from ps.partition import PARTITIONERS
from ps.simulate.availability import AVAILABILITIES
from ps.simulate.speed import BANDWIDTHS, SPEEDS

REGISTRIES = (
    *(AGGREGATORS, ALGORITHMS, AVAILABILITIES, BANDWIDTHS, CODECS, OPTIMIZERS, PARTITIONERS, SCHEDULES, SPEEDS),
)
BY_NAME = {
    "aggregator": AGGREGATORS,
    "algorithm": ALGORITHMS,
    "availability": AVAILABILITIES,
    "bandwidth": BANDWIDTHS,
    "compress": CODECS,
    "optimizer": OPTIMIZERS,
    "local_optimizer": OPTIMIZERS,
    "server_optimizer": OPTIMIZERS,
    "server_schedule": SCHEDULES,
    "partition": PARTITIONERS,
    "non_iid": PARTITIONERS,
    "spec": PARTITIONERS,
    "schedule": SCHEDULES,
    "speed": SPEEDS,
}
WHOLES = (
    "0",
    "1",
    "2",
    "3",
    "7",
    "16",
    "-1",
    "255",
    "65536",
    "2147483648",
    str(1 << 63),
    str(1 << 64),
    "9" * 30,
    "9" * 5000,
)
ODD = (
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1e308",
    "1e-320",
    "-0",
    "0x10",
    "1_000",
    "٣",
    "½",
    "none",
    "true",
    "½",
    "1,2",
)
NUMBERS = (*WHOLES, *ODD, "0.5", "1.5", "1e-3", "1e3", ".5", "5.", "+1", " 4 ", "-0.0", "1e9", "1e12")
TEXTS = (
    "x",
    "a\nb",
    "a b",
    "a\0b",
    "\udcff",
    "\ud800",
    "x" * 5000,
    "--",
    "-",
    "%s%n",
    "{}",
    "'",
    '"',
    "\x1b[31m",
    "☃",
    "mean",
)
SIZES = ("1KiB", "1MiB", "4 MiB", "1.5k", "1TiB", "0", "-1", "99999999GiB", "1iB", "1e6", *ODD)
ADDRESSES = (
    *("127.0.0.1:9", "localhost", "tcp://[::1]:80", "a:99999", "a:٣", "ipc://x", "ipc://", "tcp://", "http://x:1"),
    *("[::1", "x" * 300 + ":1", "a:0", ":1", "*", "0.0.0.0", "tcp://a:1:2", "256.1.1.1:1", *TEXTS),
)
PATHS = (
    *("", ".", "..", "/", "/dev/null", "/dev/zero", "/dev/full", "folder", "folder/x", "fifo", "gone", "gone/x/y"),
    *(
        "file",
        "file/x",
        "script.py",
        "bad.py",
        "link",
        "loop",
        "/proc/self/mem",
        "/proc/self/status",
        "x.json",
        "x.csv",
    ),
    *("damaged.toml", "a" * 300, "a" * 5000, "a\0b", "\udcff.py", "\ud800", "a\nb", "~", "-", "--", "☃.py"),
)
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "cuda:99999999999", "cuda:٣", "gpu", *TEXTS)
MODULE_NAMES = ("gone", "bad", "plug", "a.b", "a..b", ".", "bad.py", "1a", ",", "x" * 2000, *TEXTS)


def spec(rng: random.Random, name: str = "") -> str:
    """Return the text of a spec: mostly one that exists, with numbers that are fine or not."""
    if rng.random() < 0.1:
        return rng.choice(TEXTS + ODD)
    registry = BY_NAME.get(name) or rng.choice(REGISTRIES)
    chosen = rng.choice([*registry])
    numbers = []
    for field in dataclasses.fields(registry[chosen]):
        allowed = field.metadata["range"]
        low, high = max(allowed.at_least, allowed.above), min(allowed.at_most, allowed.below)
        values = [str(low), str(high), repr(low * 2 + 1), "1", "2", rng.choice(NUMBERS)]
        if rng.random() < 0.4:
            numbers.append(f"{field.name}={rng.choice(values)}" if rng.random() < 0.8 else rng.choice(values))
    rng.shuffle(numbers)
    return chosen + (":" + ",".join(numbers) if numbers or rng.random() < 0.05 else "")


def number(rng: random.Random, row: Setting) -> str:
    """Return a text for a number between two ends: at them, beyond them, and quite another."""
    ends = [end for end in (row.low, row.above, row.high) if end is not None]
    near = [
        str(int(end) + by) if row.kind in (INT, SIZE) else repr(end * (1 + by / 10))
        for end in ends
        for by in (-1, 0, 1)
    ]
    small = [str(value) for value in range(1, 6)]
    return (
        rng.choice([*near, *small, *small])
        if rng.random() < 0.6
        else rng.choice(SIZES if row.kind is SIZE else NUMBERS)
    )


def value(rng: random.Random, row: Setting) -> str:
    """Return a text for a setting, right or wrong by its kind."""
    kinds: dict[object, Sequence[str]] = {ADDRESS: ADDRESSES, DEVICE: DEVICES, MODULES: MODULE_NAMES, PATH: PATHS}
    if row.kind.is_number:
        return number(rng, row)
    if row.kind is BOOL:
        return rng.choice(("true", "false", "on", "maybe", *ODD))
    if row.choices:
        return rng.choice(row.choices if rng.random() < 0.8 else TEXTS + ODD)
    if row.name in BY_NAME:
        return spec(rng, row.name)
    return rng.choice(kinds.get(row.kind, (*ADDRESSES, *TEXTS)))

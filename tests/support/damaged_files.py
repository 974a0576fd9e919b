"""Damaged files of every kind that we read: how a good one is made, how it is read, and how it is damaged."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np

from ps import plugins
from ps.compare.record import read as read_record
from ps.config import JobConfig, find_toml, job_from, merge
from ps.data import idx, mnist
from ps.errors import PSError
from ps.launch.rundir import scheduler_of
from ps.launch.summary import fold
from ps.script import Script
from ps.server.scheduler.database import Database
from ps.server.scheduler.persistence import Persistence
from ps.server.scheduler.saved_job import SavedJob
from ps.server.scheduler.state import SchedulerState
from ps.server.shard.federated_shard import FederatedShard
from ps.simulate.model import _module, model_named
from ps.simulate.traces import Recorded
from ps.state_file import StateFile
from ps.trace.merge import merge as merge_parts
from ps.weights_file import open_weights, write_weights
from ps.worker.federated.client_checkpoint import ClientCheckpoint
from ps.worker.federated.delta_encoder import DeltaEncoder
from ps.worker.federated.participation import PendingUpload
from ps.worker.federated.training import Training
from support.delta_parts import Hand

LIMIT = 20.0
"""Seconds after which reading a file of some kilobytes hangs."""
ROOM = 1 << 30
"""Bytes that reading a file of some kilobytes may take."""
HUGE = (
    b"9" * 400,
    b"1e999",
    b"-1",
    b"NaN",
    b"99999999999999999999",
    b"1e308",
    b"null",
    b'"x"',
    b"[]",
    b"{}",
    b"true",
    b"0",
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


class Hangs(BaseException):
    """Reading a file did not come to an end."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: what it is called, what puts a good one at a path, and what reads the one at a path."""

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    is_text: bool = False


def _toml(path: Path) -> None:
    path.write_text('workers = 4\nmode = "ssp"\noptimizer = "adam:lr=0.1"\nwindow = "16MiB"\nover-select = 1.5\n')


def _idx(path: Path) -> None:
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, 4, 28, 28)
    data = header + bytes(4 * 28 * 28)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _npz(path: Path) -> None:
    x, y = np.zeros((4, 8, 8), np.uint8), np.arange(4, dtype=np.uint8)
    save = np.savez if path.name.startswith("plain") else np.savez_compressed
    with path.open("wb") as file:
        save(file, x_train=x, y_train=y, x_test=x, y_test=y)


def _events(path: Path) -> None:
    head = {"name": "paramserver", "ph": "M", "ts": 0, "pid": 1, "tid": 0}
    head["args"] = {"format": 1, "role": "worker", "host": "h", "offset_ns": 5, "token": "x"}
    named = {"name": "process_name", "ph": "M", "ts": 0, "pid": 1, "tid": 0, "args": {"name": "worker 0"}}
    lane = {"name": "thread_name", "ph": "M", "ts": 0, "pid": 1, "tid": 1, "args": {"name": "send"}}
    spans = [
        {"name": "send", "ph": "X", "ts": at, "dur": 2, "pid": 1, "tid": 1, "args": {"chunk": 0, "clock": at}}
        for at in range(5)
    ]
    path.write_text("[\n" + ",\n".join(map(json.dumps, [head, named, lane, *spans])) + "\n]\n")


def _read_trace(path: Path) -> None:
    merge_parts([path], path.with_name("merged.json"), lambda text: None)


def _show_trace(path: Path) -> None:
    from ps.cli.trace import show

    assert show.callback is not None
    show.callback(str(path))


def _server_state(path: Path) -> None:
    hand = Hand(path=str(path.with_suffix(""))).begin()
    hand.upload(1, 1.0)
    hand.order("prepare", [(1, 1.0, 1.0, 1.0)])


def _read_server_state(path: Path) -> None:
    base = path.with_suffix("")
    other = "prepared" if path.suffix == ".model" else "model"
    shutil.copy(GOOD / f"server.{other}", base.with_name(f"{base.name}.{other}"))
    FederatedShard(0, Hand().job, StateFile(str(base)), member=1)


def _client(path: Path) -> tuple[ClientCheckpoint, Training, DeltaEncoder]:
    job = job_from({"mode": "federated", "workers": 2, "optimizer": "sgd:lr=0.5", "compress": "topk:0.1"})
    return ClientCheckpoint(StateFile(str(path.with_suffix(""))), {"rank": 1}), Training(job), DeltaEncoder(job, 1)


def _client_state(path: Path) -> None:
    checkpoint, training, encoder = _client(path)
    training.begin({"float32": np.ones(64, np.float32)}, 0)
    training.step({"float32": np.ones(64, np.float32)})
    training.delta()
    checkpoint.keep(training, encoder, PendingUpload(9, 4, 4, 12.0, 2, {"loss": 0.5}, {0: np.zeros(9, np.uint8)}, 0))


def _read_client_state(path: Path) -> None:
    checkpoint, training, encoder = _client(path)
    checkpoint.restore(training, encoder)


def _database(path: Path) -> None:
    persistence = Persistence(str(path))
    state = SchedulerState({"mode": "federated", "workers": 2, "rounds": 3}, 0.0)
    persistence.keep(state, 0.0)
    persistence.close()
    database = Database(str(path))
    database.save(None, {"round 0": {"round": 0, "selected": 2}})
    database.close()


def _read_database(path: Path) -> None:
    SavedJob.read(path)
    persistence = Persistence(str(path))
    try:
        persistence.restore({"mode": "federated", "workers": 2, "rounds": 3}, 0.0)
    finally:
        persistence.close()


METRICS = [
    {"t": 1.5 + i, "rank": i % 2, "clock": i, "loss": 0.5, "samples": 32, "bytes_up": 9, "wait_s": 0.1}
    for i in range(6)
]
EVALUATIONS = [{"t": 1.5 + i, "rank": 0, "clock": i, "accuracy": 0.5} for i in range(3)]
ROUNDS = [{"round": i, "seconds": 1.0, "selected": 3, "accepted": 2, "refused": {"late": 1}} for i in range(3)]
SUMMARY = [{"mode": "federated", "workers": [{"rank": 0, "steps": 3}], "exits": [], "deaths": []}]
SHARES = [{"rank": i, "labels": {"0": 3, "1": 2}} for i in range(2)]
RECORD = {
    "metrics.jsonl": METRICS,
    "evaluations.jsonl": EVALUATIONS,
    "rounds.jsonl": ROUNDS,
    "summary.json": SUMMARY,
    "shares.jsonl": SHARES,
}


def _record(name: str) -> Callable[[Path], None]:
    return lambda path: path.write_text("\n".join(map(json.dumps, RECORD[name])) + "\n") and None


def _read_record(path: Path) -> None:
    for name in RECORD:
        if name != path.name:
            shutil.copy(GOOD / name, path.with_name(name))
    read_record(path.parent)


def _lines(path: Path) -> None:
    with path.open(errors="replace") as lines:
        fold(lines)


def _python(path: Path) -> None:
    path.write_text("def init(seed):\n    return {}\n\n\nloss_and_grad = predict = accuracy = init\nNUMBER = 12\n")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("__main__.py", "print(1)\n" * 20)


def _model(path: Path) -> None:
    _module.cache_clear()
    try:
        model_named(str(path))
    except PSError:
        raise
    except BaseException as error:  # what the file does itself is its own affair
        frames = traceback.extract_tb(error.__traceback__)
        if not frames or frames[-1].filename != str(path.absolute()):
            raise


def _plugin(path: Path) -> None:
    sys.modules.pop(path.stem, None)
    importlib.invalidate_caches()
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        plugins.load([path.stem])
    finally:
        os.chdir(here)
        sys.modules.pop(path.stem, None)


def _json_rows(path: Path) -> None:
    path.write_text(
        json.dumps([{"seconds_per_step": 0.1, "up": 1e6, "dropout": 0.1, "on": 60, "off": 30}, {"down": 5}])
    )


def _csv_rows(path: Path) -> None:
    path.write_text("seconds_per_step,up,down,dropout,on,off\n0.1,1e6,5e6,0.1,60,30\n0.2,,,,,\n")


def _read_weights(path: Path) -> None:
    with open_weights(path) as file:
        _ = [file.read(name, np.empty(e.stop - e.start, np.uint8)) for name, e in file.entries.items()]


GOOD = Path("good")
"""The folder with the good files, absolute once ``kinds`` was called."""

KINDS = (
    Kind("m.safetensors", lambda path: write_weights(path, {"w": np.ones(3)}, {}), _read_weights),
    Kind("x.toml", _toml, lambda path: merge(JobConfig, toml=find_toml({}, str(path)).values), is_text=True),
    Kind("images.idx", _idx, lambda path: idx.read(path, 3)),
    Kind("images.gz", _idx, lambda path: idx.read(path, 3)),
    Kind("packed.npz", _npz, lambda path: mnist(path)),
    Kind("plain.npz", _npz, lambda path: mnist(path)),
    Kind("traces.json", _json_rows, lambda path: Recorded.read(path), is_text=True),
    Kind("traces.csv", _csv_rows, lambda path: Recorded.read(path), is_text=True),
    Kind("part.json", _events, _read_trace, is_text=True),
    Kind("shown.json", _events, _show_trace, is_text=True),
    Kind("server.model", _server_state, _read_server_state),
    Kind("server.prepared", _server_state, _read_server_state),
    Kind("mine.client", _client_state, _read_client_state),
    Kind("job.db", _database, _read_database),
    *(Kind(name, _record(name), _read_record, is_text=True) for name in RECORD),
    Kind("lines.jsonl", _record("metrics.jsonl"), _lines, is_text=True),
    Kind("scheduler", lambda path: path.write_text("tcp://a:1\n") and None, lambda path: scheduler_of(path.parent)),
    Kind("script.py", _python, lambda path: Script(str(path)).check(), is_text=True),
    Kind("script.zip", _zip, lambda path: Script(str(path)).check()),
    Kind("model.py", _python, _model, is_text=True),
    Kind("plug_in.py", _python, _plugin, is_text=True),
)


def kinds(folder: Path) -> tuple[Kind, ...]:
    """Make a good file of each kind in a folder, and see that each can be read; return the kinds."""
    global GOOD
    GOOD = folder.absolute()
    GOOD.mkdir(parents=True)
    for kind in KINDS:
        kind.make(GOOD / kind.name)
    work = GOOD.with_name("work")
    for kind in KINDS:
        work.mkdir()
        shutil.copy(GOOD / kind.name, work / kind.name)
        kind.read(work / kind.name)
        shutil.rmtree(work)
    return KINDS


def judge(rng: random.Random, kind: Kind, folder: Path) -> tuple[str, str]:
    """Put a damaged file of a kind into a folder of its own and read it; return what was done, and what went wrong."""
    _remove(folder)
    folder.mkdir()
    path = folder / kind.name
    done = damage(rng, kind, path)
    old = signal.signal(signal.SIGALRM, _hangs)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    said = io.StringIO()
    stdout, sys.stdout = sys.stdout, said
    why = ""
    try:
        with _bounded_memory():
            kind.read(path)
    except Hangs:
        why = f"{kind.name}: it hangs: more than {LIMIT:g} s"
    except PSError as error:
        if "\n" in str(error) or len(str(error)) > 2000:
            why = f"{kind.name}: more than a line: {str(error)[:200]!r}"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{kind.name}: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        sys.stdout = stdout
    return f"{kind.name}, {done}", why


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """Have whoever reads without an end run out of memory before the machine does."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    limits = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def damage(rng: random.Random, kind: Kind, path: Path) -> str:
    """Put a damaged file of a kind at a path; return how it was damaged, in a few words."""
    data = bytearray((GOOD / kind.name).read_bytes())
    way = rng.choice(("flip", "flip", "cut", "insert", "number", "number", "other", "special"))
    if way == "special":
        return _special(rng, kind, path)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(data)) if data else 0
        if way == "flip" and data:
            data[at] ^= 1 << rng.randrange(8)
        elif way == "cut":
            data = data[:at] if rng.random() < 0.5 else data[:at] + data[at + rng.randrange(1, 50) :]
        elif way == "insert":
            data[at:at] = rng.choice(
                (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"[" * 9000, b"{", b'"', rng.randbytes(9))
            )
        elif way == "number" and (found := [*_NUMBER.finditer(data)]):
            match = rng.choice(found)
            data[match.start() : match.end()] = (
                rng.choice(HUGE) if kind.is_text else rng.randbytes(match.end() - match.start())
            )
        elif way == "other":
            other = (GOOD / rng.choice(KINDS).name).read_bytes()
            data = bytearray(
                rng.choice((other, data + other, b"", b"\xef\xbb\xbf" + data, data + data, rng.randbytes(99)))
            )
    path.write_bytes(data)
    return f"{way}: {bytes(data[:60])!r}…"


def _special(rng: random.Random, kind: Kind, path: Path) -> str:
    what = rng.choice(("fifo", "folder", "zero", "gone", "loop", "device"))
    if kind.read is _lines:
        what = "empty"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "zero":
        path.symlink_to("/dev/zero")
    elif what == "loop":
        path.symlink_to(path.name)
    elif what == "device":
        path.symlink_to("/dev/full")
    elif what == "empty":
        path.write_bytes(b"")
    return what


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _hangs(number: int, frame: FrameType | None) -> None:
    raise Hangs

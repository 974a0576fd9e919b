"""Every command and every block of Python in documents and examples runs, in a folder with what they name.

Which of them, and with what, is in ``support/typed.py``.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.cli.app import psctl
from ps.config import MODES
from ps.trace import start as start_trace
from support.cluster import PSCTL, Process, clean_environment
from support.command_lines import leaves
from support.documents import (
    ROOT,
    SCRIPTS,
    TEXTS,
    Python,
    Session,
    blocks_of_python,
    fenced,
    indented,
    is_command,
    sessions,
    told_by,
)
from support.libraries import demand
from support.long import is_long
from support.typed import (
    BEFORE,
    FILLED,
    FORKED,
    LONG,
    MOST,
    NOT_RUN,
    RUN,
    SHORT,
    TYPED,
    always,
    fits,
    reason,
    short,
    typed_here,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LIBRARIES = ("torch", "jax")
"""Each takes seconds of a core to load, in every worker, as scikit-learn does. So of each one example is trained by two
workers in sync mode, and the others by one; several workers in the other modes are what the examples without have."""


LOGGED = r"[\w ]+ \| "
"""What a line of a log begins with: who said it."""
COLUMNS = 80
CHANCE = 0.1
"""Of being right, in the examples' data."""


def shown(value: Session | Python) -> str:
    return value.lines[0] if isinstance(value, Session) else f"{value.name}: {value.text.splitlines()[0]}"


def pictures_like_mnist(path: Path) -> None:
    """Write small sets in MNIST's form: ten bright patterns in noise, which every model learns in some steps."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2, (10, 28, 28)) * 200
    sets: dict[str, Any] = {}
    for name, size in (("train", 500), ("test", 100)):
        labels = rng.integers(10, size=size)
        noise = rng.integers(0, 56, (size, 28, 28))
        sets |= {f"x_{name}": (patterns[labels] + noise).astype(np.uint8), f"y_{name}": labels.astype(np.uint8)}
    np.savez(path, **sets)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that looks like a clone, with the files that the documents name."""
    for path in ROOT.iterdir():
        if path.name not in (".git", ".venv", "build", "paramserver.toml", "runs"):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "data").mkdir()
    pictures_like_mnist(tmp_path / "data" / "mnist.npz")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    first, *others = blocks_of_python()
    script = re.sub(r"epochs=\d+", "epochs=1", first.text)
    for name in ("train.py", "package/train.py"):
        (tmp_path / name).write_text(script)
    for block in others:
        if named := re.match(r"# (\w+\.py)\n", block.text):
            (tmp_path / named[1]).write_text(block.text)
    for rank, name in enumerate(("a.json", "b.json")):
        trace = start_trace(str(tmp_path / name), "worker", rank)
        trace.add("send", trace.now(), clock=0, chunk=0)
        trace.close()
    return tmp_path


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which JAX keeps what it has compiled: it takes most of the time of a small example."""
    folder = tmp_path_factory.mktemp("compiled")
    always = {"MIN_COMPILE_TIME_SECS": "0", "MIN_ENTRY_SIZE_BYTES": "-1"}
    kept = {f"JAX_PERSISTENT_CACHE_{name}": value for name, value in always.items()}
    return {"JAX_COMPILATION_CACHE_DIR": str(folder), **kept}


@pytest.fixture
def typed(folder: Path, compiled: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """Return a function that types a command in that folder, as whoever has installed the package."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    processes: list[Process] = []

    def run(line: str, fd: int | None = None) -> Process:
        assert shutil.which("psctl", path=path)
        env = clean_environment(
            PATH=path, PS_DATA=str(folder / "data"), **compiled, **({} if fd is None else {"PS_READY_FD": str(fd)})
        )
        fds = [] if fd is None else [fd]
        forked = not is_long() and re.match(FORKED, line) is not None and line not in map(short, TYPED)
        words = [*PSCTL, *shlex.split(line)[1:]] if forked else ["bash", "-c", line]
        loaded = ["torch"] if "torch" in line else []
        processes.append(Process(line, words, env, fds, folder, COLUMNS, forked=forked, loaded=loaded))
        return processes[-1]

    yield run
    for process in processes:
        process.end()
        print(f"--- {process.name}, exit code {process.code}\n{process.text[-3000:]}")


def ended_well(process: Process) -> bool:
    return process.wait(100) == 0 and "Traceback" not in process.text


def too_wide(process: Process) -> list[str]:
    """Return the lines that do not fit the terminal, but for a log's, which are sentences, and those of one word."""
    if process.name.startswith("scripts/"):
        return []  # which are for us
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in process.lines]
    return [
        line for line in lines if len(line.rstrip()) > COLUMNS and " " in line.strip() and not re.match(LOGGED, line)
    ]


def is_role(line: str) -> bool:
    return re.match(r"psctl (scheduler|server|worker) .*(?<!--help)$", line) is not None


def test_every_block_is_known_for_what_it_is() -> None:
    for name, text in TEXTS.items():
        assert {language for language, _ in fenced(text)} <= {"python", "text"}, name
        assert [line for block in indented(text) for line in block if not is_command(line)] == [], name
    assert len(sessions()) > 30 and len(RUN) > 15


def test_what_is_not_run_stands_in_a_document() -> None:
    lines = [line for session in sessions() for line in session.lines]
    assert [begin for begin in NOT_RUN if not any(re.match(begin, line) for line in lines)] == []
    assert [word for word in FILLED if not any(word in line for line in lines)] == []
    assert [flag for flag in MOST if not any(f"{flag} " in line for line in lines)] == []
    assert [begin for begin in LONG if not any(re.match(begin, line) for line in lines)] == []
    assert [line for line in TYPED if line not in lines or not re.match(FORKED, line)] == []
    assert [text for text in SHORT if not any(re.search(text, line) for line in lines)] == []
    assert [begin for begin in BEFORE if not any(begin in fits(block) for block in blocks_of_python())] == []


@pytest.mark.parametrize("session", [typed_here(one) for one in RUN if not any(map(is_role, one.lines))], ids=shown)
def test_what_can_be_typed_ends_well(session: Session, typed: Callable[..., Process]) -> None:
    for line in map(short, session.lines):
        for library in LIBRARIES:
            if library in line:
                demand(library, f"the example is about {library}")
        process = typed(line)
        assert ended_well(process), process.text
        assert too_wide(process) == []
        if "examples" in line and "compare" not in line and "plugins" not in line:
            accuracy = process.wait_for(r"test accuracy ([\d.]+)")
            assert float(accuracy[1]) > 2 * CHANCE


def test_every_command_is_run_by_a_line_of_a_document() -> None:
    lines = [line for session in filter(always, RUN) for line in session.lines if "--help" not in line]
    run = {found[1] for line in lines if (found := re.search(r"psctl (((trace|pipeline) )?\w+)", line))}
    assert run == {" ".join(path) for path, _ in leaves(psctl) if not reason(f"psctl {' '.join(path)} ")}


def test_every_example_always_runs_as_a_worker() -> None:
    lines = [line for session in filter(always, RUN) for line in session.lines]
    for name, text in SCRIPTS.items():
        told = [line for line in told_by(text) if line.startswith("psctl run ") and not reason(line)]
        assert not told or set(told) & set(lines), name


@pytest.mark.parametrize("name", [name for name, text in SCRIPTS.items() if "kv.step(" in text])
def test_an_example_tells_how_it_is_run_in_every_mode(name: str) -> None:
    told, page = told_by(SCRIPTS[name]), ast.get_docstring(ast.parse(SCRIPTS[name])) or ""
    assert max(map(len, page.splitlines())) <= COLUMNS
    assert any(line.startswith("python ") for line in told)
    modes = {(re.findall(r"--mode (\w+)", line) or ["sync"])[0] for line in told if line.startswith("psctl run ")}
    assert modes == {mode for mode, traits in MODES.items() if not traits.pipeline}


def test_an_example_of_a_pipeline_tells_how_its_stages_are_run_on_several_workers() -> None:
    of_pipelines = {name: told_by(text) for name, text in SCRIPTS.items() if "ps.Pipeline(" in text}
    assert of_pipelines
    for name, told in of_pipelines.items():
        assert any("--mode pipeline" in line for line in told), name


@pytest.mark.parametrize("session", [one for one in RUN if any(map(is_role, one.lines))], ids=shown)
def test_the_roles_of_several_machines_make_a_job(session: Session, typed: Callable[..., Process]) -> None:
    first, *others = map(short, session.lines)
    read, write = os.pipe()
    roles = [typed(first, write)]
    os.close(write)
    with os.fdopen(read) as ready:
        assert ready.readline().strip(), roles[0].wait()
    workers = [line for line in others if line.startswith("psctl worker ")]
    roles += [typed(line) for line in others if is_role(line) and line not in workers]
    for line in others:  # while nothing has ended yet
        if not is_role(line):
            process = typed(line)
            assert ended_well(process), process.text
            assert too_wide(process) == []
    wanted = re.search(r"-w (\d+)", first)
    assert wanted is not None
    roles += [typed(line) for line in workers for _ in range(int(wanted[1]) // len(workers))]
    for role in roles:
        assert ended_well(role), f"{role.name}: {role.text}"


@pytest.mark.parametrize("block", blocks_of_python(), ids=shown)
def test_a_block_of_python_runs(block: Python, folder: Path, typed: Callable[..., Process]) -> None:
    before = "".join(BEFORE[begin] for begin in fits(block))
    for library in LIBRARIES:
        if f"import {library}" in block.text:
            demand(library, f"the block is about {library}")
    text = re.sub(r"epochs=\d+", "epochs=1", block.text)
    (folder / "block.py").write_text(before + text)
    federated = "psctl run -w 2 --mode federated --rounds 1 block.py"
    process = typed(federated if "ps.federated" in text else "python block.py")
    assert ended_well(process), process.text

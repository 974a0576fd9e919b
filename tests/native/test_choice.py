"""Promises of the choice of kernels: whoever has no compiled loops has NumPy's, quietly, and is told if asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import ps
from ps import native
from ps.cli import main
from ps.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = "import sys; sys.modules['ps.native._kernels'] = None; "
LOOK = "from ps import native; print(native.running(), native.kernels() is None)"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = native._used
    yield
    native._used = before


def python(code: str, **env: str) -> str:
    environ = {key: value for key, value in os.environ.items() if key != "PS_KERNELS"} | env
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_process_takes_the_compiled_loops_unless_a_variable_says_numpy() -> None:
    expected = "numpy True" if native._found is None else "native False"
    assert python(LOOK) == python(LOOK, PS_KERNELS="auto") == expected
    assert python(LOOK, PS_KERNELS="numpy") == "numpy True"


def test_where_nothing_was_compiled_numpy_runs_without_a_word() -> None:
    assert python(WITHOUT + LOOK) == "numpy True"
    train = (
        "import ps, numpy as np\nwith ps.connect() as kv:\n p = kv.init({'w': np.ones(3)}); kv.step({'w': np.ones(3)})"
    )
    assert python(WITHOUT.replace("; ", "\n") + train + "\nprint(p['w'][0])") == "0.9"


def test_loops_of_another_version_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stale = mock.Mock(VERSION=native.VERSION + 1)
    monkeypatch.setitem(sys.modules, "ps.native._kernels", stale)
    found, reason = native._compiled()
    assert found is None and "install it again" in reason


def test_native_where_nothing_was_compiled_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_found", None)
    monkeypatch.setattr(native, "_missing", "none were compiled")
    monkeypatch.setenv("PS_KERNELS", "native")
    with pytest.raises(ConfigError, match=r"kernels = native: none were compiled\. A C compiler and pip install"):
        ps.connect()


@pytest.mark.parametrize("choice", native.CHOICES)
def test_connect_takes_the_kernels_that_the_variable_names(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if choice == native.NATIVE and native._found is None:
        pytest.skip("nothing was compiled")
    monkeypatch.setenv("PS_KERNELS", choice)
    with ps.connect():
        assert native.running() == ("numpy" if choice == "numpy" or native._found is None else "native")


def test_config_says_which_kernels_run_and_why_not_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(*flags: str) -> str:
        assert main(["config", "--json", *flags]) == 0
        return str(json.loads(capsys.readouterr().out)["kernels"]["text"])

    monkeypatch.setattr(native, "_found", mock.Mock())
    assert shown() == "auto (native)"
    assert shown("--kernels", "native") == "native"
    monkeypatch.setattr(native, "_found", None)
    monkeypatch.setattr(native, "_missing", "none were compiled")
    assert shown() == "auto (numpy: none were compiled)"
    assert shown("--kernels", "numpy") == "numpy"
    assert main(["config", "--kernels", "c"]) == 2
    assert "must be one of auto, native, numpy" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["cc", "false"])
def test_an_installation_never_fails_for_want_of_a_compiler(compiler: str, tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    (copy / "ps/native").mkdir(parents=True)
    (copy / "ps/__init__.py").touch()
    for path in (ROOT / "ps/native").iterdir():
        if path.suffix in (".py", ".c", ".h"):
            (copy / "ps/native" / path.name).write_bytes(path.read_bytes())
    environ = {**os.environ, "CC": compiler}
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=copy, env=environ, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.whl"))) == 1

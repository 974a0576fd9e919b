"""Promises of plug-ins: a module outside of the package adds one of each kind, and jobs train with them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import plugins
from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.cli import main
from ps.compress import CODECS
from ps.config import JobConfig
from ps.errors import ConfigError
from ps.number import number
from ps.optim import OPTIMIZERS, SCHEDULES
from ps.partition import PARTITIONERS, partition
from ps.testing import LocalCluster

EXAMPLES = Path(__file__).parents[1] / "ps" / "examples"
REGISTRIES = (OPTIMIZERS, SCHEDULES, CODECS, AGGREGATORS, ALGORITHMS, PARTITIONERS)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have registries, modules and the environment afterwards as they were before."""
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_definitions", dict(registry))
    monkeypatch.setenv("PS_PLUGINS", "")
    yield
    for name in ("plugins", "mine"):
        sys.modules.pop(name, None)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    plugins.load(["plugins"])


NAMES = ("signum", "triangle", "single", "vote", "halfway", "stripes")


def test_a_module_of_the_current_directory_adds_one_of_each_kind(loaded: None) -> None:
    assert [name in registry for name, registry in zip(NAMES, REGISTRIES, strict=True)] == [True] * 6
    assert str(EXAMPLES) not in sys.path
    plugins.load(["plugins"])  # again, as the script of a worker does


def test_synchronous_training_uses_the_plug_ins_of_gradients(loaded: None) -> None:
    target = np.random.default_rng(0).standard_normal(50)

    def script(kv: Any) -> np.ndarray:
        params = kv.init({"w": np.zeros(50)})
        for _ in range(120):
            kv.step({"w": np.full(50, np.float64(1e4)) if kv.rank == 0 else params["w"] - target})
        return params["w"].copy()

    job = {"optimizer": "signum:0.2,beta=0", "schedule": "triangle:120", "aggregator": "vote", "compress": "single"}
    with LocalCluster(workers=3, transport="tcp", **job) as cluster:
        found = cluster.run(script, script, script)
    assert all((one == found[0]).all() for one in found)
    assert np.abs(found[0] - target).max() < 0.05


def test_a_federation_uses_the_plug_ins_of_rounds(loaded: None, capsys: pytest.CaptureFixture[str]) -> None:
    """In processes of its own, which load what this one was told to load."""
    job = ("--algorithm", "halfway:0.8", "--partition", "stripes", "--local-optimizer", "signum:0.01")
    args = ("--clients", "6", "--rounds", "8", "--dataset", "digits", "--local-epochs", "2", "--target", "0.8")
    assert main(["simulate", "--plugin", "plugins", *job, *args]) == 0, capsys.readouterr().err
    assert "not reached" not in capsys.readouterr().out


def test_a_partition_of_a_plug_in_divides(loaded: None) -> None:
    assert partition("stripes", np.zeros(7, np.int64), 2).shares[0].tolist() == [0, 2, 4, 6]


def test_a_script_alone_loads_what_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import numpy as np, ps\nwith ps.connect(optimizer='signum:1,beta=0') as kv:\n"
        "    params = kv.init({'w': np.zeros(2)})\n    kv.step({'w': np.array([3.0, -9.0])})\n    print(params['w'])\n"
    )
    env = {"PS_PLUGINS": "plugins", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(script)]
    ended = subprocess.run(command, cwd=EXAMPLES, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, "[-1.  1.]\n"), ended.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "plug-in mine cannot be imported: ModuleNotFoundError: No module named 'mine'"),
        ("1 / 0", "plug-in mine cannot be imported: ZeroDivisionError: division by zero"),
        (
            "from ps.plugins import optimizer\n@optimizer('adam')\nclass A: pass",
            "plug-in mine: there is a optimizer 'adam' already, ps.optim.adam.Adam",
        ),
    ],
)
def test_a_module_that_cannot_be_loaded_is_told_of_in_a_line(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["config", "--plugin", "mine"]) == ConfigError.exit_code
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_file_name_is_no_module(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--plugin", "./mine.py"]) == ConfigError.exit_code
    assert "plugins = './mine.py'" in (said := capsys.readouterr().err) or "mine.py" in said
    assert "without .py" in said


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_an_unknown_name_is_refused_with_a_word_on_plug_ins(registry: Any) -> None:
    with pytest.raises(ConfigError, match=f"unknown {registry.kind} 'mine'; .*there are .*--plugin"):
        registry.parse("mine:1")


def test_a_definition_that_lacks_what_its_interface_has_is_refused() -> None:
    @dataclass(frozen=True)
    class Short:
        lr: float = number(0.1)

    with pytest.raises(
        ConfigError, match="optimizer 'short' lacks constants, coupled, init, kernel, linear, slots, up"
    ):
        plugins.optimizer("short")(Short)


def test_a_definition_must_be_a_dataclass_of_numbers() -> None:
    with pytest.raises(ConfigError, match="must be a dataclass"):
        plugins.partition("plain")(type("Plain", (), {}))

    @dataclass(frozen=True)
    class Undeclared:
        k: int = 3

    with pytest.raises(ConfigError, match=r"declare k with ps\.plugins\.number"):
        plugins.partition("undeclared")(Undeclared)
    with pytest.raises(ConfigError, match="letters, digits and underscores only"):
        plugins.partition("a:b")(Undeclared)


def test_what_was_received_names_and_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job as it comes over the network has no setting of plug-ins, and an unknown name is refused."""
    monkeypatch.chdir(EXAMPLES)
    with pytest.raises(ConfigError, match="'plugins' that this version does not know"):
        JobConfig.from_dict({"plugins": "plugins"})
    with pytest.raises(ConfigError, match="--plugin"):
        JobConfig.from_dict({"optimizer": "signum"})
    assert "signum" not in OPTIMIZERS

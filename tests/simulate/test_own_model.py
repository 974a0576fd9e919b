"""Promises of models of one's own: a file is trained as our models are, and what it lacks is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ps.cli import main
from ps.errors import ConfigError
from ps.simulate.model import model_named

MODEL = """
import numpy as np
from ps.models import softmax
from ps.models.softmax import accuracy, loss_and_grad, predict

def init(seed):
    return softmax.init([6, 3], seed=seed)

def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 6)).astype(np.float32)
    y = x[:, :3].argmax(axis=1)
    return (x[:300], y[:300]), (x[300:], y[300:])
"""


def test_a_model_in_a_file_with_its_own_data_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    asked = ["--clients", "6", "--rounds", "8", "--optimizer", "sgd:lr=0.5", "--processes", "1", "--json", "-"]
    assert main(["simulate", "--model", str(tmp_path / "mine.py"), *asked]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.8


def test_what_a_file_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "half.py").write_text("def init(seed): ...\ndef predict(params, x): ...\n")
    with pytest.raises(ConfigError, match=r"half\.py has no function loss_and_grad, accuracy"):
        model_named(str(tmp_path / "half.py"))
    with pytest.raises(ConfigError, match=r"there is no model .*none\.py"):
        model_named(str(tmp_path / "none.py"))


def test_a_file_without_data_wants_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MODEL.partition("def data")[0])
    assert main(["simulate", "--model", str(tmp_path / "mine.py")]) == 2
    assert "no function data; say which examples" in capsys.readouterr().err

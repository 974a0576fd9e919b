"""Promises of models of one's own: a file is trained as our models are, and what it lacks is named."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ps.cli import main
from ps.errors import ConfigError
from ps.simulate.model import model_named

pytestmark = pytest.mark.usefixtures("forked_roles")


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what lies beside a model's file be importable for its own test only."""
    monkeypatch.setattr(sys, "path", list(sys.path))


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


CLIENT_DATA = """
def client_data(client):
    x, y = data()[0]
    return x[y == client % 3][: 5 + client], y[y == client % 3][: 5 + client]

def test_data():
    return data()[1]
"""

FIT = """
import numpy as np
import beside

def init(seed):
    return {"w": np.zeros(3, np.float32)}

def client_size(client):
    return 10 * (client + 1)

def fit(params, round):
    if round.client == 5:
        return params, 0
    if round.client == 4:
        return {"w": params["w"] * np.nan}, 7
    step = 0.5 * (beside.AIM - params["w"])
    return {"w": params["w"] + step.astype(np.float32)}, 10, {"steps": 2, "left": float(abs(step).max())}

def evaluate(params):
    return {"accuracy": 1 - float(abs(params["w"] - beside.AIM).max())}
"""

ALONE = FIT.replace("import beside", "").replace("beside.AIM", "1")


def reported(argv: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["simulate", *argv, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_each_client_trains_on_what_the_file_gives_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(MODEL + CLIENT_DATA)
    asked = ["--model", str(tmp_path / "mine.py"), "--clients", "6", "--rounds", "40", "--batch-size", "0"]
    asked += ["--clients-per-round", "6", "--over-select", "1", "--optimizer", "sgd:lr=0.5", "--local-steps", "1"]
    found = reported([*asked, "--processes", "2"], capsys)
    assert found["history"][0]["examples"] == sum(5 + client for client in range(6))
    assert found["accuracy"] > 0.7 and found["job"]["partition"] == "own"
    assert found == {
        **reported([*asked, "--optimizer", "sgd:lr=0.5", "--local-steps", "1"], capsys),
        "real": found["real"],
    }


def test_a_function_of_ones_own_trains_and_may_sit_a_round_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(FIT)
    (tmp_path / "beside.py").write_text("AIM = 0.25\n")
    asked = ["--model", str(tmp_path / "mine.py"), "--clients", "6", "--rounds", "6", "--speed", "constant:step=1"]
    asked += ["--clients-per-round", "6", "--min-clients", "1", "--round-deadline", "100", "--batch-size", "10"]
    found = reported([*asked, "--processes", "2"], capsys)
    assert found["accuracy"] > 0.99 and found["client_accuracy"] == {}
    first = found["history"][0]
    assert (first["clients"], first["examples"], first["steps"]) == ([0, 1, 2, 3], 40, 8)
    assert first["metrics"]["left"]["max"] == 0.125
    assert found["tasks"]["refused"]["declined"] >= 2
    assert found["virtual_s"] >= 6 * 4, "client 3 has 40 examples: four batches a round"


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        (MODEL + CLIENT_DATA, ["--partition", "iid"], "says what each client has: leave --partition out"),
        (MODEL + CLIENT_DATA.partition("def test_data")[0], [], "but no test_data()"),
        (MODEL + CLIENT_DATA.replace("5 + client", "client"), [], "client_data(0) of"),
        (
            ALONE.replace("np.float32)}\n\n", "np.int64)}\n\n"),
            [],
            "'w' as int64",
        ),
        (ALONE + "client_size = lambda client: 0", [], "says that client 0 has 0 examples"),
        (ALONE, ["--dataset", "digits"], "leave --dataset and --data out"),
        (ALONE, ["--algorithm", "scaffold"], "corrects each local step"),
        (ALONE.replace("def evaluate", "def evaluat"), [], "has no function evaluate"),
        (
            ALONE.replace('"accuracy"', '"loss"').replace("beside.AIM", "1"),
            [],
            "no accuracy",
        ),
    ],
)
def test_what_a_file_says_and_cannot_be_is_one_line(
    text: str, more: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(text)
    assert main(["simulate", "--model", str(tmp_path / "mine.py"), "--clients", "4", "--processes", "1", *more]) == 2
    told = capsys.readouterr()
    assert words in told.err and told.err.count("\n") == 1


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

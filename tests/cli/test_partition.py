"""Promises of psctl partition: what clients hold can be seen in any width, and read by a program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ps.cli import main
from ps.cli.holdings import Holdings, skew
from ps.cli.picture import picture
from ps.data import digits, partition


def drawn(spec: str, clients: int, labels: np.ndarray, *, width: int = 80, most: int = 20, color: bool = False) -> str:
    holdings = Holdings.of("set", partition(spec, labels, clients), labels)
    console = Console(width=width, highlight=False, force_terminal=color, color_system="standard" if color else None)
    with console.capture() as captured:
        console.print(picture(holdings, width, most))
    return captured.get()


def rows(page: str) -> dict[str, str]:
    """Return the picture's lines by client number."""
    return {line.split()[0]: line for line in page.splitlines() if line[:7].strip().replace(",", "").isdigit()}


def test_the_picture_has_a_row_for_each_client_its_labels_and_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", "labels:1", "--clients", "10", "--dataset", "digits"]) == 0
    page = capsys.readouterr().out
    train, _ = digits()
    assert page.startswith(f"digits: {len(train):,} examples over 10 clients, labels:k=1, seed 0\n")
    found = rows(page)
    assert list(found) == [str(client) for client in range(10)]
    division = partition("labels:1", train.y, 10)
    heads = next(line for line in page.splitlines() if line.startswith(" client"))
    for client in range(10):
        line, [label] = found[str(client)], set(train.y[division.share(client)])
        assert line[9:48].strip() == "███"
        assert line[heads.index(str(label))] == "█"
        assert line.split()[2] == str(len(division.share(client)))


def test_shades_tell_few_from_many_and_none() -> None:
    labels = np.repeat(np.arange(6), [2, 10, 25, 63, 100, 300])
    page = drawn("iid", 1, labels)
    assert rows(page)["0"].split()[1:6] == ["·", "·", "·", "░░░", "▒▒▒"] and "▓▓▓" in rows(page)["0"]
    assert "of a client's examples:  · to 5%  ░ to 15%  ▒ to 40%  ▓ to 75%  █ more" in page


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize(("classes", "clients"), [(2, 3), (10, 1000), (62, 100), (256, 2000)])
def test_it_fits_the_terminal_whatever_is_divided(width: int, classes: int, clients: int) -> None:
    labels = np.arange(6000) % classes
    page = drawn("dirichlet:0.3", clients, labels, width=width)
    assert max(map(len, page.splitlines())) <= width
    found = rows(page)
    assert len(found) == min(20, clients)
    assert len({len(line.rstrip("▏▎▍▌▋▊▉█")) for line in found.values()}) == 1, "sizes stand below each other"
    assert all(line[-1] in "▏▎▍▌▋▊▉█" for line in found.values()), "the smallest bar shows"


def test_of_many_clients_a_sample_is_shown_and_all_of_them_counted() -> None:
    page = drawn("quantity:0.5", 1000, np.arange(6000) % 10, most=5)
    assert list(rows(page)) == ["0", "250", "500", "749", "999"]
    assert "5 of 1,000 clients, at equal distances" in page
    assert "clients by size: 1 " in page
    assert "clients by size" not in drawn("iid", 1000, np.arange(6000) % 10), "all have the same"
    few = drawn("quantity:0.5", 5, np.arange(6000) % 10, most=5)
    assert "at equal distances" not in few and "clients by size" not in few


def test_colours_are_added_and_nothing_else_depends_on_them() -> None:
    labels = np.arange(600) % 10
    with_colours = drawn("dirichlet:0.3", 5, labels, color=True)
    assert "\x1b[" in with_colours
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        from rich.text import Text

        console.print(Text.from_ansi(with_colours))
    assert captured.get().split() == drawn("dirichlet:0.3", 5, labels).split()


def test_the_noise_of_features_is_told() -> None:
    assert "noise of deviation 0 for client 0 up to 0.375 for the last" in drawn("features:0.5", 4, np.arange(40) % 2)
    assert "noise" not in drawn("iid", 4, np.arange(40) % 2)


def test_json_has_every_client_s_counts_and_the_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["partition", "shards:2", "--clients", "30", "--seed", "4", "--dataset", "digits", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    train, _ = digits()
    counts = partition("shards:2", train.y, 30, 4).histogram(train.y)
    assert found["counts"] == counts.tolist() and found["sizes"] == counts.sum(axis=1).tolist()
    assert (found["partition"], found["dataset"], found["clients"], found["seed"]) == (
        "shards:count=2",
        "digits",
        30,
        4,
    )
    assert found["examples"] == len(train) and found["labels"] == list(range(10))
    held = (counts > 0).sum(axis=1)
    measures = found["measures"]["labels"]
    assert (measures["smallest"], measures["largest"]) == (held.min(), held.max())
    assert measures["median"] == np.median(held) and measures["mean"] == pytest.approx(held.mean())
    assert found["measures"]["skew"]["mean"] > 0.5 > found["measures"]["skew"]["iid_mean"]


def test_skew_is_the_distance_between_distributions() -> None:
    assert skew(np.array([[10, 10], [30, 30]])).tolist() == [0, 0]
    assert skew(np.array([[20, 0], [0, 20]])).tolist() == [0.5, 0.5]
    assert skew(np.array([[1, 0], [0, 999]]))[0] == pytest.approx(0.999)


def test_mnist_is_looked_for_where_data_and_the_variable_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = np.zeros((20, 2, 2), np.uint8), np.arange(20, dtype=np.uint8) % 4
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert main(["partition", "iid", "--clients", "2", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("mnist: 20 examples over 2 clients")
    monkeypatch.setenv("PS_DATA", str(tmp_path))
    assert main(["partition", "iid", "--clients", "2"]) == 0
    assert capsys.readouterr().out.startswith("mnist: 20 examples")
    assert main(["partition", "iid", "--clients", "2", "--dataset", "digits"]) == 0
    assert capsys.readouterr().out.startswith("digits: ")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "Missing argument 'SPEC'"),
        (["shard"], "unknown partition 'shard'; did you mean 'shards'?"),
        (["own"], "each client brings its own data. Try: psctl partition iid"),
        (
            ["iid", "--clients", "0"],
            "clients = '0' (flag --clients): must be a whole number, at least 1 and at most 1000000",
        ),
        (["iid", "--clients", "9999"], "examples are too few for 9999 clients"),
        (["iid", "--dataset", "cifar"], "Invalid value for '--dataset'"),
        (["iid", "--dataset", "mnist"], "no folder to look for MNIST in. Pass --data DIR or set PS_DATA"),
        (["iid", "--dataset", "digits", "--data", "x"], "leave one of them out"),
        (["iid", "--data", "gone"], "there is nothing at gone"),
    ],
)
def test_what_cannot_be_meant_gets_one_line_and_exit_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["partition", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("psctl: error: ") and shown.err.count("\n") == 1
    assert words in shown.err

"""Promises of psctl demo: it trains in any folder, with nothing else installed, and what it says to try next exists."""

from __future__ import annotations

import re
import sys

import pytest

from ps.cli import main
from ps.cli.app import psctl
from ps.cli.demo import MODULE, NEXT
from ps.examples.demo import pictures


@pytest.mark.e2e
@pytest.mark.usefixtures("forked_roles")
def test_it_trains_on_a_cluster_and_says_what_to_try_next(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)  # here; its workers read nothing that lies in this folder
    assert main(["demo", "-s", "1", "-w", "2"]) == 0
    told = capfd.readouterr().out
    accuracy = re.search(r"test accuracy ([\d.]+)", told)
    assert accuracy is not None and float(accuracy[1]) > 0.8
    assert told.index("test accuracy") < told.index("sync finished") < told.index("Try next:")
    assert f"That was:\n  psctl run --servers 1 --workers 2 -m {MODULE}\n" in told
    path = re.search(r"copy and change:\n  (.*)", told)
    assert path is not None and path[1].endswith("ps/examples/demo.py")


def test_what_it_says_to_try_next_are_commands_with_flags_that_they_have() -> None:
    tried = re.findall(r"^ +psctl (\w+)(.*?)(?:   |$)", NEXT, re.MULTILINE)
    assert {name for name, _ in tried} == {"demo", "compare", "simulate", "run"}
    for name, words in tried:
        known = {flag for param in psctl.load()[name].params for flag in param.opts} | {"--help", "-m"}
        assert set(re.findall(r"(?<= )-+[a-z-]+", words)) <= known


def test_its_pictures_are_the_same_for_a_seed_and_of_all_kinds() -> None:
    one, again, other = pictures(300, 1), pictures(300, 1), pictures(300, 2)
    assert (one.x == again.x).all() and (one.y == again.y).all() and not (one.y == other.y).all()
    assert one.x.shape == (300, 144) and set(one.y) == set(range(10))

"""Promise: a group's text says which worker gives the gradients of its tensors, whatever else it says."""

from __future__ import annotations

import pytest

from ps.optim.group import Group, divide


@pytest.mark.parametrize(("part", "giver"), [("0", 0), ("12", 12), ("3+0", 3), ("", None), ("x", None), ("+1", None)])
def test_the_first_place_of_a_part_gives(part: str, giver: int | None) -> None:
    assert Group("biases", (("lr", 0.1),), part).giver == giver
    if part:
        assert Group.read(divide({"a": "biases lr=0.1"}, {"a": part})["a"]).giver == giver

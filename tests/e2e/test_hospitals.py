"""The example of three hospitals: each party with keys of its own, over CURVE, to a good end."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import ps
from support.cluster import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

EXAMPLE = Path(ps.__file__).parent.parent / "scripts" / "examples" / "hospitals"
TRY = (sys.executable, str(EXAMPLE / "try_it.py"))


@pytest.mark.parametrize("secure", ["helper", "pairwise"])
def test_three_hospitals_with_keys_of_their_own_train_one_model(command: Callable[..., Process], secure: str) -> None:
    tried = command("--secure", secure, "--rounds", 3, program=TRY)
    assert tried.wait(100) == 0, tried.text
    found = re.findall(r"accuracy (0\.\d{4})", tried.text)
    assert len(found) == 3 and len(set(found)) == 1, "all have the same model"
    assert "all ended well" in tried.text


def test_the_containers_list_whom_the_processes_list() -> None:
    sys.path.insert(0, str(EXAMPLE))
    try:
        import try_it
    finally:
        sys.path.remove(str(EXAMPLE))
    services = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]
    names = {service["environment"]["NAME"]: service["environment"] for service in services.values()}
    assert {name: about["ROLE"] for name, about in names.items()} == try_it.ROLES
    assert {name: set(about["LISTS"].split()) for name, about in names.items()} == {
        name: set(others) for name, others in try_it.LISTS.items()
    }

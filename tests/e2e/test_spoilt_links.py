"""What is under way on a connection that breaks is lost, and made good: nothing waits for ever for what never comes."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.cluster import SCRIPTS, Process
from support.links import Links
from support.nightly import protected

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]
SCRIPT = str(SCRIPTS / "replicated.py")
TIMEOUT, SLACK = 2, 6.0
JOB = ("-s", 1, "-w", 1, "--mode", "async", "--transport", "tcp", "--heartbeat-timeout", TIMEOUT, "--restarts", 3)


@pytest.fixture
def links(tmp_path: Path) -> Iterator[Links]:
    with contextlib.closing(Links()) as links:
        (tmp_path / "links.toml").write_text(links.settings)
        yield links


def test_records_that_a_standby_never_got_keep_nobody_waiting(
    command: Callable[..., Process], links: Links, tmp_path: Path
) -> None:
    run = command("run", "--config", tmp_path / "links.toml", *JOB, "--replicas", 1, SCRIPT, 250, 0.01)
    for _ in range(2):  # the second time it may be another standby
        protected(run, servers=1)
        for port in links.ports[1:]:  # the scheduler was the first
            links.hold(port, 0.3)
        time.sleep(0.5)
    assert run.wait(60) == 0, run.text
    found = re.search(r"longest step ([\d.]+) s", run.text)
    assert found is not None and float(found[1]) < TIMEOUT + 1 + SLACK, run.text

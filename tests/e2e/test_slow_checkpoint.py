"""Promises of checkpoints on a slow file system: the end waits for the last one, or says what is whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.checkpoint.lives import Lives
from ps.checkpoint.place import place
from support.cluster import SCRIPTS, Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

pytest.importorskip("fsspec")
SLOW = """
import os, time
import fsspec
from fsspec.implementations.local import LocalFileSystem

class Slow(LocalFileSystem):
    protocol = "slow"

    def _open(self, path, mode="rb", **more):
        if "w" in mode and os.path.basename(path).startswith("server-") and "step-" in path:
            time.sleep(float(os.environ["SLOW"]))
        return super()._open(path, mode, **more)

fsspec.register_implementation("slow", Slow)
"""


@pytest.mark.parametrize(("seconds", "code"), [(1.5, 0), (60, 9)])
def test_the_end_waits_for_a_slow_last_checkpoint_within_the_grace_or_names_the_newest(
    command: Callable[..., Process], tmp_path: Path, seconds: float, code: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    folder, grace = tmp_path / "kept", 20 if not code else 4
    flags = ("-w", 1, "--grace", grace, "--chunk-size", 4096, "--checkpoint-dir", f"slow://{folder}")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    script = str(SCRIPTS / "resumed.py")
    run = command("run", *flags, "--checkpoint-every", 10, script, "--epochs", 2, PYTHONPATH=path, SLOW=str(seconds))
    assert run.wait(60) == code, run.text
    assert re.search(r"END 0 32 ", run.text), "training waits for no checkpoint"
    lives = Lives(place(str(folder)))
    if code:
        assert "none is whole" in run.text and not lives.manifests(), run.text
    else:
        newest = lives.newest(lives.life(1))
        assert newest is not None and (newest.step, newest.ended) == (32, True), run.text

"""The image and compose.yaml on a real engine, where one answers; scripts/containers/try_engine.py has all trials."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "containers" / "try_engine.py"


def missing(base: str) -> str:
    """Return why no image can be built here; nothing if one can."""
    try:
        found = subprocess.run(["docker", "image", "inspect", base], capture_output=True, text=True, check=False)
    except OSError:
        return "docker is not installed"
    return f"{found.stderr.strip()} (BASE names another image to start from)" if found.returncode else ""


def test_without_an_engine_a_line_says_so() -> None:
    env = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = subprocess.run([sys.executable, SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"no engine can be tried here: .+\n", done.stderr)


@pytest.mark.e2e
@pytest.mark.timeout(1500)
@pytest.mark.long("test_compose.py holds the files together without an engine")
def test_a_job_trains_in_containers() -> None:
    (default,) = re.findall(r"^ARG BASE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    base = os.environ.get("BASE") or default
    if why := missing(base):
        pytest.skip(f"no engine, or no base for an image: {why}")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--base", base, "whole"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]

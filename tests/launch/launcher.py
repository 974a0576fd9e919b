"""Runs a cluster of fake processes: what ``psctl run`` does, with another program for the roles."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ps.config import ProcessConfig
from ps.errors import PSError
from ps.launch.cluster import run
from ps.launch.plan import Plan
from ps.launch.screen import Screen
from ps.script import Script
from ps.sink import kept_going


def fetch(address: str, timeout: float) -> Mapping[str, Any]:
    if "FAKE_STATUS" not in os.environ:
        raise OSError("no status")
    text = os.environ["FAKE_STATUS"]
    status: dict[str, Any] = json.loads(text if text.startswith("{") else Path(text).read_text())
    return status


given = json.loads(sys.argv[1])
plan = Plan(
    script=Script(given["script"]),
    args=tuple(given["args"]),
    servers=given["servers"],
    workers=given["workers"],
    job=given.get("job", {"mode": "ssp", "chunk_size": 4096}),
    process=ProcessConfig(**given["process"]),
    program=(sys.executable, str(Path(__file__).with_name("fake.py"))),
)
try:
    with kept_going("stdout", "stderr"):
        code = run(plan, os.environ, Screen(), fetch)
except PSError as error:
    print(f"psctl: error: {error}", file=sys.stderr)
    code = error.exit_code
sys.exit(code)

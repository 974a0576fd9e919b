"""Compose: services for docker compose: keys that are made once, the scheduler, numbered servers, and workers."""

from __future__ import annotations

import math
from typing import Any

from ps.config.values import SCHEDULER_PORT, TEXT
from ps.engines.engine import EngineOption, Files, Given, JobEngine
from ps.engines.workload import STATE, Workload
from ps.engines.yaml_text import yaml_text

FILE = "compose.yaml"
SERVER_PORT = SCHEDULER_PORT + 1
KEYS, KEPT, SCRIPTS = "/keys", "/state", "/scripts"

OPTIONS = (
    EngineOption("image", TEXT, "paramserver", "the image, with psctl"),
    EngineOption("scripts", TEXT, ".", "a folder of this machine, seen as /scripts, where processes start"),
)


def render(work: Workload, given: Given) -> Files:
    """Return the file. What processes keep is on a volume; a folder that is named must be below /scripts or /state."""
    services: dict[str, Any] = {}
    if not work.is_open:
        services["keys"] = {
            "image": given["image"],
            "entrypoint": ["sh", "-c", f"[ -d {KEYS}/scheduler ] || psctl keys init {KEYS} -s {work.servers} -w 1"],
            "volumes": [f"keys:{KEYS}"],
        }
    services["scheduler"] = _service(work, given, "scheduler", "scheduler", SCHEDULER_PORT)
    servers = [f"server-{rank}" for rank in range(work.servers)]
    for rank, name in enumerate(servers):
        services[name] = _service(work, given, "server", name, SERVER_PORT, rank)
    worker = _service(work, given, "worker", "worker-0", None)
    worker["deploy"] = {"replicas": work.seats}
    worker["depends_on"] = {name: {"condition": "service_healthy"} for name in ["scheduler", *servers]}
    services["worker"] = worker
    volumes: dict[str, Any] = {name: {} for name in (["state"] if work.is_open else ["keys", "state"])}
    return {FILE: f"{work.made_by}# docker compose up\n{yaml_text({'services': services, 'volumes': volumes})}"}


def _service(
    work: Workload, given: Given, role: str, name: str, port: int | None, rank: int | None = None
) -> dict[str, Any]:
    settings: dict[str, Any] = {"host": "0.0.0.0", "port": port, "rank": rank}
    if role != "scheduler":
        settings["scheduler"] = f"tcp://scheduler:{SCHEDULER_PORT}"
    if not work.is_open:
        settings["keys"] = f"{KEYS}/{name}"
    if STATE in work.process:
        settings["state"] = f"{KEPT}/{name}"
    words = work.words(role, settings)
    service: dict[str, Any] = {
        "image": given["image"],
        "init": True,
        "entrypoint": ["psctl"],
        "command": [word.replace("$", "$$") for word in words],  # compose would replace it by a variable
        "working_dir": SCRIPTS,
        "stop_grace_period": f"{math.ceil(work.grace) + 5}s",
        "volumes": [f"{given['scripts']}:{SCRIPTS}", f"state:{KEPT}"],
    }
    if not work.is_open:
        service["volumes"].append(f"keys:{KEYS}:ro")
        service["depends_on"] = {"keys": {"condition": "service_completed_successfully"}}
    if port is not None:
        keys = [] if work.is_open else ["--keys", f"{KEYS}/{name}"]
        service["hostname"] = name
        service["healthcheck"] = {
            "test": ["CMD", "psctl", "ping", *keys, f"tcp://127.0.0.1:{port}"],
            "interval": "10s",
            "timeout": "30s",
            "retries": 3,
            "start_period": "10s",
        }
    if role == "server" and not work.is_open:
        service["depends_on"] = {"scheduler": {"condition": "service_healthy"}}
    return service


ENGINE = JobEngine(
    "compose",
    "services for docker compose on one machine",
    "psctl render compose -s 2 -w 4 train.py > compose.yaml",
    OPTIONS,
    render,
)

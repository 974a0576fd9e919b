"""Pods: what Kubernetes runs of a job: one container of each role, with its command, keys, probe and limits.

The same pieces make the manifests of ``kubernetes`` and the chart of ``helm``: there some of them are templates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ps.config.values import INT, SCHEDULER_PORT, TEXT
from ps.dataclass import dataclass
from ps.engines.engine import EngineOption, Given
from ps.engines.workload import Workload
from ps.errors import ConfigError

ROLES = ("scheduler", "server", "worker")
SERVER_PORT = SCHEDULER_PORT + 1
PORTS = {"scheduler": SCHEDULER_PORT, "server": SERVER_PORT}
USER = 10001
"""The user of our image."""
MARGIN = 5
"""Seconds that a pod has beyond --grace before it is killed."""
USELESS = (2, 3, 4, 6, 7, 8, 9, 10, 11)
"""Exit codes of ours after which the same would happen again, or the job is over: settings, refusals, a lost server."""
KEYS = "/keys"
FRESH = 120.0
"""Seconds for which members look for the scheduler, whose image may come later than theirs."""

OPTIONS = (
    EngineOption("name", TEXT, None, "what the job is called there (the script's name)"),
    EngineOption("image", TEXT, "paramserver", "the image, with psctl and the script"),
    EngineOption("cpu", TEXT, "1", "processors of each worker, as Kubernetes has it: 2 or 500m"),
    EngineOption("memory", TEXT, "2Gi", "memory of each worker"),
    EngineOption("gpus", INT, 0, "GPUs of each worker", 0, 64),
    EngineOption("server_cpu", TEXT, "1", "processors of each server"),
    EngineOption("server_memory", TEXT, "2Gi", "memory of each server"),
    EngineOption(
        "retries", INT, 3, "how often a worker that fails, or a job with checkpoints, is begun again", 0, 1000
    ),
)


@dataclass(frozen=True, slots=True)
class Role:
    """One role's container and pods."""

    name: str
    count: int
    args: list[str]
    env: list[dict[str, Any]]
    resources: dict[str, Any]


def roles(work: Workload, given: Given, scheduler: str) -> dict[str, Role]:
    """Return the roles of a job whose scheduler is found at an address. Raises ConfigError for what pods lack."""
    work.demand_none("Kubernetes", "state", "run_dir", "save")
    folder = work.job.get("checkpoint_dir")
    if folder is not None and "://" not in str(folder):
        raise ConfigError(
            f"checkpoint_dir = {folder}: pods have no disk in common; give an address, such as s3://bucket/kept"
        )
    return {
        "scheduler": Role("scheduler", 1, _args(work, "scheduler"), _env("", work), _limits("1", "1Gi")),
        "server": Role(
            "server",
            work.servers,
            _args(work, "server"),
            _env(scheduler, work),
            _limits(given["server_cpu"], given["server_memory"]),
        ),
        "worker": Role(
            "worker",
            work.seats,
            _args(work, "worker"),
            _env(scheduler, work),
            _limits(given["cpu"], given["memory"], given["gpus"]),
        ),
    }


def _args(work: Workload, role: str) -> list[str]:
    settings: dict[str, Any] = {"host": "*", "port": PORTS.get(role)}
    if role != "scheduler":
        settings["connect_timeout"] = work.process.get("connect_timeout", FRESH)
    words = work.words(role, settings)
    return [word.replace("$(", "$$(") for word in words]  # Kubernetes would replace it by a variable


def _env(scheduler: str, work: Workload) -> list[dict[str, Any]]:
    """Return the variables: where the scheduler is, and by which address others reach this pod."""
    found: list[dict[str, Any]] = [{"name": "PS_SCHEDULER", "value": scheduler}] if scheduler else []
    found.append({"name": "PS_ADVERTISE", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    if not work.is_open:
        found.append({"name": "PS_KEYS", "value": KEYS})
    return found


def _limits(cpu: Any, memory: Any, gpus: int = 0) -> dict[str, Any]:
    cards = {"nvidia.com/gpu": gpus} if gpus else {}
    return {"requests": {"cpu": cpu, "memory": memory, **cards}, "limits": {"cpu": cpu, "memory": memory, **cards}}


def pod(role: Role, name: str, work: Workload, image: str, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the template of a role's pods; ``more`` are fields of its spec."""
    container: dict[str, Any] = {
        "name": role.name,
        "image": image,
        "command": ["psctl"],  # no shell: it would keep SIGTERM for itself
        "args": role.args,
        "env": role.env,
        "resources": role.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    if role.name in PORTS:
        port = PORTS[role.name]
        container["ports"] = [{"name": "ps", "containerPort": port}]
        container["readinessProbe"] = {
            "exec": {"command": ["psctl", "ping", f"tcp://127.0.0.1:{port}"]},
            "periodSeconds": 5,
            "timeoutSeconds": 10,
        }
    if not work.is_open:
        container["volumeMounts"].append({"name": "keys", "mountPath": KEYS, "readOnly": True})
        secret = {"secretName": _secret(name, role.name), "defaultMode": 0o440}
        volumes.append({"name": "keys", "secret": secret})
    spec = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,  # a Service named ps would set PS_PORT
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": math.ceil(work.grace) + MARGIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **(more or {}),
        "containers": [container],
        "volumes": volumes,
    }
    return {"metadata": {"labels": labels(name, role.name)}, "spec": spec}


def key_commands(name: str, indent: str) -> str:
    """Return lines of what somebody types so that there are the keys of a job's pods."""
    lines = ["psctl keys init keys -s 1 -w 1"]
    for role in ROLES:
        folder = role if role == "scheduler" else f"{role}-0"
        lines.append(f"kubectl create secret generic {_secret(name, role)} --from-file=keys/{folder}")
    return "".join(f"{indent}{line}\n" for line in lines)


def _secret(name: str, role: str) -> str:
    return f"{name}-keys-{role}"


def labels(name: str, role: str) -> dict[str, str]:
    """Return what tells a job's pods from others."""
    return {
        "app.kubernetes.io/name": "paramserver",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": role,
    }


def job_spec(role: Role, template: dict[str, Any], retries: Any) -> dict[str, Any]:
    """Return the spec of a role's Indexed Job: what an exit code of ours means for it."""
    again = retries if role.name == "worker" else 0
    return {
        "completionMode": "Indexed",
        "completions": role.count,
        "parallelism": role.count,
        "backoffLimit": again,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": role.name, "operator": "In", "values": list(USELESS)},
                },
            ]
        },
        "template": template,
    }

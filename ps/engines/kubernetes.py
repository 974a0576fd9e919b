"""Kubernetes: a JobSet of one Indexed Job for each role, or plain Jobs with a headless Service."""

from __future__ import annotations

import re
from typing import Any

from ps.config.values import BOOL, SCHEDULER_PORT, TEXT
from ps.engines import pods
from ps.engines.engine import EngineOption, Files, Given, JobEngine, demand_name
from ps.engines.workload import Workload
from ps.engines.yaml_text import yaml_text
from ps.errors import UsageError

FILE = "job.yaml"
KEPT = 24 * 3600
"""Seconds for which what is left of a job stays to be looked at."""
NAME = r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?"
NAMES = "40 lower-case letters, digits and dashes at most, a letter first"
QUANTITY = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?([munkMGTPE]|[KMGTPE]i)?")
GROUP = "scheduling.x-k8s.io/pod-group"

OPTIONS = (
    *pods.OPTIONS,
    EngineOption("plain", BOOL, False, "without JobSet: an Indexed Job for each role, and a headless Service"),
    EngineOption("namespace", TEXT, None, "the namespace (that of kubectl)"),
    EngineOption("queue", TEXT, None, "a LocalQueue of Kueue's, which admits all of the job at once"),
    EngineOption("pod_group", TEXT, None, "have the named scheduler begin all pods or none, by a PodGroup"),
)

HEAD = """\
{made}# kubectl apply -f {file}; kubectl get pods -l app.kubernetes.io/instance={name}
"""
KEYS = "# Before that, on a machine of yours: keys, one Secret for each role.\n"
MORE = """\
# More workers while it runs, or fewer:
#   kubectl patch job {name}-worker -p '{{"spec":{{"parallelism":8,"completions":8}}}}'
"""


def render(work: Workload, given: Given) -> Files:
    """Return the manifests in one file. Raises UsageError and ConfigError for what Kubernetes cannot have."""
    name, plain = demand_possible(work, given), given["plain"]
    found = pods.roles(work, given, scheduler_address(name, plain=plain))
    documents = (plain_jobs if plain else job_set)(work, given, name, found)
    if given["namespace"]:
        for each in documents:
            each["metadata"]["namespace"] = given["namespace"]
    made = work.made_by or f"# A job of paramserver: {name}\n"
    head = HEAD.format(made=made, file=FILE, name=name)
    head += "" if work.is_open else KEYS + pods.key_commands(name, "#   ")
    head += MORE.format(name=name) if plain else ""
    return {FILE: head + "".join(f"---\n{yaml_text(each)}" for each in documents)}


def demand_possible(work: Workload, given: Given) -> str:
    """Return the job's name. Raises UsageError for names and options that cannot be."""
    if given["plain"] and given["queue"]:
        raise UsageError("--queue admits a JobSet as a whole, and plain Jobs one by one: take --pod-group with --plain")
    for key in ("queue", "pod_group", "namespace"):
        if given.get(key) is not None:
            flag = f"--{key.replace('_', '-')}"
            demand_name(given[key], r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", "a name of Kubernetes'", flag)
    for key in ("cpu", "memory", "server_cpu", "server_memory"):
        if not QUANTITY.fullmatch(given[key]):
            raise UsageError(
                f"--{key.replace('_', '-')} {given[key]!r:.60} is no quantity of Kubernetes', such as 2, 500m or 4Gi"
            )
    return demand_name(given["name"] or work.name, NAME, NAMES)


def scheduler_address(name: str, *, plain: bool) -> str:
    """Return where members find the scheduler: by its pod's name, whichever address that has after a restart."""
    pod = f"{name}-scheduler-0" if plain else f"{name}-scheduler-0-0"
    return f"tcp://{pod}.{name}:{SCHEDULER_PORT}"


def _template(work: Workload, given: Given, name: str, role: pods.Role, more: dict[str, Any]) -> dict[str, Any]:
    template = pods.pod(role, name, work, given["image"], more)
    if given["pod_group"]:
        template["metadata"]["labels"][GROUP] = name
        template["spec"]["schedulerName"] = given["pod_group"]
    return template


def job_set(work: Workload, given: Given, name: str, found: dict[str, pods.Role]) -> list[dict[str, Any]]:
    """Return a JobSet, whose pods have names by themselves. With checkpoints all of it begins again."""
    replicated = [
        {
            "name": role.name,
            "replicas": 1,
            "template": {"spec": pods.job_spec(role, _template(work, given, name, role, {}), given["retries"])},
        }
        for role in found.values()
    ]
    spec: dict[str, Any] = {
        "ttlSecondsAfterFinished": KEPT,
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "failurePolicy": {"maxRestarts": given["retries"] if work.keeps else 0},
        "replicatedJobs": replicated,
    }
    about: dict[str, Any] = {"name": name, "labels": {"app.kubernetes.io/name": "paramserver"}}
    if given["queue"]:
        about["labels"]["kueue.x-k8s.io/queue-name"] = given["queue"]
    found_set = {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": about, "spec": spec}
    return [*_pod_group(work, given, name), found_set]


def plain_jobs(work: Workload, given: Given, name: str, found: dict[str, pods.Role]) -> list[dict[str, Any]]:
    """Return the Service by which pods have names, and a Job for each role."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": "paramserver"}},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/name": "paramserver", "app.kubernetes.io/instance": name},
            "ports": [{"name": "ps", "port": SCHEDULER_PORT}],
        },
    }
    jobs = [
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": f"{name}-{role.name}", "labels": pods.labels(name, role.name)},
            "spec": {
                "ttlSecondsAfterFinished": KEPT,
                **pods.job_spec(role, _template(work, given, name, role, {"subdomain": name}), given["retries"]),
            },
        }
        for role in found.values()
    ]
    return [*_pod_group(work, given, name), service, *jobs]


def _pod_group(work: Workload, given: Given, name: str) -> list[dict[str, Any]]:
    if not given["pod_group"]:
        return []
    return [
        {
            "apiVersion": "scheduling.x-k8s.io/v1alpha1",
            "kind": "PodGroup",
            "metadata": {"name": name},
            "spec": {"minMember": 1 + work.servers + work.seats, "scheduleTimeoutSeconds": 600},
        }
    ]


ENGINE = JobEngine(
    "kubernetes",
    "manifests of a JobSet, or of plain Jobs, for kubectl apply",
    "psctl render kubernetes -s 2 -w 8 --image registry/train:1 --gpus 1 train.py > job.yaml",
    OPTIONS,
    render,
)

"""Helm: a chart of the same pieces as the manifests of ``kubernetes``; what users change of a job are its values."""

from __future__ import annotations

import dataclasses
from typing import Any

import ps
from ps.engines import kubernetes, pods
from ps.engines.engine import Files, Given, JobEngine
from ps.engines.workload import Workload
from ps.engines.yaml_text import Template, yaml_text

RELEASE = "{{ .Release.Name }}"
"""What a job is called: its pods and Secrets have names that are made of it."""
OPTIONS = tuple(option for option in kubernetes.OPTIONS if option.name != "namespace")
CHECKS = f"""\
{{{{- if not (regexMatch "^{kubernetes.NAME}$" .Release.Name) }}}}
{{{{- fail "the release's name must be {kubernetes.NAMES}" }}}}
{{{{- end }}}}
"""
NOTES = """\
kubectl get pods -n {{ .Release.Namespace }} -l app.kubernetes.io/instance={{ .Release.Name }}
"""
KEYS = """\
It needs the Secrets {{ .Release.Name }}-keys-scheduler, -server and -worker, of the folders that psctl keys init makes:
"""


def render(work: Workload, given: Given) -> Files:
    """Return the files of a chart. Raises UsageError and ConfigError for what Kubernetes cannot have."""
    name = kubernetes.demand_possible(work, given)
    job = {key: value for key, value in work.job.items() if key not in ("servers", "workers")}
    bare = dataclasses.replace(work, job=job)
    found = pods.roles(bare, given, kubernetes.scheduler_address(RELEASE, plain=given["plain"]))
    values: dict[str, Any] = {
        "image": given["image"],
        "retries": given["retries"],
        **({"queue": given["queue"]} if given["queue"] else {}),
        **({"podGroup": given["pod_group"]} if given["pod_group"] else {}),
        **{role.name: {"count": role.count, "args": role.args, "resources": role.resources} for role in found.values()},
    }
    values["server"]["count"], values["worker"]["count"] = work.servers, work.seats
    blank = {key: _value(path) for key, path in (("image", "image"), ("retries", "retries"))}
    blank |= {key: _value(path) for key, path in (("queue", "queue"), ("pod_group", "podGroup")) if given[key]}
    templates = {role.name: _templates(role, work) for role in found.values()}
    make = kubernetes.plain_jobs if given["plain"] else kubernetes.job_set
    documents = make(bare, {**given, **blank}, RELEASE, templates)
    chart = {
        "apiVersion": "v2",
        "name": name,
        "description": f"A job of paramserver: {work.script.name}",
        "type": "application",
        "version": "0.1.0",
        "appVersion": ps.__version__,
    }
    return {
        "Chart.yaml": yaml_text(chart),
        "values.yaml": yaml_text(values),
        "templates/checks.yaml": CHECKS,
        "templates/job.yaml": "".join(f"---\n{yaml_text(each)}" for each in documents),
        "templates/NOTES.txt": NOTES + ("" if work.is_open else KEYS + pods.key_commands(RELEASE, "  ")),
    }


def _templates(role: pods.Role, work: Workload) -> pods.Role:
    """Return a role whose pods are made of the chart's values; the job has as many as there are of each."""
    made: dict[str, Any] = {field: _value(f"{role.name}.{field}") for field in ("args", "resources")}
    if role.name == "scheduler":
        workers = f"{{{{ sub (int .Values.worker.count) {work.seats - work.workers} | toString | quote }}}}"
        counts = ("PS_SERVERS", "{{ .Values.server.count | toString | quote }}"), ("PS_WORKERS", workers)
        made["env"] = [*role.env, *({"name": name, "value": Template(text)} for name, text in counts)]
    else:
        made["count"] = _value(f"{role.name}.count")
    return dataclasses.replace(role, **made)


def _value(path: str) -> Template:
    return Template(f"{{{{ .Values.{path} | toJson }}}}")


ENGINE = JobEngine(
    "helm",
    "a Helm chart, into the folder of --out",
    "psctl render helm -s 2 -w 8 --image registry/train:1 --out chart train.py",
    OPTIONS,
    render,
)

"""SkyPilot: a task on machines of a cloud: the first has scheduler, servers and its workers, the others workers."""

from __future__ import annotations

import shlex
from typing import Any

from ps.config.values import INT, SCHEDULER_PORT, TEXT
from ps.engines.engine import EngineOption, Files, Given, JobEngine, demand_name
from ps.engines.workload import STATE, Workload
from ps.engines.yaml_text import yaml_text
from ps.errors import UsageError

FILE = "task.yaml"
OPTIONS = (
    EngineOption("name", TEXT, None, "what the task is called (the script's name)"),
    EngineOption("nodes", INT, 1, "how many machines", 1, 10_000),
    EngineOption("accelerators", TEXT, None, "what each has, such as A100:8"),
    EngineOption("cpus", TEXT, None, "processors of each, such as 8+"),
    EngineOption("setup", TEXT, "pip install paramserver", "the command that installs what the script needs"),
    EngineOption("keys_folder", TEXT, "./keys", "a folder of psctl keys init, which goes to all machines"),
)
RUN = """\
set -u
head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
pids=()
trap 'kill -TERM "${{pids[@]}}" 2>/dev/null' TERM INT
if [ "$SKYPILOT_NODE_RANK" -eq 0 ]; then
  {scheduler} & pids+=($!)
  for rank in $(seq 0 {last_server}); do
    {server} & pids+=($!)
  done
fi
for rank in $(seq "$SKYPILOT_NODE_RANK" "$SKYPILOT_NUM_NODES" {last_worker}); do
  {worker} & pids+=($!)
done
status=0
for pid in "${{pids[@]}}"; do
  wait "$pid" || {{ code=$?; [ "$status" -ne 0 ] || status=$code; }}
done
exit "$status"
"""


def render(work: Workload, given: Given) -> Files:
    """Return the task. Raises UsageError for what cannot be its name, ConfigError for what no disk is there for."""
    name = demand_name(given["name"] or work.name, r"[a-z][a-z0-9-]{0,62}", "of lower-case letters, digits and dashes")
    work.demand_none("SkyPilot", STATE)
    for key in ("accelerators", "cpus"):
        if given[key] and any(not word.isprintable() for word in given[key]):
            raise UsageError(f"--{key} {given[key]!r:.60} is nothing that SkyPilot takes")
    run = RUN.format(
        scheduler=_command(work, "scheduler"),
        server=_command(work, "server"),
        worker=_command(work, "worker"),
        last_server=work.servers - 1,
        last_worker=work.seats - 1,
    )
    resources = {key: given[key] for key in ("accelerators", "cpus") if given[key]}
    task: dict[str, Any] = {"name": name, "num_nodes": given["nodes"]}
    if resources:
        task["resources"] = resources
    task["workdir"] = "."
    if not work.is_open:
        task["file_mounts"] = {"~/.psctl-keys": given["keys_folder"]}
    guard = "" if work.is_open else "chmod -R go= ~/.psctl-keys\n"
    task |= {"setup": f"{guard}{given['setup']}\n", "run": run}
    keys = "" if work.is_open else f"# Before that: psctl keys init {shlex.quote(given['keys_folder'])} "
    keys += "" if work.is_open else f"-s {work.servers} -w {work.seats}\n"
    return {FILE: f"{work.made_by}# sky launch {FILE}\n{keys}{yaml_text(task)}"}


def _command(work: Workload, role: str) -> str:
    settings = {"host": "*", "port": SCHEDULER_PORT if role == "scheduler" else None}
    words = work.words(role, settings)
    ours = [] if role == "scheduler" else [f'--scheduler "tcp://$head:{SCHEDULER_PORT}" --rank "$rank"']
    if not work.is_open:
        ours.append(f"--keys ~/.psctl-keys/{role}" + ("" if role == "scheduler" else '-"$rank"'))
    return " ".join(["psctl", words[0], *ours, shlex.join(words[1:])])


ENGINE = JobEngine(
    "skypilot",
    "a task for sky launch",
    "psctl render skypilot -s 2 -w 16 --nodes 4 train.py > task.yaml",
    OPTIONS,
    render,
)

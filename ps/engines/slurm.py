"""Slurm: a batch script with one srun, whose tasks take their roles from their numbers."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex

from ps import interpreter
from ps.config.values import INT, TEXT
from ps.engines.engine import EngineOption, Files, Given, JobEngine, Say, demand_name
from ps.engines.workload import STATE, Workload
from ps.errors import UsageError

FILE = "job.sbatch"
SPARE = 30
"""Seconds before the time limit by which processes that were asked to end have ended."""
CONNECT = 120.0
"""Seconds for which tasks wait for the scheduler's: nodes begin one after the other."""
MOST_CPUS = 64
"""Threads of one process, at most."""

OPTIONS = (
    EngineOption("name", TEXT, None, "what the job is called there (the script's name)"),
    EngineOption("time", TEXT, None, "the job's time limit, such as 04:00:00 (the partition's)"),
    EngineOption("queue", TEXT, None, "the partition that it runs in"),
    EngineOption("account", TEXT, None, "who pays for it"),
    EngineOption("nodes", TEXT, None, "how many nodes, as sbatch has it: 4 or 2-4"),
    EngineOption("cpus_per_task", INT, 1, "cores of each worker", 1, 4096),
    EngineOption("server_cpus", INT, None, "cores of each server and the scheduler, where they are others", 1, 4096),
    EngineOption("gpus_per_task", INT, 0, "GPUs of each worker; servers then are on nodes of their own", 0, 64),
    EngineOption("server_queue", TEXT, None, "the partition of servers and scheduler, if it is another"),
    EngineOption("requeues", INT, 20, "how often it goes on in a new job's time, where it has checkpoints", 0, 10_000),
    EngineOption("sbatch", TEXT, (), "another option of sbatch, as --sbatch=--constraint=a100", repeats=True),
    EngineOption("psctl", TEXT, None, "the command that psctl is there (this one's Python)"),
)

SCRIPT = """\
#!/bin/bash
{made}
{heads}

set -u
export PSCTL_LIFE=$SLURM_JOB_ID.${{SLURM_RESTART_COUNT:-0}}
export PSCTL_FOLDER=$SLURM_SUBMIT_DIR/psctl-$SLURM_JOB_ID  # seen by all nodes, as this job's output is
mkdir -p -m 700 "$PSCTL_FOLDER" || exit 2
{keys}
# What each task does: it becomes the scheduler, a server or a worker, which Slurm's signals then reach.
role() {{
  export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${{OMP_NUM_THREADS:-${{SLURM_CPUS_PER_TASK:-1}}}}
  at=$PSCTL_FOLDER/scheduler.$PSCTL_LIFE
  if [ "$SLURM_PROCID" -eq 0 ]; then
    exec {scheduler}
  elif [ "$SLURM_PROCID" -le {servers} ]; then
    rank=$((SLURM_PROCID - 1))
    exec {server}
  else
    rank=$((SLURM_PROCID - {first}))
    exec {worker}
  fi
}}

cancelled=
trap 'cancelled=yes' TERM  # scancel, preemption, the end of the time; only tasks are told that it is near
{srun} </dev/null &
step=$!
wait "$step"
status=$?
while kill -0 "$step" 2>/dev/null; do
  wait "$step"
  status=$?
done
{forget}{requeue}rmdir "$PSCTL_FOLDER" 2>/dev/null
exit "$status"
"""

REQUEUE = """\
# Asked to end since the time is nearly over: it goes on from its last checkpoint, in the same place of the queue.
if [ "$status" -eq 143 ] && [ -z "$cancelled" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {requeues} ]; then
  scontrol requeue "$SLURM_JOB_ID" && sleep 60
fi
"""


def render(work: Workload, given: Given) -> Files:
    """Return the batch script. Raises UsageError for what Slurm cannot have."""
    return {FILE: batch_script(work, given)}


def batch_script(work: Workload, given: Given) -> str:
    """Return the text that sbatch takes."""
    name = demand_name(given["name"] or work.name, r"[\w.@+-]{1,64}", "of letters, digits and . _ - + @")
    program = [*shlex.split(given["psctl"])] if given["psctl"] else [*interpreter.command("ps.cli")]
    keys = work.process.get("keys")
    made = f"export PSCTL_KEYS={shlex.quote(keys)}\n" if keys else ""
    forget = ""
    if not keys and not work.is_open:
        made = (
            "export PSCTL_KEYS=$PSCTL_FOLDER/keys.$PSCTL_LIFE\n"
            f'{shlex.join(program)} keys init "$PSCTL_KEYS" -s {work.servers} -w {work.seats} >/dev/null || exit 2\n'
        )
        forget = 'rm -rf "$PSCTL_KEYS"\n'
    requeue = REQUEUE.format(requeues=given["requeues"]) if work.keeps and given["requeues"] else ""
    return SCRIPT.format(
        made=f"{work.made_by}# Submit it with: sbatch {FILE}",
        heads=_heads(work, given, name),
        keys=made,
        scheduler=_command(work, program, "scheduler", given),
        server=_command(work, program, "server", given),
        worker=_command(work, program, "worker", given),
        servers=work.servers,
        first=work.servers + 1,
        srun=_srun(work, given),
        forget=forget,
        requeue=requeue,
    )


def _parts(work: Workload, given: Given) -> list[list[str]]:
    """Return how many tasks there are, and what each has: two parts, where servers and workers need different nodes."""
    cpus = f"--cpus-per-task={given['cpus_per_task']}"
    if not (given["gpus_per_task"] or given["server_queue"] or given["server_cpus"]):
        return [[f"--ntasks={1 + work.servers + work.seats}", cpus]]
    gpus = [f"--gpus-per-task={given['gpus_per_task']}"] if given["gpus_per_task"] else []
    return [
        [f"--ntasks={1 + work.servers}", f"--cpus-per-task={given['server_cpus'] or given['cpus_per_task']}"],
        [f"--ntasks={work.seats}", cpus, *gpus],
    ]


def _heads(work: Workload, given: Given, name: str) -> str:
    for key in ("time", "queue", "account", "nodes", "server_queue"):
        if given[key] and not re.fullmatch(r"[\w.,:@+-]{1,200}", given[key]):
            raise UsageError(f"--{key.replace('_', '-')} {given[key]!r:.80} is nothing that sbatch takes")
    for text in given["sbatch"]:
        if not re.fullmatch(r"--?[A-Za-z][^\n\r]*", text):
            raise UsageError(f"--sbatch {text!r:.80} is no option of sbatch; write --sbatch=--constraint=a100")
    common = [
        f"--job-name={name}",
        "--output=psctl-%j.out",
        "--open-mode=append",
        f"--signal=TERM@{math.ceil(work.grace) + SPARE}",
        "--requeue" if work.keeps else "--no-requeue",
        *(f"--{key}={given[key]}" for key in ("time", "account") if given[key]),
        *given["sbatch"],
    ]
    mine = [f"--partition={given['queue']}"] if given["queue"] else []
    mine += [f"--nodes={given['nodes']}"] if given["nodes"] else []
    elsewhere = given["server_queue"] or given["queue"]
    theirs = [f"--partition={elsewhere}"] if elsewhere else []
    *servers, workers = _parts(work, given)
    lines = [*([*part, *theirs] for part in servers), [*workers, *mine]]
    lines[0] = [*common, *lines[0]]
    return "\n#SBATCH hetjob\n".join("\n".join(f"#SBATCH {word}" for word in part) for part in lines)


def _srun(work: Workload, given: Given) -> str:
    """Return the one srun: it repeats what it does not inherit, and one task's end is not the others'."""
    role = 'bash -c "$(declare -f role); role"'
    how = "--kill-on-bad-exit=0 --wait=0 --label"
    parts = [" ".join(part) for part in _parts(work, given)]
    if len(parts) == 1:
        return f"srun {parts[0]} {how} {role}"
    return f"srun --het-group=0 {parts[0]} {how} {role} : --het-group=1 {parts[1]} {role}"


def _command(work: Workload, program: list[str], role: str, given: Given) -> str:
    """Return a role's command as a line of the shell; what only the job itself knows are variables in it."""
    cpus = given["cpus_per_task"] if role == "worker" else given["server_cpus"] or given["cpus_per_task"]
    settings = {
        "host": "*",
        "port": 0 if role == "scheduler" else None,
        "connect_timeout": work.process.get("connect_timeout", CONNECT),
        "threads": work.process.get("threads", min(MOST_CPUS, cpus)) if role != "scheduler" else None,
    }
    kept = {name: value for name, value in work.process.items() if name != "run_dir"}
    words = dataclasses.replace(work, process=kept).words(role, settings)
    ours = ['--address-file "$at"' if role == "scheduler" else '--scheduler "file:$at" --rank "$rank"']
    if not work.is_open:
        who = "scheduler" if role == "scheduler" else f"{role}-$rank"
        ours.append(f'--keys "$PSCTL_KEYS/{who}"')
    if (state := work.process.get(STATE)) is not None:
        ours.append(f"--state {shlex.quote(state)}" + ("" if role == "scheduler" else f'.d/"{role}-$rank"'))
    if role != "server" and (record := work.process.get("run_dir")) is not None:
        ours.append(f'--run-dir {shlex.quote(record)}"${{SLURM_RESTART_COUNT:+-$SLURM_RESTART_COUNT}}"')
    return " ".join([shlex.join([*program, words[0]]), *ours, shlex.join(words[1:])]).rstrip()


def run(work: Workload, given: Given, say: Say) -> int:
    """Have Slurm run a job, and follow it to its end; return its exit code."""
    from ps.engines.slurm_job import run_job

    return run_job(batch_script(work, given), say)


ENGINE = JobEngine(
    "slurm",
    "a batch script for sbatch, with one srun for all roles",
    "psctl render slurm -s 2 -w 8 --cpus-per-task 4 --time 04:00:00 train.py > job.sbatch",
    OPTIONS,
    render,
    run,
)

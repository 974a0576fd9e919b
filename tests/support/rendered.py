"""What psctl render writes, for tests: jobs, and the texts that each engine is pinned to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.config import Settings, Toml
from ps.engines.engine import Files
from ps.engines.registry import engine
from ps.engines.workload import Workload
from ps.script import Script

HOSTILE = (
    "'; touch /tmp/pwned; '",
    '"; rm -rf ~ #',
    "$(reboot)",
    "`id`",
    "$HOME ${x} %j",
    "{{ .Release.Name }}",
    "a: b # c",
    "- x",
    "\\",
    "ünï\u2028code",
    "-n",
    "",
    "*",
    "$$",
    "yes",
    "1e3",
)
"""Arguments that are no arguments any more wherever they are not quoted."""


def workload(*args: str, script: str = "train.py", env: Mapping[str, str] | None = None, **flags: Any) -> Workload:
    """Return a job; ``flags`` are settings of psctl run."""
    return Workload.of(Settings(flags, env or {}, Toml()), Script(script), args)


def rendered(name: str, work: Workload, /, **options: Any) -> Files:
    """Return what an engine is given, by options as texts."""
    found = engine(name)
    return found.render(work, found.read(options))


def goldens() -> dict[str, str]:
    """Return the texts that tests/engines/golden has, by the names of its files."""
    plain = workload("--epochs", "3", servers=2, workers=4)
    rich = workload(
        "--name",
        "it's",
        script="my net.py",
        servers=2,
        workers=8,
        mode="ssp",
        staleness=3,
        checkpoint_dir="s3://bucket/kept",
        grace=40,
        seed=7,
    )
    slurm_options = {"psctl": "psctl", "time": "04:00:00", "cpus_per_task": "4"}
    found = {
        "slurm.sbatch": rendered("slurm", plain, psctl="psctl"),
        "slurm-hetero.sbatch": rendered(
            "slurm", rich, gpus_per_task="1", queue="gpu", server_queue="cpu", **slurm_options
        ),
        "ray.sh": rendered("ray", rich, cpus="2", resource=("ssd=1",), env=("A=b c",)),
        "kubernetes.yaml": rendered("kubernetes", plain),
        "kubernetes-rich.yaml": rendered(
            "kubernetes", rich, gpus="2", queue="team", image="r.io/train:1", namespace="ml"
        ),
        "kubernetes-plain.yaml": rendered("kubernetes", plain, plain="true", pod_group="gang"),
        "compose.yaml": rendered("compose", plain),
        "skypilot.yaml": rendered("skypilot", plain, nodes="2", accelerators="A100:8"),
    }
    texts = {name: next(iter(files.values())) for name, files in found.items()}
    chart = rendered("helm", rich, name="train", queue="team")
    return texts | {f"chart/{name}": text for name, text in chart.items()}

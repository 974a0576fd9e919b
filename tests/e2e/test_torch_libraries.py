"""Promises inside Hugging Face's Trainer, Accelerate and Lightning, which believe to be alone in their processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

for library in ("torch", "transformers", "accelerate", "lightning"):
    if not any((Path(folder) / library).is_dir() for folder in sys.path):
        pytest.skip(f"{library} is not installed", allow_module_level=True)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
SCRIPT = Path(__file__).with_name("scripts") / "torch_libraries.py"
COUNT = 26
"""Rows of the trials' data."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script has found out."""
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    folder = tmp_path_factory.mktemp("libraries")
    run = subprocess.run([sys.executable, SCRIPT], cwd=folder, env=env, capture_output=True, text=True, timeout=380)
    assert run.returncode == 0, run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith("found "))
    results: dict[str, Any] = json.loads(line.partition(" ")[2]) | {"stderr": run.stderr}
    return results


def test_no_row_is_seen_twice_in_an_epoch_though_the_trainer_believes_to_be_alone(found: dict[str, Any]) -> None:
    steps = {len(worker["used"]) for worker in found["trained"]}
    assert steps == {10} and {worker["steps"] for worker in found["trained"]} == steps
    for epoch in (slice(0, 5), slice(5, 10)):
        seen = [row for worker in found["trained"] for batch in worker["used"][epoch] for row in batch]
        assert sorted(seen) == list(range(COUNT))
    first, second = (worker["used"] for worker in found["trained"])
    assert first[:5] != first[5:] and first != second
    assert "SAME BATCH" not in found["stderr"]


def test_a_trainers_ragged_batches_give_the_steps_of_one_process_clipped_by_the_servers(found: dict[str, Any]) -> None:
    """With its groups, weight decay and schedule: AdamW moves a weight by about the rate of 0.01 in each step."""
    assert max(found["distance"].values()) < 1e-5


def test_schedules_end_with_the_share(found: dict[str, Any]) -> None:
    assert [worker["lr"] for worker in found["trained"]] == [0, 0]


def test_rank_0_alone_saves_rotates_and_logs_and_its_best_model_is_what_the_servers_had(found: dict[str, Any]) -> None:
    first, second = found["trained"]
    assert len(first["folders"]) == 1
    assert first["best"] and first["loaded"]
    assert second["loaded"], "and all have it in the end"
    assert first["logs"] > 0 and second["logs"] == 0


def test_training_ends_at_one_clock_on_all_workers_where_one_has_said_so(found: dict[str, Any]) -> None:
    for workers in found["stopped"]:
        assert workers[0] == workers[1]
        assert workers[0][0] in (4, 5) and workers[0][1] == workers[0][0]


def test_clipping_that_the_job_does_not_do_is_refused(found: dict[str, Any]) -> None:
    assert all("this job clips to 0.3: --clip-norm 9" in worker["refused"] for worker in found["trained"])


def test_of_data_without_a_length_each_worker_has_its_part(found: dict[str, Any]) -> None:
    first, second = found["streamed"]
    assert len(first) == len(second) == COUNT / 2
    assert sorted(first + second) == list(range(COUNT))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("torch_trainer.py", "test loss"),
        ("torch_accelerate.py", "of the numbers are at their place, rate 0"),
        ("torch_lightning.py", "after 60 steps"),
    ],
)
def test_an_example_ends_well_and_rank_0_speaks(found: dict[str, Any], name: str, line: str) -> None:
    first, second = found[name]
    assert line in first["said"][0] and second["said"] == []
    if name != "torch_accelerate.py":
        assert len({Path(file).parent.name for file in first["files"] if "checkpoint" in file or "ckpt" in file}) == 1

"""Promises of the chart: Helm's own engine makes of it what psctl render kubernetes writes, and follows its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.rendered import HOSTILE, rendered, workload

helm = pytest.importorskip("helm_python", reason="pip install helm-python-sdk")
KEPT = {"servers": 2, "workers": 4, "checkpoint_dir": "s3://bucket/kept"}


def made(folder: Path, release: str, /, values: dict[str, Any] | None = None, **about: Any) -> list[dict[str, Any]]:
    """Return the manifests that Helm makes of a job's chart."""
    work = about.pop("work", None) or workload("--epochs", "3", **KEPT)
    for file, text in rendered("helm", work, **about).items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    with helm.Chart.load(folder) as chart:
        found = chart.render(values or {}, name=release, namespace="default")
    texts = [text for file, text in sorted(found.items()) if file.endswith("job.yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def plainly(**about: Any) -> list[dict[str, Any]]:
    work = about.pop("work", None) or workload("--epochs", "3", **KEPT)
    return [each for text in rendered("kubernetes", work, **about).values() for each in yaml.safe_load_all(text)]


def scheduler_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = documents[-1]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    return found["containers"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("about", [{}, {"queue": "team"}, {"pod_group": "gang"}, {"gpus": "1", "image": "r.io/x:1"}])
def test_helm_makes_of_it_what_is_rendered_without(tmp_path: Path, about: dict[str, str]) -> None:
    found, wanted = made(tmp_path, "train", **about), plainly(name="train", **about)
    ours, theirs = scheduler_of(found), scheduler_of(wanted)
    ours["env"], counts = ours["env"][:2], ours["env"][2:]  # how many there are follows the chart's values
    assert counts == [{"name": "PS_SERVERS", "value": "2"}, {"name": "PS_WORKERS", "value": "4"}]
    at = theirs["args"].index("--servers")
    del theirs["args"][at : at + 4]
    assert found == wanted


def test_plain_jobs_too(tmp_path: Path) -> None:
    found, wanted = made(tmp_path, "train", plain="true"), plainly(name="train", plain="true")
    assert [each["kind"] for each in found] == ["Service", "Job", "Job", "Job"]
    assert found[2:] == wanted[2:]


def test_values_change_counts_images_and_arguments(tmp_path: Path) -> None:
    values = {"image": "other:2", "worker": {"count": 9, "args": ["worker", "--", "other.py"]}, "retries": 7}
    (job_set,) = made(tmp_path, "mine", values)
    worker = job_set["spec"]["replicatedJobs"][2]["template"]["spec"]
    assert (worker["completions"], worker["parallelism"], worker["backoffLimit"]) == (9, 9, 7)
    container = worker["template"]["spec"]["containers"][0]
    assert container["image"] == "other:2" and container["args"] == ["worker", "--", "other.py"]
    assert {"name": "PS_SCHEDULER", "value": "tcp://mine-scheduler-0-0.mine:7070"} in container["env"]
    assert {"name": "PS_WORKERS", "value": "9"} in scheduler_of([job_set])["env"]


def test_the_spares_of_a_pipeline_are_no_workers_that_it_begins_with(tmp_path: Path) -> None:
    work = workload(servers=1, workers=4, mode="pipeline", spares=2)
    (job_set,) = made(tmp_path, "train", work=work)
    assert {"name": "PS_WORKERS", "value": "4"} in scheduler_of([job_set])["env"]
    assert job_set["spec"]["replicatedJobs"][2]["template"]["spec"]["completions"] == 6


@pytest.mark.parametrize("word", HOSTILE)
def test_words_of_a_job_stay_words(tmp_path: Path, word: str) -> None:
    work = workload(word, script=f"x{word}.py", servers=1, workers=1)
    (job_set,) = made(tmp_path, "train", work=work, name="train")
    container = job_set["spec"]["replicatedJobs"][2]["template"]["spec"]["template"]["spec"]["containers"][0]
    assert [each.replace("$$(", "$(") for each in container["args"][-2:]] == [f"x{word}.py", word]


def test_a_release_whose_name_is_too_long_for_pods_is_refused(tmp_path: Path) -> None:
    with pytest.raises(helm.HelmRenderError, match="40 lower-case letters"):
        made(tmp_path, "a" * 45)


def test_helm_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    made(tmp_path / "train", "train", name="train")
    report = helm.lint(str(tmp_path / "train"))
    assert [each for each in report["messages"] or () if each["severity"] >= 2] == [] and not report["errors"]

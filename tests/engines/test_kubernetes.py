"""Promises of Kubernetes' manifests: they fit the published schemas, and a job's words, ends and keys are kept to."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ps import errors
from ps.engines.pods import USELESS
from ps.errors import ConfigError, PSError, UsageError
from support.rendered import HOSTILE, rendered, workload

VERSION = "1.37"


def documents(work: Any = None, **options: str) -> list[dict[str, Any]]:
    work = work or workload("--epochs", "3", servers=2, workers=4)
    return list(yaml.safe_load_all(next(iter(rendered("kubernetes", work, **options).values()))))


def jobs(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the spec of each role's Job, of a JobSet or of plain Jobs."""
    if found[-1]["kind"] == "JobSet":
        return {each["name"]: each["template"]["spec"] for each in found[-1]["spec"]["replicatedJobs"]}
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]
        for each in found
        if each["kind"] == "Job"
    }


def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["template"]["spec"]
    return found


def container(job: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(job)["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"plain": "true"},
        {"plain": "true", "pod_group": "gang"},
        {"queue": "team", "gpus": "2", "image": "r.io/train@sha256:ab", "namespace": "ml", "retries": "0"},
    ],
)
@pytest.mark.parametrize("settings", [{}, {"insecure": True}, {"checkpoint_dir": "s3://b/kept", "grace": 90.0}])
def test_manifests_fit_the_published_schemas(options: dict[str, str], settings: dict[str, Any]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    import jsonschema

    from support.jobset_schema import JOBSET

    for each in documents(workload("x", servers=2, workers=4, **settings), **options):
        if each["kind"] == "JobSet":
            jsonschema.validate(each, JOBSET)
            for inner in each["spec"]["replicatedJobs"]:
                job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **inner["template"]}
                validator.validate(job, VERSION, strict=True)
        elif each["kind"] != "PodGroup":  # which is none of Kubernetes' own
            validator.validate(each, VERSION, strict=True)


@pytest.mark.parametrize("plain", ["false", "true"])
def test_each_role_is_an_indexed_job_and_no_shell_stands_before_it(plain: str) -> None:
    found = jobs(documents(plain=plain))
    counts = {name: (job["completionMode"], job["completions"], job["parallelism"]) for name, job in found.items()}
    assert counts == {"scheduler": ("Indexed", 1, 1), "server": ("Indexed", 2, 2), "worker": ("Indexed", 4, 4)}
    for name, job in found.items():
        assert container(job)["command"] == ["psctl"] and container(job)["args"][0] == name
    assert container(found["worker"])["args"][-4:] == ["--", "train.py", "--epochs", "3"]


@pytest.mark.parametrize(
    ("plain", "host"), [("false", "train-scheduler-0-0.train"), ("true", "train-scheduler-0.train")]
)
def test_members_find_the_scheduler_by_its_pods_name(plain: str, host: str) -> None:
    found = documents(plain=plain)
    for role in ("server", "worker"):
        env = container(jobs(found)[role])["env"]
        assert {"name": "PS_SCHEDULER", "value": f"tcp://{host}:7070"} in env
    if plain == "true":
        (service,) = (each for each in found if each["kind"] == "Service")
        assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
        assert all(pod(job)["subdomain"] == service["metadata"]["name"] for job in jobs(found).values())
        labels = jobs(found)["scheduler"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()


def test_a_code_after_which_nothing_would_change_ends_the_job_and_a_taken_node_counts_for_nothing() -> None:
    codes = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PSError)}
    assert set(USELESS) == codes - {0, 1, 5}  # a script's exception may not come again, a port may be free next time
    for name, job in jobs(documents()).items():
        ignored, failed = job["podFailurePolicy"]["rules"]
        assert ignored["action"] == "Ignore" and ignored["onPodConditions"][0]["type"] == "DisruptionTarget"
        assert failed["action"] == "FailJob" and failed["onExitCodes"]["containerName"] == name
        assert failed["onExitCodes"]["values"] == list(USELESS)
        assert pod(job)["restartPolicy"] == "Never"  # what a podFailurePolicy needs


def test_only_a_job_with_checkpoints_begins_again_as_a_whole() -> None:
    assert documents()[-1]["spec"]["failurePolicy"] == {"maxRestarts": 0}
    kept = workload(servers=1, workers=1, checkpoint_dir="s3://bucket/kept")
    assert documents(kept, retries="5")[-1]["spec"]["failurePolicy"] == {"maxRestarts": 5}


def test_pods_are_given_more_time_to_end_than_processes_take() -> None:
    found = jobs(documents(workload(servers=1, workers=1, grace=61.5)))
    assert {pod(job)["terminationGracePeriodSeconds"] for job in found.values()} == {67}
    assert all("61.5" in container(job)["args"] for job in found.values())


def test_a_pods_environment_has_no_services_in_it() -> None:
    assert all(pod(job)["enableServiceLinks"] is False for job in jobs(documents()).values())


def test_keys_are_secrets_of_each_role_which_its_group_may_read_and_nobody_is_root() -> None:
    for role, job in jobs(documents()).items():
        (secret,) = (each["secret"] for each in pod(job)["volumes"] if "secret" in each)
        assert secret == {"secretName": f"train-keys-{role}", "defaultMode": 0o440}
        about = pod(job)["securityContext"]
        assert about["runAsNonRoot"] and about["fsGroup"] == about["runAsGroup"] != 0
        assert {"name": "PS_KEYS", "value": "/keys"} in container(job)["env"]
        assert {each["name"] for each in pod(job)["volumes"]} == {"tmp", "keys"}  # no disk in common


def test_without_keys_there_are_no_secrets() -> None:
    text = next(iter(rendered("kubernetes", workload(servers=1, workers=1, insecure=True)).values()))
    assert "secret" not in text.lower() and text.count('"--insecure"') == 3


def test_servers_and_the_scheduler_are_ready_once_they_answer() -> None:
    for role, port in (("scheduler", 7070), ("server", 7071)):
        job = container(jobs(documents())[role])
        assert job["readinessProbe"]["exec"]["command"] == ["psctl", "ping", f"tcp://127.0.0.1:{port}"]
        assert job["args"][job["args"].index("--port") + 1] == str(port)
    assert "readinessProbe" not in container(jobs(documents())["worker"])


def test_gpus_are_the_workers() -> None:
    found = jobs(documents(gpus="2"))
    assert container(found["worker"])["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert all(
        "nvidia.com/gpu" not in container(found[role])["resources"]["limits"] for role in ("scheduler", "server")
    )


def test_a_queue_admits_the_whole_set_and_a_pod_group_all_pods_or_none() -> None:
    assert documents(queue="team")[-1]["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    group, *_, job_set = documents(pod_group="gang")
    assert group["kind"] == "PodGroup" and group["spec"]["minMember"] == 7
    for job in jobs([job_set]).values():
        assert job["template"]["metadata"]["labels"]["scheduling.x-k8s.io/pod-group"] == group["metadata"]["name"]
        assert pod(job)["schedulerName"] == "gang"


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("plain", ["false", "true"])
def test_words_of_a_job_stay_words(word: str, plain: str) -> None:
    work = workload(word, word + word, script=f"x{word}.py", servers=1, workers=1, data=f"d{word}")
    found = jobs(documents(work, plain=plain, name="train", image=f"i{word}"))
    args = [each.replace("$$(", "$(") for each in container(found["worker"])["args"]]
    assert args[args.index("--") + 1 :] == [f"x{word}.py", word, word + word]
    assert args[args.index("--data") + 1] == f"d{word}"
    assert container(found["worker"])["image"] == f"i{word}".strip()


def test_what_kubernetes_would_replace_by_a_variable_is_escaped() -> None:
    found = jobs(documents(workload("$(PS_KEYS)", servers=1, workers=1)))
    assert container(found["worker"])["args"][-1] == "$$(PS_KEYS)"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": "Not_OK"}, "--name, 40 lower-case letters"),
        ({"name": "a" * 41}, "--name, 40 lower-case letters"),
        ({"queue": "a b"}, "--queue"),
        ({"namespace": "x: y"}, "--namespace"),
        ({"cpu": "2; rm"}, "--cpu .* is no quantity"),
        ({"plain": "true", "queue": "team"}, "take --pod-group with --plain"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_here(options: dict[str, str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        documents(**options)


@pytest.mark.parametrize("settings", [{"state": "f"}, {"run_dir": "d"}, {"save": "f"}, {"checkpoint_dir": "/kept"}])
def test_what_needs_a_disk_in_common_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="no disk in common"):
        documents(workload(servers=1, workers=1, **settings))


def test_options_are_bounded() -> None:
    for text in ("x", "-1", "65", "1e9", "9" * 40):
        with pytest.raises(ConfigError, match=r"--gpus .* at least 0 and at most 64"):
            documents(gpus=text)

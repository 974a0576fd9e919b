"""Promises of the compose file: who is found where, health, keys, and words that stay words."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from support.rendered import HOSTILE, rendered, workload


def services(work: Any = None, **options: str) -> dict[str, Any]:
    work = work or workload("--epochs", "3", servers=2, workers=4)
    text = next(iter(rendered("compose", work, **options).values()))
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


def after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def test_members_look_for_the_scheduler_where_it_is_and_each_has_its_keys() -> None:
    found = services()
    assert list(found) == ["keys", "scheduler", "server-0", "server-1", "worker"]
    assert found["keys"]["entrypoint"][-1].endswith("psctl keys init /keys -s 2 -w 1")
    for name in ("server-0", "server-1", "worker"):
        assert after(found[name]["command"], "--scheduler") == "tcp://scheduler:7070"
    for name, folder in (("scheduler", "scheduler"), ("server-1", "server-1"), ("worker", "worker-0")):
        assert after(found[name]["command"], "--keys") == f"/keys/{folder}"
    assert [after(found[f"server-{rank}"]["command"], "--rank") for rank in range(2)] == ["0", "1"]
    assert found["worker"]["deploy"] == {"replicas": 4}


def test_health_checks_ask_where_the_process_listens() -> None:
    for name, service in services().items():
        if "healthcheck" in service:
            port = after(service["command"], "--port")
            keys = ["--keys", after(service["command"], "--keys")]
            assert service["healthcheck"]["test"] == ["CMD", "psctl", "ping", *keys, f"tcp://127.0.0.1:{port}"], name
    assert {name for name, each in services().items() if "healthcheck" in each} == {"scheduler", "server-0", "server-1"}


def test_an_init_is_process_1_and_grace_is_kept_to() -> None:
    found = services(workload(servers=1, workers=1, grace=50.0))
    assert all(found[name]["init"] and found[name]["stop_grace_period"] == "55s" for name in found if name != "keys")


def test_without_keys_nobody_makes_any() -> None:
    found = services(workload(servers=1, workers=1, insecure=True))
    assert "keys" not in found and all("--insecure" in each["command"] for each in found.values())
    assert not any("keys:" in volume for each in found.values() for volume in each["volumes"])


def test_state_is_on_a_volume_each_ones_own() -> None:
    found = services(workload(servers=1, workers=1, mode="federated", state="job.db"))
    assert after(found["scheduler"]["command"], "--state") == "/state/scheduler"
    assert after(found["server-0"]["command"], "--state") == "/state/server-0"


@pytest.mark.parametrize("word", HOSTILE)
def test_words_of_a_job_stay_words(word: str) -> None:
    found = services(workload(word, script=f"x{word}.py", servers=1, workers=1))
    words = [each.replace("$$", "$") for each in found["worker"]["command"]]
    escaped = [each.replace("$$", "$") for each in (f"x{word}.py", word)] if "$$" in word else [f"x{word}.py", word]
    assert words[-2:] == [f"x{word}.py", word] or words[-2:] == escaped
    assert all("$" not in each.replace("$$", "") for each in found["worker"]["command"])

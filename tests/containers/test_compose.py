"""The container files hold together, as far as that can be seen without an engine (try_engine.py uses one)."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ps.config import JobConfig, ProcessConfig, settings_of

ROOT = Path(__file__).resolve().parents[2]
FILES = ("compose.yaml", "compose.gpu.yaml", "Dockerfile", "scripts/containers/README.md")
SERVERS = ("scheduler", "server-0", "server-1")
OTHERS_IMAGES = ("prometheus", "grafana")


def services(name: str = "compose.yaml") -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())["services"]
    return parsed


def ours() -> dict[str, Any]:
    return {name: each for name, each in services().items() if name not in OTHERS_IMAGES}


def test_every_ps_variable_in_the_container_files_is_a_setting() -> None:
    known = {row.env for cls in (JobConfig, ProcessConfig) for row in settings_of(cls).values()}
    for name in FILES:
        assert set(re.findall(r"\bPS_[A-Z_]+\b", (ROOT / name).read_text())) <= known, name


def test_every_setting_of_the_job_reaches_the_scheduler() -> None:
    assert {row.env for row in settings_of(JobConfig).values()} <= set(services()["scheduler"]["environment"])


def test_each_numbered_server_has_its_rank_and_a_name_that_workers_can_resolve() -> None:
    found = services()
    servers = [found[name] for name in sorted(found) if name.startswith("server-")]
    assert len(servers) == int(found["scheduler"]["environment"]["PS_SERVERS"])
    for rank, server in enumerate(servers):
        assert server["hostname"] == f"server-{rank}"
        assert server["environment"]["PS_RANK"] == str(rank)


def test_health_checks_ask_where_the_process_listens() -> None:
    for name, service in ours().items():
        if name in SERVERS:
            command = ["CMD", "psctl", "ping", f"tcp://127.0.0.1:{service['environment']['PS_PORT']}"]
            assert service["healthcheck"]["test"] == command
            assert service["environment"]["PS_HOST"] == "0.0.0.0"
        else:
            assert ("healthcheck" in service) == (name == "page")


def test_members_look_for_the_scheduler_where_it_is() -> None:
    found = ours()
    scheduler = found.pop("scheduler")
    assert "psctl keys init /keys" in found.pop("keys")["entrypoint"][-1]
    for service in found.values():
        port = scheduler["environment"]["PS_PORT"]
        assert service["environment"]["PS_SCHEDULER"] == f"tcp://{scheduler['hostname']}:{port}"


def test_page_prometheus_and_grafana_come_when_asked_for_and_are_reached_from_this_machine_alone() -> None:
    for name, service in services().items():
        if name in ("page", *OTHERS_IMAGES):
            assert "monitoring" in service["profiles"]
            assert all(re.match(r"\$\{[A-Z]+:-127\.0\.0\.1:\d+\}:\d+$", port) for port in service["ports"])
        else:
            assert "profiles" not in service and "ports" not in service


def test_the_page_is_reached_with_a_token_that_is_made_once_and_prometheus_brings_it_and_sees_no_keys() -> None:
    found = services()
    page = found["page"]["environment"]
    assert f">{page['PS_PAGE_TOKEN']}" in found["keys"]["entrypoint"][-1]
    assert page["PS_KEYS"] == "/keys/operator" and page["PS_PAGE_HOST"] == "0.0.0.0"
    assert f"http://127.0.0.1:{page['PS_PAGE_PORT']}/" in found["page"]["healthcheck"]["test"][-1]
    scraping = yaml.safe_load((ROOT / "scripts/containers/prometheus.yml").read_text())
    (job,) = scraping["scrape_configs"]
    assert job["authorization"]["credentials_file"] == page["PS_PAGE_TOKEN"]
    assert job["static_configs"] == [{"targets": [f"page:{page['PS_PAGE_PORT']}"]}]
    alone = yaml.safe_load((ROOT / "scripts/monitoring/prometheus.yml").read_text())
    assert all(scraping[name] == alone[name] for name in ("global", "rule_files"))
    folder = str(Path(page["PS_PAGE_TOKEN"]).parent)
    mounted = {volume.split(":")[1] for volume in found["prometheus"]["volumes"]}
    assert folder in mounted and "/keys" not in mounted


def test_what_is_mounted_for_prometheus_and_grafana_exists_and_fits() -> None:
    for name in OTHERS_IMAGES:
        for volume in services()[name]["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).is_file(), volume
    grafana = {volume.split(":")[1]: volume for volume in services()["grafana"]["volumes"]}
    providers = yaml.safe_load((ROOT / "scripts/containers/grafana-dashboards.yml").read_text())["providers"]
    assert all(any(target.startswith(f"{each['options']['path']}/") for target in grafana) for each in providers)
    (source,) = yaml.safe_load((ROOT / "scripts/containers/grafana-source.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090" and source["isDefault"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in services()["prometheus"]["command"]


@pytest.mark.parametrize(("code", "ends_with"), [(0, 0), (4, 0), (1, 1), (137, 137), ("TERM", 143)])
def test_the_schedulers_shell_hands_on_what_it_is_asked_and_only_a_failed_job_is_no_reason_to_come_back(
    code: int | str, ends_with: int, tmp_path: Path
) -> None:
    psctl = tmp_path / "psctl"
    waits = "trap 'echo asked; exit 143' TERM\necho ready\nwhile :; do sleep 0.01; done"
    psctl.write_text(f"#!/bin/sh\n{waits if code == 'TERM' else f'exit {code}'}\n")
    psctl.chmod(0o755)
    command = [word.replace("$$", "$") for word in services()["scheduler"]["entrypoint"]]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if code == "TERM":
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            assert process.stdout.readline() == "asked\n"
        assert process.wait(20) == ends_with


def test_files_that_must_outlive_a_container_are_on_volumes() -> None:
    def targets(service: dict[str, Any]) -> list[str]:
        return [volume.removesuffix(":ro").rpartition(":")[2] for volume in service["volumes"]]

    found = services()
    assert str(Path(found["scheduler"]["environment"]["PS_STATE"]).parent) in targets(found["scheduler"])
    run_dir = found["worker"]["environment"]["PS_RUN_DIR"]
    assert run_dir.startswith("/runs/")
    assert "/runs" in targets(found["worker"])


def test_the_default_script_is_one_of_the_examples() -> None:
    match = re.match(r"worker \$\{SCRIPT:-(\S+)\}", services()["worker"]["command"])
    assert match is not None
    assert (ROOT / "ps/examples" / match[1]).is_file()


def test_the_gpu_overlay_changes_nothing_but_the_workers() -> None:
    overlay = services("compose.gpu.yaml")
    assert list(overlay) == ["worker"]
    (device,) = overlay["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_build_arguments_of_the_compose_files_exist() -> None:
    declared = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    for found in (ours(), services("compose.gpu.yaml")):
        for service in found.values():
            assert set(service["build"]["args"]) <= declared


def test_the_image_gets_every_folder_of_the_package_and_nothing_private() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    links = {path.readlink().name for path in (ROOT / "ps").iterdir() if path.is_symlink()}
    assert {"pyproject.toml", "setup.py", "ps", "ps/examples"} | links <= allowed
    assert not allowed & {".git", ".venv", "runs", "tests"}


def test_an_empty_list_of_extras_is_none() -> None:
    text = (ROOT / "Dockerfile").read_text()
    (word,) = re.findall(r'"(\.\$\{EXTRAS.*\})"', text)
    for extras, wanted in (("", "."), ("a,b", ".[a,b]")):
        said = subprocess.run(
            ["sh", "-c", f'printf %s "{word}"'], env={"EXTRAS": extras}, capture_output=True, check=True
        )
        assert said.stdout.decode() == wanted


def test_the_image_is_nobodys_root_and_has_what_the_page_needs() -> None:
    text = (ROOT / "Dockerfile").read_text()
    last = text[text.rindex("FROM ") :]
    assert re.search(r"^USER (\w+)$", last, re.MULTILINE)[1] != "root"  # type: ignore[index]
    assert "ARG EXTRAS=monitor\n" in text
    assert services()["page"]["build"]["args"]["EXTRAS"] == "${EXTRAS:-monitor}"


def test_commands_in_the_readme_name_services_that_exist() -> None:
    text = (ROOT / "scripts/containers/README.md").read_text()
    for line in re.findall(r"^ {4}.*docker compose .*--scale (\S+)", text, re.MULTILINE):
        assert shlex.split(line)[0].partition("=")[0] in services()

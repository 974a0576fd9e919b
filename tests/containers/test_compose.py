"""The container files hold together, as far as that can be seen without an engine (try_engine.py uses one)."""

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from ps.config import JobConfig, ProcessConfig, settings_of

ROOT = Path(__file__).resolve().parents[2]
FILES = ("compose.yaml", "compose.gpu.yaml", "Dockerfile", "scripts/containers/README.md")


def services(name: str = "compose.yaml") -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())["services"]
    return parsed


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
    for name, service in services().items():
        if name not in ("worker", "keys"):
            command = ["CMD", "psctl", "ping", f"tcp://127.0.0.1:{service['environment']['PS_PORT']}"]
            assert service["healthcheck"]["test"] == command
            assert service["environment"]["PS_HOST"] == "0.0.0.0"


def test_members_look_for_the_scheduler_where_it_is() -> None:
    found = services()
    scheduler = found.pop("scheduler")
    assert "psctl keys init /keys" in found.pop("keys")["entrypoint"][-1]
    for service in found.values():
        port = scheduler["environment"]["PS_PORT"]
        assert service["environment"]["PS_SCHEDULER"] == f"tcp://{scheduler['hostname']}:{port}"


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
    for name in ("compose.yaml", "compose.gpu.yaml"):
        for service in services(name).values():
            assert set(service["build"]["args"]) <= declared


def test_the_image_gets_every_folder_of_the_package_and_nothing_private() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    links = {path.readlink().name for path in (ROOT / "ps").iterdir() if path.is_symlink()}
    assert {"pyproject.toml", "setup.py", "ps", "ps/examples"} | links <= allowed
    assert not allowed & {".git", ".venv", "runs", "tests"}


def test_commands_in_the_readme_name_services_that_exist() -> None:
    text = (ROOT / "scripts/containers/README.md").read_text()
    for line in re.findall(r"^ {4}.*docker compose .*--scale (\S+)", text, re.MULTILINE):
        assert shlex.split(line)[0].partition("=")[0] in services()

"""Engine: the commands that try_engine.py needs of docker and of compose, and what it asks of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROJECT = f"ps-try-{os.getpid()}"
OURS = 10001
"""Whom the image's processes run as."""
OF_THE_JOB = ("WORKERS", "RUN", "SCRIPTS", "SCRIPT")
"""Variables of compose.yaml besides the settings."""


class Broken(Exception):
    """A promise that did not hold."""


def missing() -> str:
    """Return why there is no engine here; nothing if there is."""
    try:
        found = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    except OSError:
        return "docker is not installed"
    return (found.stderr.strip().splitlines() or ["it does not answer"])[-1] if found.returncode else ""


class Engine:
    """Docker, and one project of compose on it."""

    def __init__(self, env: dict[str, str], timeout: float) -> None:
        self._env = {**os.environ, **env}
        self._timeout = timeout
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        self._program = ["docker-compose"] if plugin.returncode else ["docker", "compose"]
        self.file = ROOT / "compose.yaml"

    def run(self, *command: str, check: bool = True, timeout: float | None = None, said: str = "") -> str:
        """Run a command that is told ``said``, and return what it prints; Broken with that when it fails."""
        limit = timeout or self._timeout
        try:
            done = subprocess.run(
                command, env=self._env, input=said, capture_output=True, text=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise Broken(f"{' '.join(command)} did not end within {late.timeout:g} s") from None
        if check and done.returncode:
            said = f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
            raise Broken(f"{' '.join(command)}: exit status {done.returncode}\n{said}")
        return done.stdout.strip()

    def compose(self, *command: str, check: bool = True, timeout: float | None = None, env: Any = ()) -> str:
        """Run a compose command; ``env`` holds for later ones too."""
        self._env.update(env)
        profile = ["--profile", "monitoring"] if self.file.parent == ROOT else []
        words = [*self._program, "-p", PROJECT, "-f", str(self.file), *profile, *command]
        return self.run(*words, check=check, timeout=timeout)

    def down(self) -> None:
        """Remove containers and volumes, and forget what is set for the job."""
        self.compose("down", "-v", check=False)
        for name in [name for name in self._env if name.startswith("PS_") or name in OF_THE_JOB]:
            del self._env[name]

    def containers(self, service: str) -> list[str]:
        """Return the containers of a service, ended ones too."""
        labels = (f"project={PROJECT}", f"service={service}")
        filters = [word for each in labels for word in ("--filter", f"label=com.docker.compose.{each}")]
        return self.run("docker", "ps", "-a", "-q", *filters).split()

    def inspect(self, service: str, what: str = "json .State") -> Any:
        """Return something of a service's only container."""
        (container,) = self.containers(service)
        return json.loads(self.run("docker", "inspect", "-f", f"{{{{{what}}}}}", container))

    def running(self, services: tuple[str, ...]) -> list[str]:
        """Return the containers of these services that have not ended."""
        alive = set(self.run("docker", "ps", "-q").split())
        return [each for service in services for each in self.containers(service) if each in alive]

    def inside(self, service: str, *command: str, check: bool = True) -> str:
        """Run a command in a service's first container."""
        return self.run("docker", "exec", self.containers(service)[0], *command, check=check)

    def status(self) -> dict[str, Any]:
        """Return the job's status, asked inside the scheduler's container; empty when it does not answer."""
        text = self.inside("scheduler", "psctl", "status", "--json", check=False)
        status: dict[str, Any] = json.loads(text) if text else {}
        return status

    def clock(self) -> int:
        """Return the highest clock that the scheduler knows of; -1 when it does not answer."""
        return max((worker.get("clock") or 0 for worker in self.status().get("workers", [])), default=-1)

    def fetch(self, service: str, port: int, path: str, token: str = "") -> tuple[int, str]:
        """Return status and text of an answer by HTTP, from the port of this machine that leads to a service's."""
        where = self.compose("port", service, str(port))
        request = urllib.request.Request(f"http://{where}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()
        except OSError as error:
            return 0, str(error)

    def prometheus(self, expression: str) -> list[Any]:
        """Return what Prometheus answers to an expression: labels and values."""
        code, text = self.fetch("prometheus", 9090, f"/api/v1/query?query={urllib.request.quote(expression)}")
        return json.loads(text)["data"]["result"] if code == 200 else []

    def logs(self) -> str:
        """Return what the containers printed."""
        return self.compose("logs", "--no-color", check=False)

    def wait(self, what: str, happened: Callable[[], object]) -> None:
        """Return when it happened; Broken when it takes too long."""
        deadline = time.monotonic() + self._timeout
        while not happened():
            if time.monotonic() > deadline:
                raise Broken(f"waited {self._timeout:g} s for {what}")
            time.sleep(0.5)

    def wait_for_end(self, services: tuple[str, ...]) -> None:
        """Return when all containers of these services have ended."""
        self.wait(f"the end of {', '.join(services)}", lambda: not self.running(services))

    def wait_for_health(self, services: tuple[str, ...]) -> None:
        """Return when all of these say that they are healthy."""
        for name in services:
            self.wait(f"{name} to be healthy", lambda name=name: self.inspect(name)["Health"]["Status"] == "healthy")
        say(f"healthy: {', '.join(services)}")

    def expect_nobody_is_root(self, services: tuple[str, ...]) -> None:
        """Broken unless all processes of these are the image's own user."""
        for name in services:
            text = self.run("docker", "top", self.containers(name)[0], "-eo", "pid,uid,comm")
            found = {int(line.split()[1]) for line in text.splitlines()[1:] if "init" not in line}
            if found != {OURS} or self.inside(name, "id", "-u") != str(OURS):
                raise Broken(f"{name} runs as {found}:\n{text}")
        say(f"run as {OURS}: {', '.join(services)}")

    def expect_accuracy(self, least: float) -> None:
        """Broken unless one worker printed a test accuracy of so much."""
        found = re.findall(r"test accuracy ([0-9.]+)", self.logs())
        if len(found) != 1 or float(found[0]) < least:
            raise Broken(f"expected one test accuracy of at least {least}, found {found}")
        say(f"test accuracy {found[0]}")

    def expect_exits(self, wanted: dict[str, list[int]]) -> None:
        """Broken unless each service's containers ended with these statuses, in any order."""
        for service, codes in wanted.items():
            ids = self.containers(service)
            found = sorted(int(self.run("docker", "inspect", "-f", "{{.State.ExitCode}}", id)) for id in ids)
            if found != codes:
                raise Broken(f"{service} ended with {found} instead of {codes}")
        say(f"exit statuses as they should be: {wanted}")


def say(text: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

#!/usr/bin/env python3
"""Build the image and try the compose file on a real engine: a whole run, and one in which processes are killed.

    scripts/containers/try_engine.py                        the engine that docker reaches (DOCKER_HOST)
    scripts/containers/try_engine.py --base debian-py       a local image with Python 3.11+ and its venv module
    scripts/containers/try_engine.py --keep                 leave the containers of the last step for a look

Needs docker with its compose plugin, or docker-compose; nothing of this package. Exit status 1: a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROJECT = f"ps-try-{os.getpid()}"
SERVICES = ("scheduler", "server-0", "server-1")
KILL_ITS_PROCESS = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"


class Broken(Exception):
    """A promise that did not hold."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="base image; default: the Dockerfile's")
    parser.add_argument("--keep", action="store_true", help="do not remove containers and volumes at the end")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each wait; the build has 30 min (300)")
    options = parser.parse_args()
    engine = Engine({"IMAGE": PROJECT, **({"BASE": options.base} if options.base else {})}, options.timeout)
    try:
        say("building")
        engine.compose("build", timeout=1800)
        whole_run(engine)
        engine.compose("down", "-v")
        killed_processes(engine)
    except Broken as broken:
        say(f"BROKEN: {broken}")
        print(engine.logs())
        return 1
    finally:
        if not options.keep:
            engine.compose("down", "-v", check=False)
            engine.run("docker", "image", "rm", "-f", PROJECT, check=False)
    say("every promise held")
    return 0


def whole_run(engine: Engine) -> None:
    """Four workers train to the end, and everything ends with them."""
    say("a whole run with four workers")
    began = time.monotonic()
    engine.compose("up", "-d", "--scale", "worker=4", env={"WORKERS": "4", "RUN": "whole"})
    engine.wait("all containers to end", lambda: not engine.running())
    say(f"ended after {time.monotonic() - began:.0f} s")
    engine.expect_accuracy()
    engine.expect_exits({name: [0] for name in SERVICES} | {"worker": [0, 0, 0, 0]})


def killed_processes(engine: Engine) -> None:
    """A worker killed in mid-run does not stop the others; a killed scheduler comes back with its state."""
    say("a run in which a worker and the scheduler are killed")
    settings = {"WORKERS": "4", "RUN": "killed", "ARGS": "--epochs 1000", "PS_HEARTBEAT_TIMEOUT": "3"}
    engine.compose("up", "-d", "--scale", "worker=4", env=settings)
    engine.wait("health", lambda: all(engine.inspect(name)["Health"]["Status"] == "healthy" for name in SERVICES))
    engine.wait("clock 50", lambda: engine.clock() > 50)
    victim = next(worker["host"] for worker in engine.status()["workers"] if worker["rank"] == 3)
    engine.run("docker", "kill", "--signal", "KILL", victim)  # a container's host name is its id
    killed_at = engine.clock()
    say(f"killed worker 3 at clock {killed_at}")
    engine.wait("the others to go on", lambda: engine.clock() > killed_at + 100)
    deaths = engine.status()["deaths"]
    if [(death["role"], death["why"]) for death in deaths] != [("worker", "no heartbeat for 3 s")]:
        raise Broken(f"one worker died, but the scheduler tells of {deaths}")
    say(f"the others go on, at clock {engine.clock()}; killing the scheduler's process")
    (scheduler,) = engine.containers("scheduler")
    engine.run("docker", "exec", scheduler, "python", "-c", KILL_ITS_PROCESS, check=False)
    engine.wait(
        "the scheduler to come back",
        lambda: engine.run("docker", "inspect", "-f", "{{.RestartCount}}", scheduler) != "0",
    )
    back_at = engine.clock()
    engine.wait("training beside the new scheduler", lambda: engine.clock() > back_at)
    if engine.status()["deaths"] != deaths:
        raise Broken("the scheduler forgot its state when it was restarted")
    say(f"it came back with its state, at clock {engine.clock()}")
    engine.wait("all containers to end", lambda: not engine.running())
    engine.expect_accuracy()
    engine.expect_exits({name: [0] for name in SERVICES} | {"worker": [0, 0, 0, 137]})


class Engine:
    """The commands that this check needs of an engine."""

    def __init__(self, env: dict[str, str], timeout: float) -> None:
        self._env = {**os.environ, **env}
        self._timeout = timeout
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        program = ["docker-compose"] if plugin.returncode else ["docker", "compose"]
        self._compose = [*program, "-p", PROJECT, "-f", str(ROOT / "compose.yaml")]

    def run(self, *command: str, check: bool = True, timeout: float | None = None) -> str:
        """Run a command and return what it prints; Broken with what it said when it fails."""
        try:
            done = subprocess.run(
                command, env=self._env, capture_output=True, text=True, timeout=timeout or self._timeout, check=False
            )
        except subprocess.TimeoutExpired as late:
            raise Broken(f"{' '.join(command)} did not end within {late.timeout:g} s") from None
        if check and done.returncode:
            raise Broken(
                f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return done.stdout.strip()

    def compose(self, *command: str, check: bool = True, timeout: float | None = None, env: Any = ()) -> str:
        """Run a compose command; ``env`` holds for later ones too."""
        self._env.update(env)
        return self.run(*self._compose, *command, check=check, timeout=timeout)

    def containers(self, service: str) -> list[str]:
        """Return the containers of a service, ended ones too."""
        return self.compose("ps", "-a", "-q", service).split()

    def inspect(self, service: str) -> dict[str, Any]:
        """Return the state of a service's only container."""
        (container,) = self.containers(service)
        state: dict[str, Any] = json.loads(self.run("docker", "inspect", "-f", "{{json .State}}", container))
        return state

    def running(self) -> list[str]:
        """Return the containers of the project that have not ended."""
        found = self.run("docker", "ps", "-q", "--filter", f"label=com.docker.compose.project={PROJECT}")
        return found.split()

    def status(self) -> dict[str, Any]:
        """Return the job's status, asked inside the scheduler's container; empty when it does not answer."""
        (scheduler,) = self.containers("scheduler")
        text = self.run("docker", "exec", scheduler, "psctl", "status", "--json", check=False)
        status: dict[str, Any] = json.loads(text) if text else {}
        return status

    def clock(self) -> int:
        """Return the highest clock that the scheduler knows of; -1 when it does not answer."""
        return max((worker.get("clock") or 0 for worker in self.status().get("workers", [])), default=-1)

    def logs(self) -> str:
        """Return what the containers printed."""
        return self.compose("logs", "--no-color", check=False)

    def wait(self, what: str, happened: Callable[[], bool]) -> None:
        """Return when it happened; Broken when it takes too long."""
        deadline = time.monotonic() + self._timeout
        while not happened():
            if time.monotonic() > deadline:
                raise Broken(f"waited {self._timeout:g} s for {what}")
            time.sleep(0.5)

    def expect_accuracy(self) -> None:
        """Broken unless a worker printed a test accuracy of at least 0.95."""
        found = re.findall(r"test accuracy ([0-9.]+)", self.logs())
        if len(found) != 1 or float(found[0]) < 0.95:
            raise Broken(f"expected one test accuracy of at least 0.95, found {found}")
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


if __name__ == "__main__":
    sys.exit(main())

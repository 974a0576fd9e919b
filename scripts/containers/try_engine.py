#!/usr/bin/env python3
"""Build the image and try it on a real engine, with compose.yaml and with what psctl render compose writes.

    scripts/containers/try_engine.py                          the engine that docker reaches (DOCKER_HOST)
    scripts/containers/try_engine.py --base debian-python     a local image with Python 3.11+ and its venv module
    scripts/containers/try_engine.py --prometheus /usr/bin/prometheus    in an image on that base, not prom/prometheus
    scripts/containers/try_engine.py killed stopped           these trials alone
    scripts/containers/try_engine.py --keep                   leave the containers of the last trial for a look

Needs docker with its compose plugin, or docker-compose; nothing of this package.
Exit status 1: a promise is broken; 2: there is no engine.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from engine import PROJECT, ROOT, Broken, Engine, missing, say

MOST = 400_000_000
"""Bytes of the image, at most."""
SERVERS = ("scheduler", "server-0", "server-1")
JOB = (*SERVERS, "worker")
LEAST = 0.9
"""The test accuracy of ps/examples/demo.py."""
UNTIL = {"SCRIPTS": str(ROOT / "scripts/containers/scripts"), "SCRIPT": "until.py"}
"""The same, which trains until it is told that it is enough."""
KILL_ITS_PROCESS = """\
import os, pathlib
[psctl] = [int(each.name) for each in pathlib.Path("/proc").iterdir() if each.name.isdecimal() and int(each.name) > 1
           and b"psctl\\0scheduler" in (each / "cmdline").read_bytes()]
os.kill(psctl, 9)
"""
STAND_IN = """\
FROM {base}
COPY {program} /bin/prometheus
RUN install -d -o nobody /prometheus
USER nobody
ENTRYPOINT ["/bin/prometheus"]
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", choices=[[], *TRIALS], help=f"of {', '.join(TRIALS)}; default: all")
    parser.add_argument("--base", help="base image; default: the Dockerfile's")
    parser.add_argument("--prometheus", metavar="PROGRAM", help="a program of this machine; default: prom/prometheus")
    parser.add_argument("--keep", action="store_true", help="do not remove containers and volumes at the end")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for each wait; the build has 30 min (300)")
    options = parser.parse_args()
    if why := missing():
        print(f"no engine can be tried here: {why}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and nothing is left behind
    env = {"IMAGE": PROJECT, "PAGE": "127.0.0.1:0", "PROMETHEUS": "127.0.0.1:0"}
    engine = Engine({**env, **({"BASE": options.base} if options.base else {})}, options.timeout)
    try:
        build(engine, options.base)
        if options.prometheus:
            stand_in(engine, options.base or "debian:stable-slim", Path(options.prometheus))
        for name in options.trials or TRIALS:
            say(f"== {name}: {TRIALS[name].__doc__.splitlines()[0]}")
            began = time.monotonic()
            TRIALS[name](engine)
            say(f"== {name}: {time.monotonic() - began:.0f} s")
            if not options.keep:
                engine.down()
    except Broken as broken:
        say(f"BROKEN: {broken}")
        print(engine.logs())
        return 1
    finally:
        if not options.keep:
            engine.down()
            engine.run("docker", "image", "rm", "-f", PROJECT, f"{PROJECT}-prometheus", check=False)
    say("every promise held")
    return 0


def build(engine: Engine, base: str | None) -> None:
    """The image is small, and is not root's."""
    say("building")
    engine.compose("build", timeout=1800)
    sizes = [int(engine.run("docker", "image", "inspect", "-f", "{{.Size}}", each)) for each in (PROJECT, base) if each]
    below = f", of which the base {sizes[1] / 1e6:.0f} MB" if base else ""
    say(f"the image has {sizes[0] / 1e6:.0f} MB{below}")
    if sizes[0] > MOST:
        raise Broken(f"the image has more than {MOST / 1e6:.0f} MB")


def stand_in(engine: Engine, base: str, program: Path) -> None:
    """Build an image with a program of this machine in the place of prom/prometheus."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(program, folder)
        (Path(folder) / "Dockerfile").write_text(STAND_IN.format(base=base, program=program.name))
        engine.run("docker", "build", "-t", f"{PROJECT}-prometheus", folder)
    engine.compose("config", "-q", env={"PROMETHEUS_IMAGE": f"{PROJECT}-prometheus"})


def whole(engine: Engine) -> None:
    """Four workers train to the end, and everything ends with them."""
    engine.compose("up", "-d", "--scale", "worker=4", *JOB, env={"WORKERS": "4", "RUN": "whole"})
    engine.wait_for_end(JOB)
    engine.expect_accuracy(LEAST)
    engine.expect_exits({name: [0] for name in SERVERS} | {"worker": [0, 0, 0, 0]})


def killed(engine: Engine) -> None:
    """A worker that is killed does not stop the others, which page and Prometheus tell; a killed scheduler comes back.

    The scheduler goes on with its state, and page and Prometheus with it.
    """
    settings = {**UNTIL, "WORKERS": "4", "RUN": "killed", "PS_HEARTBEAT_TIMEOUT": "3"}
    engine.compose("up", "-d", "--scale", "worker=4", *JOB, "page", "prometheus", env=settings)
    engine.wait_for_health((*SERVERS, "page"))
    engine.expect_nobody_is_root((*JOB, "page"))
    engine.wait("clock 50", lambda: engine.clock() > 50)
    look_at_the_page(engine)
    look_at_prometheus(engine)
    victim = next(worker["host"] for worker in engine.status()["workers"] if worker["rank"] == 3)
    engine.run("docker", "kill", "--signal", "KILL", victim)  # a container's host name is its id
    killed_at = engine.clock()
    say(f"killed worker 3 at clock {killed_at}")
    engine.wait("the others to go on", lambda: engine.clock() > killed_at + 100)
    deaths = engine.status()["deaths"]
    if [(death["role"], death["why"]) for death in deaths] != [("worker", "no heartbeat for 3 s")]:
        raise Broken(f"one worker died, but the scheduler tells of {deaths}")
    firing = 'ALERTS{alertstate="firing",alertname="MemberGone",role="worker"}'
    engine.wait("the alert of a member that is gone", lambda: engine.prometheus(firing))
    say(f"the others go on, at clock {engine.clock()}, and the alert MemberGone fires; killing the scheduler's process")
    engine.inside("scheduler", "python", "-c", KILL_ITS_PROCESS, check=False)
    engine.wait("the scheduler to come back", lambda: engine.inspect("scheduler", "json .RestartCount") != 0)
    back_at = engine.clock()
    engine.wait("training beside the new scheduler", lambda: engine.clock() > back_at)
    if engine.status()["deaths"] != deaths:
        raise Broken("the scheduler forgot its state when it was restarted")
    say(f"it came back with its state, at clock {engine.clock()}")
    engine.wait("news of it in Prometheus", lambda: engine.prometheus("ps_up == 1"))
    enough = ["--no-deps", "--entrypoint", "touch", "worker", "/runs/enough"]
    engine.compose("run", "--rm", *enough)
    engine.wait_for_end(JOB)
    engine.expect_accuracy(LEAST)
    engine.expect_exits({name: [0] for name in SERVERS} | {"worker": [0, 0, 0, 137]})
    engine.wait("Prometheus to see that it is over", lambda: engine.prometheus("ps_up == 0"))
    say("page and Prometheus outlive the job, and say that it is over")


def look_at_the_page(engine: Engine) -> None:
    """Who has the token sees the job; who has not sees nothing of it."""
    token = engine.inside("page", "cat", "/token/token")
    if len(token) < 32:
        raise Broken(f"the token is {token!r}")
    for path, mark in (("/snapshot.json", '"members"'), ("/curves.json", '"curves"'), ("/metrics", "ps_up 1.0")):
        for key in ("", token[:-1]):
            if (found := engine.fetch("page", 7080, path, key))[0] != 401:
                raise Broken(f"{path} with the token {key!r}: {found}")
        code, text = engine.fetch("page", 7080, path, token)
        if code != 200 or mark not in text:
            raise Broken(f"{path} with the token: {code} {text[:1000]}")
    code, text = engine.fetch("page", 7080, "/")
    if code != 200 or "plotly" not in text:
        raise Broken(f"the page: {code} {text[:1000]}")
    say(f"the page has {len(text) / 1e6:.1f} MB; what it shows is refused without the token, and to another one")


def look_at_prometheus(engine: Engine) -> None:
    """It scrapes the page with the token, and watches the alerts."""
    engine.wait("Prometheus to scrape the page", lambda: engine.prometheus("up == 1"))
    four = 'ps_members{role="worker",state="live"} == 4'
    engine.wait("Prometheus to know of four workers", lambda: engine.prometheus(four))
    rules = re.findall(r"alert: (\w+)", (ROOT / "scripts/monitoring/alerts.yml").read_text())
    code, text = engine.fetch("prometheus", 9090, "/api/v1/rules")
    if code != 200 or '"health":"err"' in text or not all(f'"name":"{name}"' in text for name in rules):
        raise Broken(f"the rules of Prometheus: {code} {text[:2000]}")
    if engine.inside("prometheus", "id", "-u") == "0":
        raise Broken("Prometheus runs as root")
    say(f"Prometheus scrapes the page and watches {len(rules)} alerts")


def stopped(engine: Engine) -> None:
    """What is stopped leaves a checkpoint, and goes on from there when it is started again."""
    settings = {**UNTIL, "WORKERS": "2", "RUN": "stopped", "PS_CHECKPOINT_DIR": "/state/kept"}
    start = ("up", "-d", "--scale", "worker=2", *JOB)
    for command in (("kill", "-s", "SIGTERM"), ("stop",)):
        engine.compose(*start, env=settings)
        engine.wait_for_health(SERVERS)
        engine.wait("50 steps", lambda: engine.clock() > 50)
        before = engine.clock()
        began = time.monotonic()
        engine.compose(*command)
        engine.wait_for_end(JOB)
        say(f"{' '.join(command)}: all have ended after {time.monotonic() - began:.1f} s")
        if any(engine.inspect(name)["ExitCode"] == 137 for name in SERVERS):
            raise Broken("one of them had to be killed")
        engine.compose(*start, env=settings)
        engine.wait_for_health(SERVERS)
        engine.wait("a step", lambda: engine.clock() >= 0)
        step = engine.status()["checkpoint"]["step"]
        if step is None or step < before or engine.clock() < step:
            raise Broken(f"it was stopped after step {before}, its checkpoint is {engine.status()['checkpoint']}")
        say(f"asked to end at step {before}, it left a checkpoint of step {step} and went on from there")
        engine.down()


def rendered(engine: Engine) -> None:
    """What psctl render compose writes for a job runs as it is."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "ps/examples/demo.py", Path(folder) / "train.py")
        words = ["render", "compose", "-s", "2", "-w", "2", "--image", PROJECT, "train.py", "--epochs", "3"]
        text = engine.run("docker", "run", "--rm", "--network", "none", PROJECT, *words)
        Path(folder).chmod(0o755)
        ours, engine.file = engine.file, Path(folder) / "compose.yaml"
        engine.file.write_text(f"{text}\n")
        try:
            engine.compose("up", "-d")
            engine.wait_for_end(JOB)
            engine.expect_accuracy(0.5)
            engine.expect_exits({name: [0] for name in SERVERS} | {"worker": [0, 0]})
        finally:
            engine.compose("down", "-v", check=False)
            engine.file = ours


TRIALS = {each.__name__: each for each in (whole, killed, stopped, rendered)}

if __name__ == "__main__":
    sys.exit(main())

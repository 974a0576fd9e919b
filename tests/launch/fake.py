"""A stand-in for ``python -m ps.cli``: roles that follow the launcher's contract and misbehave on request.

A worker runs its script; scheduler and servers run the statements in FAKE_SCHEDULER and FAKE_SERVER (by default
they wait to be ended). Every process leaves a file named by its pid in FAKE_PIDS. After
their launcher's death they have a second, with FAKE_GRACE what the setting says.
"""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

from ps.launch import lifeline, parent

WAIT = "while True: time.sleep(60)"


def grandchild() -> None:
    """Start a process that outlives this one unless somebody ends it."""
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (Path(os.environ["FAKE_PIDS"]) / str(sleeper.pid)).touch()


def stubborn() -> None:
    """Ignore SIGTERM from now on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def ready(address: str = "tcp://127.0.0.1:45678") -> None:
    """Do what the command line does once a scheduler listens."""
    with os.fdopen(int(os.environ["PS_READY_FD"]), "w") as file:
        file.write(address + "\n")


def rendezvous(count: int) -> None:
    """Wait until ``count`` processes have been started."""
    for _ in range(1000):
        if sum(1 for _ in Path(os.environ["FAKE_PIDS"]).iterdir()) >= count:
            return
        time.sleep(0.01)
    sys.exit("the others never came")


HELPERS = {
    "os": os,
    "sys": sys,
    "time": time,
    "signal": signal,
    "grandchild": grandchild,
    "stubborn": stubborn,
    "ready": ready,
    "rendezvous": rendezvous,
}

role, *rest = sys.argv[1:]
lifeline.watch(
    int(os.environ["PS_LIFELINE_FD"]), os.environ["PS_RUNTIME_DIR"], grace=None if "FAKE_GRACE" in os.environ else 1.0
)
parent.untie()
(Path(os.environ["FAKE_PIDS"]) / str(os.getpid())).touch()
if role == "worker":
    sys.argv[:] = rest[1:]
    runpy.run_path(sys.argv[0], init_globals=HELPERS, run_name="__main__")
else:
    default = f"ready(); {WAIT}" if role == "scheduler" else WAIT
    exec(os.environ.get(f"FAKE_{role.upper()}", default).replace("; while", "\nwhile"), dict(HELPERS))

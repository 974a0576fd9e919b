"""Which commands and blocks of the documents are run by tests, as what, and which cannot be.

Nothing is edited by hand. Placeholders are filled (``FILLED``), no number is larger than ``MOST`` allows, commands get
what makes them short (``SHORT``), and 10.0.0.N is a loopback address. What cannot be run here is in ``NOT_RUN``.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from support.documents import Python, Session, sessions

LARGE = "imports large libraries; tests/e2e/test_torch_libraries.py runs the examples of all with one import"
NETWORK, DOCKER, MINUTES = "installs over the network", "needs docker and the network", "takes minutes or hours"
NOT_RUN = {
    "scripts/check": "runs this test",
    "scripts/quickstart": NETWORK,
    "pip ": NETWORK,
    "debootstrap ": NETWORK,
    ".* --device cuda ": "needs a GPU",
    "psctl (checkpoint|export) ?": "of a job that makes some; tests/e2e/test_checkpoint.py has it",
    "python -m support.cut_short": MINUTES + "; tests/e2e/test_cut_short.py runs a part of it",
    "psctl simulate .*--clients 10000 ": MINUTES,
    "scripts/bench/(federated_paper|private_mnist).py ": MINUTES,
    "python -m support.many_members": MINUTES,
    "python -m support.hanging_on": MINUTES + "; tests/e2e/test_limits.py has 150 clients",
    "psctl keys ": "tests/cli/test_examples.py runs these with the files that they name",
    "scripts/examples/hospitals/": "tests/e2e/test_hospitals.py runs it in both modes",
    "psctl (scheduler|server|worker) .*--keys (keys|DIR)": "one of several; tests/e2e/test_hospitals.py has all",
    "psctl helper ": "helps a job that runs; tests/e2e/test_masked_run.py has one",
    "psctl run .*--secure ": "needs more clients than there are here; tests/e2e/test_masked_run.py has them",
    "psctl drain ": "empties a server of a job that runs; tests/e2e/test_moves.py has one",
    "psctl follow ": "follows a job that runs; tests/following has one",
    "docker ": DOCKER,
    "[A-Z].*docker ": DOCKER,
    "tar .*docker ": DOCKER,
    "scripts/containers/try_engine.py": DOCKER,
    "scripts/chaos ": MINUTES + "; tests/e2e/test_chaos.py runs seconds of it",
    "python scripts/bench/(torch_step|pipeline|activations).py": MINUTES,
    r"(python |psctl run .*)ps/examples/torch_(trainer|accelerate|lightning)\.py": LARGE,
    r"psctl run .*ps/examples/torch_opacus\.py": "tests/e2e/test_opacus.py runs it in both modes",
    "python scripts/bench/links.py": MINUTES + "; tests/e2e/test_hosts.py uses its hosts",
    "python scripts/bench/compare.py": MINUTES + "; tests/scripts/test_compare.py runs its parts",
    "psctl run (--on|-s 2 -w 8 --on) ": "runs where Slurm is; scripts/engines/slurm and tests/engines try it",
    "psctl render ": "tests/engines/test_documents.py renders what the documents do",
    "psctl (page|top) ": "looks at a job that runs; tests/monitor has one",
    "psctl run .*--page ": "needs plotly; tests/monitor/test_page.py has one",
    "psctl status --json": "asks whoever is at port 7070 of this host; the job of several machines asks its own",
    "psctl (server|worker) --trace FILE": "half a command; tests/e2e/test_trace.py runs whole ones",
}
"""Beginnings of commands (regular expressions), and why they cannot be run here."""
MODES_OF_DIGITS = "test_modes.py trains digits.py, which is written alike, in every mode"
WITH_WORKERS = "the same script runs as a worker of a job, and digits.py and demo.py alone"
LONG = {
    r"psctl run .*--mode \w+ .*ps/examples/(jax_mlp|mnist|torch_mnist|torch_text)\.py": MODES_OF_DIGITS,
    r"psctl run -s 2 -w 4 --mode \w+ .*ps/examples/digits\.py": "test_modes.py trains it in every mode, to its end",
    r"psctl run .*--mode \w+ -m ps\.examples\.demo": MODES_OF_DIGITS + ", and psctl demo runs this one",
    r"python ps/examples/(jax|sklearn|torch)_\w+\.py": WITH_WORKERS,
    r"psctl run .*ps/examples/mnist\.py --limit": "it runs with --data",
    r"psctl run .*ps/examples/sklearn_sgd\.py --partition": "it runs as it is, and digits.py with --partition",
    r"psctl run .*--save model.safetensors ps/examples/digits\.py": "train.py does the same",
}
"""Beginnings of commands that run with ``scripts/check --long``, and what is like them and runs always."""
FORKED = r"psctl (run|compare) "
TYPED = ("psctl run -s 2 -w 4 ps/examples/digits.py", "psctl run -m package.train")
"""Beginnings of commands whose processes are forked (``support/fork_server.py``), but for these: a shell starts them,
as it does psctl demo, the roles of several machines and whatever else there is; with --long it starts everything."""

FILLED = {
    "FILE…": "a.json b.json",
    "FILE": "file.json",
    "COMMAND": "run",
    "DIR": "data",
    "NAME": "iid",
    "…": "train.py",
}
MOST = {
    "-w": 2,
    "--clients": 500,
    "--rounds": 2,
    "--clients-per-round": 2,
    "scripts/fuzz_messages": 2000,
}
SHORT = {
    r"(psctl demo)$": r"\1 -s 1 -w 2 --mode federated --rounds 2",
    r"(psctl run) -s \d+": r"\1 -s 1",
    r"(psctl compare)": r"\1 --only centralized,federated-non-iid -w 2 --clients 2 --rounds 1 --no-dropout",
    r"(psctl simulate(?!.* --rounds))": r"\1 --rounds 2",
    r"(ps/examples/\w+\.py|-m ps\.examples\.\w+)( -.*|$)": r"\1 --epochs 1\2",
    r"(-m ps\.examples\.demo)": r"\1 --examples 5000",
    r"(scripts/bench/kernels\.py)": r"\1 --size 500000 --repeats 1",
    r"(scripts/bench/half\.py)": r"\1 --parameters 100000 --turns 1 --steps 2 --transport tcp --optimizer sgd:lr=1e-3",
    r"(scripts/bench/checkpoint\.py)": r"\1 --mb 10 --times 2",
    r"(scripts/bench/bubble\.py)": r"\1 --schedules zero-bubble --microbatches 4 --steps 1 --pass-ms 1",
    r"(ps/examples/torch_text\.py)": r"\1 --limit 90000 --batch-size 16",
    r" -w 2( --mode .*(?:torch|jax)_\w+\.py| ps/examples/(?:sklearn_sgd|torch_text)\.py)": r" -w 1\1",
    r"10\.0\.0\.": f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.",
}

BEFORE = {
    "grads = kv.grads": """
import numpy as np, ps
kv = ps.connect(optimizer="sgd:lr=0.1")
params = kv.init({"layer0/weight": np.zeros((64, 10), np.float32)})
x, d = np.ones((32, 64), np.float32), np.ones((32, 10), np.float32)
""",
    "params = kv.init(params, groups=": """
import numpy as np, ps
kv = ps.connect()
params = {name: np.ones(3, np.float32) for name in ("a.bias", "fc.weight", "out.weight")}
""",
    "loss, grads = mlp.loss_and_grad(": """
import numpy as np, ps
from ps.models import mlp
kv = ps.connect(optimizer="sgd:lr=0.1")
params = kv.init(mlp.init([64, 10], seed=0))
x, y = np.ones((32, 64), np.float32), np.ones(32, np.int64)
""",
    "for x, y in kv.batches(train, ": """
import numpy as np, ps
from ps.models import mlp
kv = ps.connect(optimizer="sgd:lr=0.1")
params = kv.init(mlp.init([64, 10], seed=0))
train = np.ones((64, 64), np.float32), np.ones(64, np.int64)
""",
    "import ps\nfrom ps.models import mlp, softmax_cross_entropy": """
import numpy as np
train = test = np.ones((192, 64), np.float32), np.ones(192, np.int64)
""",
    "with ps.follow(address": """
import threading, time
import numpy as np, ps
from ps.models import mlp
from ps.testing import LocalCluster
job = LocalCluster()
def work(kv):
    kv.init(mlp.init([64, 10], seed=0))
    while "snapshot" not in globals():  # the first that the block is given
        time.sleep(0.01)
threading.Thread(target=job.run, args=(work,)).start()
address, test = job.address, (np.ones((8, 64), np.float32), np.zeros(8, np.int64))
""",
    "import ps.federated": """
import numpy as np
w, b = np.zeros(3), np.zeros(1)
def fit(params, about):
    return {name: value + 1 for name, value in params.items()}, 10
def evaluate(params):
    return {"accuracy": float(params["b"][0])}
""",
}
"""What stands before a block that goes on with what was told: its beginning, and lines that it may rely on."""


def reason(line: str) -> str:
    """Return why a command cannot be run here, or nothing."""
    return next((why for begin, why in NOT_RUN.items() if re.match(begin, line)), "")


def short(line: str) -> str:
    """Return a command that can be run as it stands, in seconds."""
    words = [FILLED.get(word, word) for word in line.replace("=FILE ", f"={FILLED['FILE']} ").split(" ")]
    for at, word in enumerate(words[:-1]):
        if word in MOST:
            words[at + 1] = ":".join(str(min(int(number), MOST[word])) for number in words[at + 1].split(":"))
    line = " ".join(words)
    for pattern, text in SHORT.items():
        line = re.sub(pattern, text, line)
    return line


def fits(block: Python) -> list[str]:
    return [begin for begin in BEFORE if block.text.startswith(begin)]


def always(session: Session) -> bool:
    return not any(re.match(begin, line) for line in session.lines for begin in LONG)


def typed_here(session: Session) -> Any:
    """Return a parameter of a test, which is left out where it takes long."""
    why = next((why for begin, why in LONG.items() for line in session.lines if re.match(begin, line)), "")
    return pytest.param(session, marks=pytest.mark.long(why)) if why else session


RUN = [session for session in sessions() if not any(map(reason, session.lines))]

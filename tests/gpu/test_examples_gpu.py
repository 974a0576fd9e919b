"""Every example runs on a CUDA device as it is: a user with a GPU types what the documents say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ps import xp
from support.device_run import ROOT, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.e2e,
    pytest.mark.timeout(170),
    pytest.mark.skipif(xp.cupy() is None, reason="no CUDA device, or no cupy"),
]

EXAMPLES = [
    ("-w 2 --save model.safetensors --save-masters", "digits.py", "sklearn"),
    ("-w 2 --mode federated --rounds 3", "sklearn_sgd.py", "sklearn"),
    ("-w 2", "jax_mlp.py", "jax"),
    ("-w 2", "torch_mnist.py --epochs 1", "torch"),
    ("-w 2 --transport shm", "torch_mnist.py --epochs 1", "torch"),
    ("-w 2 --mode federated --rounds 2", "torch_mnist.py --epochs 1", "torch"),
    ("-w 2", "torch_text.py --limit 60000 --epochs 1", "torch"),
    ("-w 2", "torch_trainer.py --limit 600 --epochs 1", "transformers"),
    ("-w 2", "torch_accelerate.py --examples 2000", "accelerate"),
    ("-w 2", "torch_lightning.py --epochs 2", "lightning"),
    ("-w 1", "pipeline_mlp.py --epochs 2", "sklearn"),
    ("-w 4 --mode pipeline", "pipeline_mlp.py --epochs 2", "sklearn"),
    ("-w 2", "demo.py", "numpy"),
]


@pytest.mark.parametrize(
    ("flags", "script", "needs"), EXAMPLES, ids=[f"{script} {flags}" for flags, script, _ in EXAMPLES]
)
def test_an_example_runs_on_the_device(flags: str, script: str, needs: str, tmp_path: Path) -> None:
    pytest.importorskip(needs)
    name, *args = script.split()
    example = str(ROOT / "ps/examples" / name)
    output = run("-s", "2", *flags.split(), example, *args, where=tmp_path, timeout=160)
    assert re.search(r"accuracy|loss|place|model", output), output
    assert not re.search(r"Traceback", output), output

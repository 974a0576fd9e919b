"""Files of models and PyTorch: what was trained loads strictly into the bare module, and evaluates as it was logged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from safetensors.torch import load_file

import ps.torch
from ps.worker import KV

Local = Callable[..., KV]


def network() -> Any:
    torch.manual_seed(3)
    return torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4), torch.nn.ReLU()),
        *(torch.nn.Flatten(), torch.nn.Linear(64, 3)),
    )


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_file_loads_strictly_into_the_bare_module(local: Local, tmp_path: Path, dtype: str, prefix: str) -> None:
    module = network().to(getattr(torch, dtype), memory_format=torch.channels_last)
    state = {prefix + name: tensor.detach() for name, tensor in module.state_dict().items()}
    counters = {name: "counter" for name in state if name.endswith("tracked")}
    given = {name: tensor.float() if dtype == "bfloat16" else tensor for name, tensor in state.items()}
    given |= {name: state[name] for name in counters}
    kv = local(optimizer="sgd:lr=0.1")
    kv.init(given, kinds={"*running*": "buffer", **counters})
    kv.save(tmp_path / "m.safetensors")
    fresh = network()
    torch.nn.init.ones_(fresh[0].weight)
    fresh.load_state_dict(load_file(tmp_path / "m.safetensors"), strict=True)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name].to(tensor.dtype)), name


def test_the_file_of_a_module_with_batch_norm_gives_the_number_that_was_measured(local: Local, tmp_path: Path) -> None:
    module, x, y = network(), torch.randn(32, 1, 4, 4), torch.randint(3, (32,))

    def loss_of(model: Any) -> float:
        model.eval()
        with torch.no_grad():
            found = torch.nn.functional.cross_entropy(model(x), y).item()
        model.train()
        return float(found)

    kv = local(optimizer="sgd:lr=0.1")
    optimizer = ps.torch.DistributedOptimizer(module, kv)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    measured = loss_of(module)
    kv.save(tmp_path / "m.safetensors")
    fresh = network()
    fresh.load_state_dict(load_file(tmp_path / "m.safetensors"), strict=True)
    assert loss_of(fresh) == measured


def test_a_file_is_what_transformers_loads_with_its_tied_weight_once(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 11, "n_positions": 6}
    config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
    model = transformers.GPT2LMHeadModel(config).to(torch.bfloat16)
    kv = local(optimizer="sgd:lr=0.1")
    optimizer = ps.torch.DistributedOptimizer(model, kv)
    ids = torch.tensor([[1, 2, 3]])
    torch.nn.functional.cross_entropy(model(ids).logits[0].float(), ids[0]).backward()
    optimizer.step()
    kv.save(tmp_path / "model.safetensors")
    config.save_pretrained(tmp_path)
    again, told = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True, dtype=torch.bfloat16)
    assert not any(told.values())
    assert again.lm_head.weight is again.transformer.wte.weight
    found = again.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(found[name], tensor), name

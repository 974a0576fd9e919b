"""The examples of Trainer, Accelerate and Lightning, and trials of them, each with two workers; results as JSON.

The libraries take ten seconds each to import, so this imports them once and forks workers and clusters.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate  # noqa: F401
import lightning.pytorch
import safetensors.torch
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

import ps.torch
from ps.errors import UsageError
from ps.testing import LocalCluster

EXAMPLES = Path(ps.__file__).parent / "examples"
BOUND = 100
COUNT, BATCH = 26, 3
"""Rows, and those of a batch: each of two workers has 13, so the last batch has one."""


def forked(work: Callable[[], Any], answer: Path) -> int:
    """Run a function in a process of its own, which leaves what it returns, as JSON, in a file."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.alarm(BOUND)
        torch.set_num_threads(1)
        answer.write_text(json.dumps(work()))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def together(work: Callable[[Path], Any], **job: Any) -> list[Any]:
    """Run a function on two workers of a cluster, in a folder for what they write; return what they return."""
    with tempfile.TemporaryDirectory() as name:
        folder, written = Path(name), Path(name) / "written"  # apart from where sockets come and go
        written.mkdir()
        read, write = os.pipe()

        def serve() -> None:
            with LocalCluster(folder, timeout=BOUND, workers=2, servers=1, transport="tcp", **job) as cluster:
                os.write(write, cluster.address.encode())
                os.close(write)

        pids = [forked(serve, folder / "cluster")]
        os.close(write)
        address = os.read(read, 1000).decode()
        os.close(read)

        def script(rank: int) -> Any:
            os.environ.update(PS_SCHEDULER=address, PS_RANK=str(rank), PS_RUNTIME_DIR=str(folder))
            os.chdir(written)
            return work(written)

        def scripted(rank: int) -> Callable[[], Any]:
            return lambda: script(rank)

        pids += [forked(scripted(rank), folder / str(rank)) for rank in range(2)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        assert codes == [0, 0, 0], codes
        return [json.loads((folder / str(rank)).read_text()) for rank in range(2)]


def example(name: str, *arguments: str) -> list[Any]:
    def run(folder: Path) -> dict[str, Any]:
        sys.argv = [name, *arguments]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return {"said": said.getvalue().splitlines()[-1:], "files": sorted(map(str, folder.glob("*/*")))}

    return together(run)


# A model whose rows say which they are


def gpt() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": COUNT + 1, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = GPT2Config(**sizes, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def rows() -> list[dict[str, list[int]]]:
    """Rows of other lengths, each of its own number only."""
    return [{"input_ids": [index] * (3 + index % 9)} for index in range(COUNT)]


def padded(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in batch)
    whole = torch.tensor([row["input_ids"] + [-100] * (longest - len(row["input_ids"])) for row in batch])
    return {"input_ids": whole.clamp(min=0), "attention_mask": (whole >= 0).long(), "labels": whole}


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self) -> Any:
        return iter(rows())


class Watch(TrainerCallback):
    """Notes what is saved and logged, and the servers' weights when it is."""

    def __init__(self, kv: ps.KV) -> None:
        self.kv, self.saved, self.logs = kv, dict[int, Any](), 0

    def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        self.saved[state.global_step] = {name: array.copy() for name, array in self.kv.params.items()}

    def on_log(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        self.logs += state.is_world_process_zero


def settings(folder: Path, **more: Any) -> TrainingArguments:
    return TrainingArguments(
        str(folder / "out"),
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=1,
        learning_rate=0.01,
        weight_decay=0.1,
        lr_scheduler_type="linear",
        warmup_steps=2,
        disable_tqdm=True,
        use_cpu=True,
        logging_steps=1,
        **more,
    )


def trained(folder: Path) -> dict[str, Any]:
    """A refusal, then two epochs with checkpoints and the best model at the end."""
    used: list[list[int]] = []
    more = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 2}
    more |= {"save_total_limit": 1, "load_best_model_at_end": True, "num_train_epochs": 2, "max_grad_norm": 0.3}

    def noted(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        if (seen := [row["input_ids"][0] for row in batch])[0] != COUNT:  # which are for evaluation
            used.append(seen)
        return padded(batch)

    with ps.connect(optimizer="adamw", aggregator="weighted", clip_norm=0.3) as kv:
        trainer = Trainer(gpt(), settings(folder, **more), noted, rows(), [{"input_ids": [COUNT] * 5}] * 8)
        watch, found = Watch(kv), dict[str, Any]()
        trainer.add_callback(watch)
        trainer.args.max_grad_norm = 9.0
        try:
            ps.torch.prepare(trainer, kv)
        except UsageError as error:
            found["refused"] = str(error)
        trainer.args.max_grad_norm = 0.3
        ps.torch.prepare(trainer, kv)
        trainer.train()
        kv.barrier()
        end = {name: array.copy() for name, array in kv.params.items()}
        found |= {"used": used, "steps": trainer.state.global_step, "logs": watch.logs}
        found["lr"] = trainer.optimizer.param_groups[0]["lr"]
        found["weights"] = {name: array.tolist() for name, array in end.items()} if kv.rank == 0 else {}
        folders = sorted((folder / "out").glob("checkpoint-*"))
        found["folders"] = [each.name for each in folders]
        step = int(folders[0].name.partition("-")[2])
        loaded = safetensors.torch.load_file(folders[0] / "model.safetensors")
        model = dict(trainer.model.named_parameters())
        found["loaded"] = all(torch.equal(model[name], loaded[name]) for name in end)
        if kv.rank == 0:
            found["best"] = all((loaded[name].numpy() == array).all() for name, array in watch.saved[step].items())
        kv.barrier()
    return found


class Enough(TrainerCallback):
    """Has training end everywhere, on one of the workers."""

    def __init__(self, kv: ps.KV) -> None:
        self.kv = kv

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if self.kv.rank == 1 and state.global_step == 3:
            self.kv.stop("worker 1 has seen enough")


def stopped_trainer(folder: Path) -> list[int]:
    with ps.connect(optimizer="adamw", aggregator="weighted") as kv:
        more = {"max_steps": 40, "max_grad_norm": 0, "save_strategy": "no"}
        trainer = Trainer(gpt(), settings(folder, **more), padded, rows(), callbacks=[Enough(kv)])
        ps.torch.prepare(trainer, kv)
        trainer.train()
        return [kv.clock, trainer.state.global_step]


class Line(lightning.pytorch.LightningModule):
    """A line through points, of which one worker has seen enough after three steps."""

    def __init__(self, kv: ps.KV) -> None:
        super().__init__()
        self.kv, self.line = kv, torch.nn.Linear(2, 1)

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        if self.kv.rank == 1 and self.kv.clock == 3:
            self.kv.stop("worker 1 has seen enough")
        return self.line(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return ps.torch.DistributedOptimizer(self, self.kv)


def stopped_lightning(folder: Path) -> list[int]:
    with ps.connect(optimizer="sgd:lr=0.1") as kv:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=40, strategy=ps.torch.lightning_strategy(kv), devices=1, **quiet)
        trainer.fit(Line(kv), torch.utils.data.DataLoader(torch.randn(40, 2), batch_size=4))
        return [kv.clock, trainer.global_step]


def streamed(folder: Path) -> list[int]:
    """Data without a length; and what the Trainer looks at before its schedule goes on."""
    used: list[int] = []

    def noted(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        used.extend(row["input_ids"][0] for row in batch)
        return padded(batch)

    with ps.connect(optimizer="adamw", aggregator="weighted") as kv:
        trainer = Trainer(gpt(), settings(folder, max_steps=5, max_grad_norm=0, save_strategy="no"), noted, Stream())
        ps.torch.prepare(trainer, kv)
        trainer.train()
        kv.barrier()
        told = trainer.accelerator.optimizer_step_was_skipped
        trainer.optimizer.optimizer.step_was_skipped = True  # as after a step that another worker has skipped
        assert not told and trainer.accelerator.optimizer_step_was_skipped
    return used


def reference(used: list[list[list[int]]]) -> dict[str, Any]:
    """What plain torch ends with on the batches of both workers together."""
    model = gpt()
    decaying = [each for name, each in model.named_parameters() if each.ndim > 1]
    others = [each for name, each in model.named_parameters() if each.ndim < 2]
    groups = [{"params": decaying, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    total = len(used[0])
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: s / 2 if s < 2 else (total - s) / (total - 2))
    for first, second in zip(*used, strict=True):
        batch = padded([rows()[index] for index in first + second])
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    return {name: each.detach().numpy() for name, each in model.named_parameters()}


def main() -> None:
    found: dict[str, Any] = {"trained": together(trained)}
    found["streamed"] = together(streamed)
    found["stopped"] = [together(stopped_trainer), together(stopped_lightning)]
    found["torch_trainer.py"] = example("torch_trainer.py", "--limit", "400", "--epochs", "1")
    found["torch_accelerate.py"] = example("torch_accelerate.py", "--examples", "600")
    found["torch_lightning.py"] = example("torch_lightning.py", "--epochs", "2")
    weights = found["trained"][0].pop("weights")
    alone = reference([each["used"] for each in found["trained"]])
    found["distance"] = {
        name: float(abs(alone[name] - torch.tensor(array).numpy()).max()) for name, array in weights.items()
    }
    print("found", json.dumps(found))


if __name__ == "__main__":
    main()

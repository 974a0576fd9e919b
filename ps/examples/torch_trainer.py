"""Train a small GPT-2 with Hugging Face's Trainer, character by character, on the text of Python's own help.

python ps/examples/torch_trainer.py                         one process, no cluster
psctl run -s 2 -w 2 ps/examples/torch_trainer.py            two servers, two workers
psctl run -w 2 --mode ssp ps/examples/torch_trainer.py

pip install "paramserver[torch]" transformers accelerate; nothing to download: the model is made from a configuration.
Lines differ in length, so batches are padded, and what counts is the mean over all workers' characters.
"""

import argparse
from pydoc_data.topics import topics
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import ps
import ps.torch

LENGTH = 64


def padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Return a batch of lines: (lines, longest) int64; -100 marks what is no label."""
    ids, longest = [row["input_ids"] for row in rows], max(len(row["input_ids"]) for row in rows)
    whole = torch.tensor([row + [-100] * (longest - len(row)) for row in ids])
    return {"input_ids": whole.clamp(min=0), "attention_mask": (whole >= 0).long(), "labels": whole}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--epochs", type=int, default=2, help="passes over the text (default 2)")
    parser.add_argument("--batch-size", type=int, default=32, help="lines per step and worker (default 32)")
    parser.add_argument("--limit", type=int, default=4000, metavar="N", help="lines of the text (default 4000)")
    parser.add_argument("--output", default="trainer", help="folder of the checkpoints (default trainer)")
    args = parser.parse_args()

    lines = [line[:LENGTH] for name in sorted(topics) for line in topics[name].splitlines() if len(line) > 1]
    numbers = {character: number for number, character in enumerate(sorted(set("".join(lines))))}
    data = [{"input_ids": [numbers[character] for character in line]} for line in lines[: args.limit]]
    training = TrainingArguments(
        args.output,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch_size,
        learning_rate=3e-3,
        weight_decay=0.1,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,  # the servers clip: clip_norm below
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        logging_strategy="epoch",
        disable_tqdm=True,
    )
    config = GPT2Config(
        vocab_size=len(numbers), n_positions=LENGTH, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
    )
    with ps.connect(optimizer="adamw", aggregator="weighted", clip_norm=1.0) as kv:
        trainer = Trainer(GPT2LMHeadModel(config), training, padded, data[200:], data[:200])
        ps.torch.prepare(trainer, kv)
        trainer.train()
        loss = trainer.evaluate()["eval_loss"]
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"test loss {loss:.4f} of the next character after {trainer.state.global_step} steps")


if __name__ == "__main__":
    main()

"""Train a small network with Lightning, on noisy points of spirals.

python ps/examples/torch_lightning.py                         one process, no cluster
psctl run -s 2 -w 2 ps/examples/torch_lightning.py            two servers, two workers
psctl run -w 2 --mode ssp ps/examples/torch_lightning.py

pip install "paramserver[torch]" lightning; nothing to download.
"""

import argparse

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ps
import ps.torch


def spirals(count: int, seed: int) -> TensorDataset:
    """Return points of three arms, (count, 2) float32, and the arm of each, (count,) int64."""
    random = torch.Generator().manual_seed(seed)
    arm, turn = torch.randint(3, (count,), generator=random), torch.rand(count, generator=random)
    angle = 4 * turn + arm * 2 * torch.pi / 3 + 0.1 * torch.randn(count, generator=random)
    return TensorDataset(torch.stack((turn * angle.cos(), turn * angle.sin()), 1), arm)


class Network(lightning.LightningModule):
    """Tells which arm a point is of."""

    def __init__(self, kv: ps.KV, width: int = 64) -> None:
        super().__init__()
        self.kv = kv
        first = [nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU()]
        self.layers = nn.Sequential(*first, nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], number: int) -> None:
        self.log("accuracy", (self.layers(batch[0]).argmax(1) == batch[1]).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = ps.torch.DistributedOptimizer(self, self.kv)
        steps = int(self.trainer.estimated_stepping_batches)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="passes over the points (default 10)")
    parser.add_argument("--output", default="lightning", help="folder of the checkpoints (default lightning)")
    args = parser.parse_args()
    torch.manual_seed(0)
    with ps.connect(optimizer="adam:lr=0.01", clip_norm=1.0) as kv:
        best = ModelCheckpoint(args.output, monitor="accuracy", mode="max", save_top_k=1)
        trainer = lightning.Trainer(
            strategy=ps.torch.lightning_strategy(kv),
            max_epochs=args.epochs,
            gradient_clip_val=1.0,  # the servers clip: clip_norm above
            callbacks=[best],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        train = DataLoader(spirals(3001, seed=0), 50, shuffle=True, drop_last=True)
        trainer.fit(Network(kv), train, DataLoader(spirals(500, seed=1), 500))
        kv.barrier()  # the others may still be training
        if kv.rank == 0:
            print(f"best accuracy {best.best_model_score:.4f} after {trainer.global_step} steps")


if __name__ == "__main__":
    main()

"""Train with loader processes that start after the connection, and say which examples and numbers they gave."""

import torch

import ps
import ps.torch


class Noisy(torch.utils.data.Dataset):
    """Examples with a random number, as augmentation draws it."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(torch.rand(()))


def main() -> None:
    torch.manual_seed(0)  # alike on all workers
    data, model = Noisy(), torch.nn.Linear(1, 1)
    with ps.connect(optimizer="sgd:lr=0.01") as kv:
        optimizer = ps.torch.DistributedOptimizer(model, kv)
        loader = torch.utils.data.DataLoader(
            data, 5, sampler=ps.torch.sampler(kv, data), generator=ps.torch.generator(kv), num_workers=2
        )
        for epoch in range(2):
            for indices, numbers in loader:
                optimizer.zero_grad()
                model(numbers[:, None].float()).mean().backward()
                optimizer.step()
                print("batch", kv.rank, epoch, indices.tolist(), [f"{number:.6f}" for number in numbers.tolist()])
        kv.barrier()
        print("weights", kv.rank, model.weight.item(), kv.clock)


main()

"""Feed: the batches a worker is given: its share of each epoch, on its device, from where the job is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ps import xp
from ps.data import batches, num_examples, steps_per_epoch
from ps.xp import Device


class Feed:
    """Remembers which batches are done, over several calls of ``batches``."""

    def __init__(self, device: Device, rank: int, num_workers: int, seed: int) -> None:
        self.examples = 0
        """How many examples the last batch had; 0 before the first."""
        self._device = device
        self._share = {"rank": rank % num_workers, "num_workers": num_workers, "seed": seed}
        self._skip = 0
        self._epochs = 0

    def begin(self, clock: int) -> None:
        """Leave out the batches of the clocks before this one: the other workers have done those."""
        self._skip = clock

    def batches(self, data: Any, batch_size: int, epochs: int, shuffle: bool) -> Iterator[Any]:
        """Yield batches; a second call goes on with the next epochs. Raises DataError at the call."""
        batches(data, batch_size, epochs=epochs, shuffle=shuffle, **self._share)  # only to have it checked now

        def generate() -> Iterator[Any]:
            steps = steps_per_epoch(num_examples(data), batch_size, self._share["num_workers"])
            first, self._epochs = self._epochs, self._epochs + epochs
            skipped = min(self._skip, epochs * steps)
            self._skip -= skipped
            order = batches(
                data,
                batch_size,
                epochs=first + epochs,
                start=first * steps + skipped,
                shuffle=shuffle,
                **self._share,
            )
            for batch in order:
                self.examples = num_examples(batch)
                yield placed(batch, self._device)

        return generate()

    def note(self, samples: float, metrics: Mapping[str, Any]) -> bool:
        """Whether a step has no line of its own in the record: here it has."""
        return False


def placed(batch: Any, device: Device) -> Any:
    """Return a batch, an array or a tuple of arrays, on a device."""
    if device.backend is xp.NUMPY:
        return batch
    if isinstance(batch, tuple):
        return tuple(placed(part, device) for part in batch)
    return device.array(batch) if xp.is_host(batch) else batch

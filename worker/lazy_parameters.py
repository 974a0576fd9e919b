"""LazyParameters: parameters of which some are still on their way. Reading one waits for it, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ps.worker.gradients import Staging
from ps.worker.interrupt import HOLD
from ps.worker.parameters import Parameters
from ps.worker.store import Store
from ps.xp import Array


class LazyParameters(Mapping[str, Array]):
    """The parameters by name, as a read-only mapping; ``arrive`` returns once a tensor is up to date."""

    def __init__(self, tensors: Mapping[str, Array], arrive: Callable[[str], None]) -> None:
        self._tensors = tensors
        self._arrive = arrive

    def __getitem__(self, name: str) -> Array:
        tensor = self._tensors[name]
        self._arrive(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        shapes = (f"{name} {tensor.dtype}{list(tensor.shape)}" for name, tensor in self._tensors.items())
        return f"<parameters {', '.join(shapes)}>"


class PendingParameters:
    """What the last step left on its way of a connection's parameters."""

    def __init__(self, store: Store, check: Callable[[], None], settled: Callable[[], None]) -> None:
        """``check`` raises where the connection may not be used; ``settled`` notes a push that is done by now."""
        self._background = store.background
        self._check = check
        self._settled = settled
        self._federated = store.job.federated
        self._rejoins = self._background.rejoins
        self._stale: set[str] = set()

    def begin(self, model: Parameters, staging: Staging) -> None:
        """Bring these parameters up to date from now on; they are so now. ``staging`` knows their chunks."""
        self._model = model
        self._staging = staging
        self._rejoins = self._background.rejoins

    def expect(self) -> None:
        """Note that all parameters are on their way."""
        self._stale = set(self._model.tensors)

    def clear(self) -> None:
        """Note that all are up to date."""
        self._stale.clear()

    def arrive(self, name: str) -> None:
        """Return once a tensor is up to date."""
        if name in self._stale:
            self._check()
            with HOLD:
                self._background.arrive(self._staging.chunks_of(name))
                if name in self._stale:  # unless the store had to come in anew meanwhile
                    self._model.refresh(name)
                    self._stale.discard(name)
                self.catch_up()

    def all(self) -> None:
        """Return once all are up to date."""
        for name in sorted(self._stale):
            self.arrive(name)

    def refresh(self) -> None:
        """Show the script the buffer's weights; in a federated job the store does that between rounds."""
        if not self._federated:
            self._model.refresh()

    def stepped(self) -> None:
        """Take in what a step that was waited for has brought."""
        self.refresh()
        self._rejoins = self._background.rejoins

    def catch_up(self) -> None:
        """Refresh the parameters when the store had to come in anew, and note a push that is done by now."""
        if self._rejoins != self._background.rejoins:
            self._rejoins = self._background.rejoins
            self._model.refresh()
            self._stale.clear()
        self._settled()

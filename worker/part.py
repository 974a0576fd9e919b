"""ModelPart: which tensors of a model a worker has, where they are dealt out, and how the rest of it is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from ps import xp
from ps.config.job import JobConfig
from ps.dataclass import dataclass
from ps.optim.group import Group
from ps.protocol.layout import Chunk, Layout, dtype_of
from ps.xp import Array, HostArray


class DividedModel:
    """A model whose tensors are dealt out to the workers of a pipeline, as one of them brings it to ``kv.init``."""

    def __init__(
        self,
        arrays: Mapping[str, Array],
        holders: Mapping[str, tuple[int, ...]],
        place: int,
        value: Callable[[str], Array],
    ) -> None:
        """``arrays``: all tensors, with shape and dtype, and memory for one element. ``holders``: the
        places in the pipeline that have a tensor, the one first that has its gradient; this worker's is ``place``.
        ``value`` returns a tensor's first value."""
        self.arrays = arrays
        self.holders = holders
        self.place = place
        self.value = value

    @property
    def own(self) -> frozenset[str]:
        """The names of the tensors that this worker has."""
        return frozenset(name for name, places in self.holders.items() if self.place in places)

    def parts(self, names: Iterable[str]) -> dict[str, str]:
        """Return by which part of the model tensors are in, as groups say it: chunks reach over none of these."""
        return {name: "+".join(map(str, self.holders[name])) for name in names}


@dataclass(frozen=True, slots=True)
class ModelPart:
    """``whole`` is the layout of what the servers have, ``own`` that of this worker's buffer: some sections of it."""

    whole: Layout
    own: Layout
    place: int
    value: Callable[[str], Array]
    changing: bool = False
    """Whether it has buffers or counters, of which its successor is told over its connections to servers."""

    def cut(self, job: JobConfig) -> tuple[Chunk, ...]:
        """Cut the whole as the servers do; chunks that this worker has lie where they are in its own buffer."""
        begins = {section: offset for section, (offset, _) in self.own.sections().items()}
        return tuple(
            dataclasses.replace(c, offset=begins.get(c.section, 0) + c.start * np.dtype(c.dtype).itemsize)
            for c in self.whole.cut(job)
        )

    @property
    def shared(self) -> tuple[tuple[int, int, int], ...]:
        """For each section that this worker has, where it begins in the whole, its bytes, and where it begins here."""
        whole = self.whole.sections()
        return tuple(
            sorted(
                (whole[section][0], size * dtype_of(section).itemsize, offset)
                for section, (offset, size) in self.own.sections().items()
            )
        )

    def holds(self, chunks: Iterable[Chunk]) -> frozenset[int]:
        """Return those of the chunks that this worker has, by index."""
        own = self.own.sections()
        return frozenset(chunk.index for chunk in chunks if chunk.section in own)

    def gives(self, chunks: Iterable[Chunk]) -> frozenset[int]:
        """Return those of the chunks for which it has gradients: of what several have, the first of them does."""
        return frozenset(c.index for c in chunks if Group.read(c.group).giver == self.place)

    def first(self, chunk: Chunk) -> HostArray:
        """Return the first values of a chunk, whoever has it."""
        found = np.empty(chunk.size, chunk.dtype)
        for tensor in self._in(chunk):
            lo, hi = max(tensor[1], chunk.start), min(tensor[2], chunk.stop)
            vector = xp.to_host(self.value(tensor[0])).reshape(-1)
            found[lo - chunk.start : hi - chunk.start] = vector[lo - tensor[1] : hi - tensor[1]]
        return found

    def _in(self, chunk: Chunk) -> Iterator[tuple[str, int, int]]:
        for t in self.whole.tensors:
            if t.section == chunk.section and t.size and t.start < chunk.stop and chunk.start < t.stop:
                yield t.name, t.start, t.stop

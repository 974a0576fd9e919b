"""PartialGradients: one step's gradients as they come, tensor by tensor, while a script computes the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.errors import GradientError
from ps.worker.gradients import (
    NO_GRADIENT,
    Gradients,
    Staging,
    all_usable,
    array_of,
    bad_element,
    place,
    refuse_unknown,
)


class PartialGradients:
    """What has come of a step's gradients, and which chunks are complete with it."""

    def __init__(self, staging: Staging) -> None:
        self.gradients = Gradients(list(staging.regions), staging)
        self._staging = staging
        self._again: set[str] = set()
        """What came before an announcement failed: a script that begins the step again will announce it again."""
        self._slots = {slot.name: slot for slot in staging.slots}
        self._parts = [0] * len(staging.regions)
        for slot in staging.slots:
            for index in slot.chunks:
                self._parts[index] += 1

    def add(self, name: str, value: Any, *, check: bool) -> list[int]:
        """Take a tensor's gradient; return the chunks that are complete with it.

        Raises GradientError for one that does not fit, came before, or, with ``check``, holds NaN, Inf or an element
        beyond the limit. Then the step may be announced again from the beginning: of what came before the first counts,
        since it may be sent already.
        """
        try:
            return self._add(name, value, check=check)
        except GradientError:
            self._again = {slot.name for slot in self._staging.slots} - self._slots.keys()
            raise

    def _add(self, name: str, value: Any, *, check: bool) -> list[int]:
        slot = self._slots.get(name)
        if slot is None:
            if name in self._again:
                self._again.discard(name)
                return []
            refuse_unknown({name: value}, self._staging)
            raise GradientError(
                f"a second gradient of {name!r} in one step. If the step was interrupted, begin it again: it goes on"
            )
        array = array_of(name, value)
        if array is not slot.view and self._staging.holds(array):
            raise GradientError(
                f"gradient of {name!r} lies in kv.grads, in the place of another one: announce it from there, "
                f"or from an array of its own"
            )
        place(array, slot, self.gradients.regions, self._staging.weights)
        if check:
            parts = [self.gradients.regions[index] for index, _, _ in slot.direct]
            parts += [slot.staged[lo:hi] for lo, hi in slot.edges]
            if not all_usable(parts, self._staging.team):
                self.gradients.keep(slot.chunks)
                raise GradientError(f"{bad_element(slot)}; other tensors' gradients of this step were sent before")
        del self._slots[name]
        for index in slot.chunks:
            self._parts[index] -= 1
        return [index for index in slot.chunks if not self._parts[index]]

    def complete(self, grads: Mapping[str, Any], *, check: bool, partial: bool = False) -> Gradients:
        """Take the gradients of all tensors that were not announced, and return the whole.

        With ``partial`` some may be missing, or None. Raises GradientError as ``match`` and ``add`` do.
        """
        refuse_unknown(grads, self._staging)
        if partial:
            left_out = [slot for name, slot in self._slots.items() if grads.get(name) is None]
            self.gradients.leave_out(left_out)
            for slot in left_out:
                del self._slots[slot.name]
        for name in list(self._slots):
            if name not in grads:
                raise GradientError(f"no gradient for tensor {name!r}; {NO_GRADIENT}")
            self.add(name, grads[name], check=check)
        return self.gradients

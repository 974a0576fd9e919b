"""Action: one thing that a worker does in a step of a pipeline, with one micro-batch in one stage."""

from __future__ import annotations

from ps.dataclass import dataclass

FORWARD, BACKWARD, INPUT, WEIGHTS, CHECK = "F", "B", "I", "W", "C"
"""A whole forward and a whole backward pass; a backward pass's parts for the input and for the weights; and, before the
first step, a look at whether cutting the batch changes what a stage returns."""


@dataclass(frozen=True, slots=True, order=True)
class Action:
    """``F3`` is the forward pass of micro-batch 3; of several stages on one worker ``F3@1`` is that in stage 1."""

    kind: str
    stage: int
    microbatch: int

    def __str__(self) -> str:
        return f"{self.kind}{self.microbatch}"

    def __repr__(self) -> str:
        return f"{self.kind}{self.microbatch}@{self.stage}"

    def after(self, stages: int) -> Action | None:
        """Return the action that gives what this one works with, in a pipeline of so many stages, if any does.

        It is another stage's, but in the last stage, and for a backward pass's second part.
        """
        if self.kind == FORWARD:
            return Action(FORWARD, self.stage - 1, self.microbatch) if self.stage else None
        if self.kind == WEIGHTS:
            return Action(INPUT, self.stage, self.microbatch)
        if self.stage == stages - 1:
            return Action(FORWARD, self.stage, self.microbatch)
        return Action(self.kind, self.stage + 1, self.microbatch)


def needed(actions: list[Action], first: int) -> list[Action]:
    """Return the actions without the backward passes that nobody needs: those of the stages before ``first``,
    which is the first one with tensors that are trained."""
    return [action for action in actions if action.kind == FORWARD or action.stage >= first]

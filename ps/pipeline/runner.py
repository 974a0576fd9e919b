"""StageRunner: one worker's part of a step, action by action. It tells what it waits for and what is to be sent; it
blocks on nothing and knows of no sockets, threads or clocks, so that one process with all stages runs the same code."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from ps.dataclass import dataclass
from ps.errors import StateError
from ps.pipeline.action import BACKWARD, CHECK, FORWARD, INPUT, WEIGHTS, Action
from ps.pipeline.gradient_sums import GradientSums
from ps.pipeline.stage import PipelineStage
from ps.pipeline.ties import Tie
from ps.xp import Array

ACTIVATION, GRADIENT, LABELS, TIED, LOSS = "activation", "gradient", "labels", "tied", "loss"
"""What goes from stage to stage: outputs forward; gradients backward; labels from the first stage to the last; the
gradients of tied tensors to the stage that owns them; and the batch's mean loss from the last stage to all others."""
PLAN, OUTPUTS = "plan", "outputs"
"""And, where stages are on several workers, what the first one says of a step before it begins (``StepPlan``), and what
comes out of each stage when the model is measured: that of the last one goes to the first."""
OF_CHECK = -1
"""The micro-batch of the activations and labels that are three at once, for the check before the first step."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What all workers of a pipeline know of a step before it begins. The first stage's worker has the batch, and so
    says it."""

    step: int
    microbatches: int
    weight: float
    """Of the whole batch, by the loss."""
    check: bool = False
    """Whether it is looked at whether cutting the batch changes anything."""

    def stands_for(self, examples: float = 0.0, *, weighs: bool) -> float | None:
        """Return for how many examples the gradients of a step of so many count: where contributions are weighed
        (``weighs``), for the batch's weight. None: they are counted where the gradients are given."""
        return (self.weight if weighs and self.weight else examples) or None


@dataclass(frozen=True, slots=True)
class Transfer:
    """Something for a stage: of which kind, for which micro-batch (for ``tied``: the place of the layer)."""

    kind: str
    stage: int
    microbatch: int
    tree: Any = None

    @property
    def key(self) -> tuple[str, int, int]:
        return self.kind, self.stage, self.microbatch

    def __repr__(self) -> str:
        return f"{self.kind} {self.microbatch} for stage {self.stage}"


class StageRunner:
    """The stages of one worker in one step.

    ``while not done``: if ``waiting_for`` is none, ``run`` the next action and send what it returns; else wait for
    that. ``receive`` takes what has come, in any order, also what is not needed yet. For one channel (a kind, and the
    stage it is for) things are needed in the order in which they were sent.
    """

    def __init__(
        self,
        stages: Mapping[int, PipelineStage],
        count: int,
        actions: Iterable[Action],
        plan: StepPlan,
        sums: GradientSums,
        ties: Iterable[Tie],
    ) -> None:
        """``stages``: this worker's, by number, of ``count`` in all. ``ties``: as the function of that name gives
        them."""
        self._stages = stages
        self._count = count
        check = [Action(CHECK, stage, OF_CHECK) for stage in sorted(stages)] if plan.check else []
        self._actions = deque([*check, *actions])
        self._forwards = sum(action.kind in (FORWARD, CHECK) for action in self._actions)
        self._wanted = sum(action.kind != WEIGHTS for action in self._actions)
        """Actions that others wait for, or that this worker's own next ones do."""
        self._plan = plan
        self._sums = sums
        self._here: dict[tuple[str, int, int], Any] = {}
        ties = list(ties)
        self._sent = [tie for tie in ties if tie.stage in stages and tie.owner not in stages]
        owed = [(TIED, tie.owner, tie.place) for tie in ties if tie.owner in stages and tie.stage not in stages]
        self._after = {*owed, *((LOSS, stage, 0) for stage in stages if stage < count - 1)}
        """What has to come beside what actions need, and has not."""
        self._losses: list[float] = []
        self._loss: float | None = None

    def feed(self, xs: list[Any], ys: list[Any]) -> list[Transfer]:
        """Give the first stage's worker the batch, cut; return the labels to be sent.

        With ``plan.check`` both lists have one more at the end: the first two micro-batches as one.
        """
        if self._plan.check:
            self._here[(ACTIVATION, 0, OF_CHECK)] = (xs[0], xs[1], xs.pop())
        for k, x in enumerate(xs):
            self._here[(ACTIVATION, 0, k)] = x
        transfers = []
        if self._plan.check:
            transfers.append(Transfer(LABELS, self._count - 1, OF_CHECK, (ys[0], ys[1], ys.pop())))
        transfers += [Transfer(LABELS, self._count - 1, k, y) for k, y in enumerate(ys)]
        return self._outgoing(transfers)

    @property
    def next(self) -> Action | None:
        """The action that comes next, whether it can be done already or not."""
        return self._actions[0] if self._actions else None

    @property
    def has_forwards(self) -> bool:
        """Whether there are forward passes yet to be done."""
        return self._forwards > 0

    @property
    def can_wait(self) -> bool:
        """Whether all that is left to be done are second parts of backward passes, which give nothing to others."""
        return not self._wanted

    @property
    def done(self) -> bool:
        """Whether all actions are done and all that comes after them is here."""
        return not self._actions and self.waiting_for is None

    @property
    def waiting_for(self) -> Transfer | None:
        """What has to be received before anything can be done; None if something can, or all is done."""
        return next((Transfer(*key) for key in self._needs() if key not in self._here), None)

    def unused(self, kind: str, stage: int) -> int:
        """Return how much has been received of a kind for a stage, and not been worked with yet.

        What is tied and losses are taken at once.
        """
        return sum(key[:2] == (kind, stage) for key in self._here)

    @property
    def loss(self) -> float:
        """The mean loss of the batch. Raises StateError before the end."""
        if self._loss is None:
            raise StateError("the loss of a step is known at its end")
        return self._loss

    def receive(self, transfer: Transfer) -> None:
        """Take what has come for one of these stages."""
        if transfer.kind == LOSS:
            self._loss = float(transfer.tree)
            self._after.discard(transfer.key)
        elif transfer.kind == TIED:
            self._sums.take(transfer.microbatch, transfer.tree)
            self._after.discard(transfer.key)
        else:
            self._here[transfer.key] = transfer.tree

    def run(self) -> list[Transfer]:
        """Do the next action, which waits for nothing; return what is to be sent then."""
        action = self._actions.popleft()
        self._wanted -= action.kind != WEIGHTS
        transfers = self._run(action)
        return self._outgoing(transfers if self._actions else transfers + self._closing())

    def gradients(self) -> dict[str, Array]:
        """Return what the step gives for the tensors of this worker's layers, when all is done."""
        return self._sums.all(without={(tie.place, own) for tie in self._sent for own in tie.names})

    def finish(self) -> None:
        """End the step of layers with buffers, which are written anew."""
        for number in sorted(self._stages):
            self._stages[number].finish()

    # Inside

    def _run(self, action: Action) -> list[Transfer]:
        stage = self._stages[action.stage]
        if action.kind == WEIGHTS:
            stage.backward_weights(action.microbatch)
            return []
        if action.kind in (BACKWARD, INPUT):
            dy = None if stage.is_last else self._take(GRADIENT, action)
            dx = (stage.backward if action.kind == BACKWARD else stage.backward_input)(action.microbatch, dy)
            # also where it is none: the stage before waits for it
            return [Transfer(GRADIENT, action.stage - 1, action.microbatch, dx)] if stage.gives_gradient else []
        self._forwards -= 1
        x = self._take(ACTIVATION, action)
        output = stage.check(*x) if action.kind == CHECK else stage.forward(action.microbatch, x)
        if not stage.is_last:
            return [Transfer(ACTIVATION, action.stage + 1, action.microbatch, output)]
        labels = self._take(LABELS, action)
        if action.kind == CHECK:
            stage.check_loss(output, labels)
        else:
            self._losses.append(stage.lose(action.microbatch, output, labels, self._plan.weight))
        return []

    def _closing(self) -> list[Transfer]:
        """Return what goes out after the last action."""
        transfers = [Transfer(TIED, tie.owner, tie.place, self._sums.of(tie.place, tie.names)) for tie in self._sent]
        if self._count - 1 in self._stages:
            self._loss = sum(self._losses) / self._plan.weight if self._plan.weight else math.nan
            transfers += [Transfer(LOSS, stage, 0, self._loss) for stage in range(self._count - 1)]
        return transfers

    def _needs(self) -> list[tuple[str, int, int]]:
        """Return what the next action works with, or, after the last one, what is needed to end."""
        if not self._actions:
            return sorted(self._after)
        action = self._actions[0]
        if action.kind in (FORWARD, CHECK):
            last = [(LABELS, action.stage, action.microbatch)] if action.stage == self._count - 1 else []
            return [(ACTIVATION, action.stage, action.microbatch), *last]
        if action.kind == WEIGHTS or self._stages[action.stage].is_last:
            return []
        return [(GRADIENT, action.stage, action.microbatch)]

    def _take(self, kind: str, action: Action) -> Any:
        return self._here.pop((kind, action.stage, action.microbatch))

    def _outgoing(self, transfers: list[Transfer]) -> list[Transfer]:
        """Return those of the transfers that are for other workers; this one's own are received."""
        for transfer in transfers:
            if transfer.stage in self._stages:
                self.receive(transfer)
        return [transfer for transfer in transfers if transfer.stage not in self._stages]

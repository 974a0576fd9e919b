"""DistributedOptimizer: a torch optimizer whose steps are a job's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from ps.config.job import JobConfig
from ps.errors import StateError, UsageError
from ps.torch import bare_names
from ps.torch.clipping import demand_clip_norm
from ps.torch.first_batch import note_first_batch
from ps.torch.overlap import INSTEAD, Overlap
from ps.torch.tensor_memory import TensorMemory, demand_known, numbers
from ps.torch.trained_groups import TrainedGroups, read_groups
from ps.worker import KV
from ps.worker.model import FROZEN

TRAINED = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
BUFFERS = {torch.float32: "buffer", torch.float64: "buffer", torch.int64: "counter"}
STAY = (torch.int8, torch.int16, torch.int32, torch.uint8, torch.bool)
"""What else a frozen tensor may be that the connection has beside the others."""

NOTHING: frozenset[int] = frozenset()

_add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
_zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
"""Torch's own, without what they begin with: the import of its compiler, some seconds of every process."""


class DistributedOptimizer(torch.optim.Optimizer):
    """Trains a torch model in a job: ``step`` sends the gradients and brings the new weights into the model.

    What updates the weights is the job's ``--optimizer`` (in a federated job its local one), on the servers. It is a
    ``torch.optim.Optimizer``: schedulers of ``torch.optim.lr_scheduler`` work. Each group of ``param_groups`` has the
    numbers of the job's optimizer, or its own: ``[{"params": ..., "weight_decay": 0.0}, ...]``. ``lr`` and
    ``weight_decay`` may change between steps, and hold for all workers from the next step on; where workers set
    different ones, that of the lowest rank counts in sync mode, and each worker's for its own gradients in async and
    ssp, as ``kv.set_lr`` says. The job's ``--schedule`` multiplies what a scheduler here sets.

    Names are those of the bare model, without what ``torch.compile`` and DataParallel put before them; a tied weight is
    trained once. Frozen parameters are never sent. To unfreeze later, make the optimizer while all can be trained and
    freeze then: parameters without a gradient keep their values and their optimizer's state. Floating-point buffers are
    of the kind ``buffer`` and int64 ones ``counter``: a federated job combines them, else each worker keeps its own.

    **Weights.** The model keeps its own memory. What a script writes to a parameter between steps is refused at the
    next one, since the servers would not know of it (weights that were brought back, as by SAM or a swap with averaged
    ones, are fine); of writes through ``.data`` torch knows nothing: they are looked for in the steps 1, 2, 4, 8 and
    so on. Barriers, ``kv.pull`` and the rounds of a federated job change the model as well.

    **Clipping.** ``torch.nn.utils.clip_grad_norm_`` clips this worker's gradient. The norm of all workers' gradient, as
    under DDP, is the servers' to clip: ``--clip-norm``. **GradScaler**: where a worker finds an overflow, in sync mode
    nobody takes the step, and all workers' ``step_was_skipped`` says so; in async and ssp mode, and with
    ``--backup-workers``, the step is left out by that worker alone. torch's own scaler does not learn of others'
    overflows: each has its own scale then, which harms nothing, as gradients are sent unscaled. With
    ``ps.torch.GradScaler`` all have the same. With ``--on-nan skip`` the others' gradients count all the same.

    **Overlap.** With ``overlap=True`` each gradient is sent as soon as the backward pass has computed it, in the last
    of the ``accumulate`` passes that a step has; what is left is sent by ``step``. A gradient that is changed after
    that is refused by ``step``. So it excludes what must see gradients first: clipping by hand, GradScaler, Opacus, two
    passes as SAM has them, ``weight``. With ``--clip-norm`` or ``--on-nan skip``, where all must be known before one is
    sent, and in federated jobs it changes nothing. After an exception in the middle of a pass ``step`` sends what there
    is; another pass before it is refused.

    One connection trains one model. Several networks (a GAN's) are one: ``torch.nn.ModuleDict``, or the groups of both;
    ``step`` then moves what has a gradient, so the other network's are cleared (or frozen) before it.
    """

    def __init__(
        self,
        model_or_groups: Any,
        kv: KV,
        *,
        model: torch.nn.Module | None = None,
        overlap: bool = False,
        accumulate: int = 1,
    ) -> None:
        """Give the model to the job, by ``kv.init``, and take the first worker's values into it.

        ``model_or_groups``: a module, or parameters or groups of them as any torch optimizer takes them; then ``model``
        says what they are called (else they are numbered) and which buffers there are. ``overlap``: see above;
        ``accumulate`` is of how many backward passes the gradients of a step are the sum then.

        Raises UsageError naming a tensor that cannot be trained or a group that cannot be, ConfigError for numbers that
        the job's optimizer does not take, LayoutMismatch when another worker trains another model.
        """
        self._begun = False
        self._kv = kv
        self.step_was_skipped = False
        """Whether the last step was none, since gradients had overflowed: here or, in sync mode, on another worker."""
        self.weight: float | None = None
        """What the gradients of the coming steps weigh where ``step`` is not told."""
        job = kv.job
        if job.overlap:
            raise UsageError(
                "a torch module needs all weights before it goes on: leave out --overlap, or PS_OVERLAP. Gradients are "
                "sent during the backward pass by DistributedOptimizer(model, kv, overlap=True)"
            )
        if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
            raise UsageError(f"accumulate is how many backward passes a step has, at least 1, not {accumulate!r}")
        groups, named, module = read_groups(model_or_groups, model)
        trained = {name: parameter for group in groups for name, parameter in group["params"]}
        self._frozen = [(name, parameter) for name, parameter in named.items() if name not in trained]
        if not trained:
            raise UsageError("no parameter of the model is trained: requires_grad is False for all of them")
        for name, parameter in trained.items():
            if parameter.dtype not in TRAINED:
                raise UsageError(
                    f"parameter {name!r} is {str(parameter.dtype).removeprefix('torch.')}, which is not trained: "
                    f"convert the model (model.float()), or freeze it (requires_grad_(False))"
                )
        self._groups = TrainedGroups(groups, job)
        super().__init__(groups, self._groups.defaults)
        self._federated = job.federated
        self._memory = self._start(trained, {} if module is None else dict(bare_names.buffers(module)))
        self._overlap: Overlap | None = None
        late = job.clip_norm is not None or job.on_nan == "skip" or job.global_batch is not None
        if overlap and not late and not job.federated:
            self._overlap = Overlap(self._memory, list(trained.items()), accumulate, self._send_begins)
        if module is not None and job.workers > 1 and not job.federated:
            note_first_batch(module, kv.note_first_batch)
        self._begun = True
        self.refresh()
        kv.watch(self.refresh)

    def _start(self, trained: Mapping[str, torch.Tensor], buffers: Mapping[str, torch.Tensor]) -> TensorMemory:
        kinds = {name: BUFFERS[buffer.dtype] for name, buffer in buffers.items() if buffer.dtype in BUFFERS}
        held = {name: buffers[name] for name in kinds}
        frozen = dict(self._frozen) | {name: buffer for name, buffer in buffers.items() if name not in kinds}
        frozen = {name: tensor for name, tensor in frozen.items() if tensor.dtype in (*TRAINED, torch.int64, *STAY)}
        given = {name: numbers(tensor) for name, tensor in [*trained.items(), *held.items(), *frozen.items()]}
        try:
            self._kv.init(given, kinds=kinds | dict.fromkeys(frozen, FROZEN), groups=self._groups.declared or None)
        except StateError as error:
            raise StateError(
                f"{error}. Several networks are one model: DistributedOptimizer(torch.nn.ModuleDict({{...}}), kv), or "
                f"the groups of both; what has no gradient stays as it is"
            ) from None
        return TensorMemory(self._kv, trained, held)

    def refresh(self) -> None:
        """Bring the connection's weights into the model; in a federated job its buffers too."""
        self._memory.take(buffers=self._federated)

    def step(self, closure: Callable[[], Any] | None = None, weight: float | None = None, **metrics: Any) -> Any:
        """Send what ``p.grad`` is now, wait as the job's mode says, and have the new weights in the model.

        Parameters whose gradient is None take no part in the step. ``closure`` computes the loss and the gradients; it
        is called once, and what it returns is returned.

        ``weight`` is how much the gradient is the mean of: examples, or tokens with a label. With ``--aggregator
        weighted`` the step is then that of the whole batch, however ragged the workers' parts are: the loss of each
        is the *mean* over its ``weight`` tokens, and with accumulation their sum divided by those of all its parts.
        ``metrics`` (``loss=0.3``) go into the run's record.

        Raises UsageError for a ``weight`` that the job would not heed, for a parameter that the script has changed, and
        for numbers of a group that cannot change; GradientError naming a parameter; and as ``kv.step`` does.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        job, overlap = self._kv.job, self._overlap
        sent = overlap.sent if overlap is not None else NOTHING
        if sent and weight is not None:
            raise UsageError("weight is said after gradients were sent: set optimizer.weight before the backward pass")
        weight = self.weight if weight is None else weight
        if weight is not None and not weighs(job):
            raise UsageError(
                f"weight is given, but aggregator = {job.specs.aggregator.name} takes each worker's gradient for as "
                f"much: --aggregator weighted, or ps.connect(aggregator='weighted'), heeds it"
            )
        scale = self._scale(job)
        if overlap is not None and sent:
            self._demand_as_sent(overlap)
        else:
            self._send_begins()
        if scale is None:
            self._kv.skip(**metrics)
            self.step_was_skipped = True
            return loss
        self._memory.keep_buffers()
        gradients = self._memory.gradients(scale, sent)
        partial = len(gradients) + len(sent) < sum(len(group["params"]) for group in self.param_groups)
        self._kv.step(gradients, examples=weight, partial=partial, **metrics)
        if overlap is not None:
            overlap.end()
        self.step_was_skipped = self._kv.skipped
        if self._federated:
            self._memory.take(buffers=False)
        return loss

    def _send_begins(self) -> None:
        """Look at what must hold before a gradient is sent, and say what the groups' numbers are. Raises UsageError."""
        self._groups.check(self.param_groups)
        self._memory.demand_unwritten()
        demand_known(self._frozen)
        with self._kv.lent():
            self._groups.send(self.param_groups, self._kv)
            self._memory.begin(self.weight)

    def _demand_as_sent(self, overlap: Overlap) -> None:
        """Raise UsageError where something has changed since gradients were sent."""
        if "found_inf" in self.__dict__:
            raise UsageError(f"GradScaler needs all gradients before any is sent: {INSTEAD}")
        self._groups.check(self.param_groups)
        self._groups.demand_sent(self.param_groups)
        demand_known(self._frozen)
        overlap.demand_unchanged()

    def clip_grad_norm_(self, max_norm: float) -> None:
        """Check that the job clips the gradient of all workers to this norm; the servers do, in ``step``.

        Raises UsageError when it does not.
        """
        demand_clip_norm(self._kv.job, max_norm)

    # What torch's own classes do with an optimizer

    _step_supports_amp_scaling = True
    """GradScaler calls ``step`` also after an overflow, and leaves its scale to it."""

    def _scale(self, job: JobConfig) -> float | None:
        """Return what gradients are multiplied by, or None for a step that is not to be taken.

        GradScaler says it by two attributes that are there during its call of ``step``.
        """
        found_inf = self.__dict__.get("found_inf")
        if found_inf is None:
            return 1.0
        if float(found_inf) and (job.on_nan != "skip" or job.workers == 1 or self._federated):
            return None
        scale = self.__dict__.get("grad_scale")
        return 1.0 if scale is None else 1 / float(scale)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raise UsageError: a job's model is fixed once it has begun."""
        if self._begun:
            raise UsageError(
                "a job's model is fixed once it has begun: give all parameters to DistributedOptimizer, and freeze "
                "those that are to be trained later (requires_grad_(False)) afterwards"
            )
        _add_param_group(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients, as torch's own optimizers do."""
        _zero_grad(self, set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Return the groups with their numbers. Weights and the optimizer's state are the servers' to keep."""
        found: dict[str, Any] = super().state_dict()
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take the groups' numbers from what ``state_dict`` returned. Raises UsageError for another model's."""
        groups = state_dict.get("param_groups") if isinstance(state_dict, Mapping) else None
        if not isinstance(groups, list) or state_dict.get("state"):
            raise UsageError(
                "this is not the state of a DistributedOptimizer: that has groups, and no state beside them"
            )
        names = [_names(group) for group in groups]
        mine = [_names(group) for group in self.param_groups]
        if names != mine:
            theirs, ours = ([name for group in each for name in group] for each in (names, mine))
            other = next((name for name in theirs if name not in ours), None)
            raise UsageError(
                "the state is of another model: "
                + (f"it has {other!r}" if other else f"{len(names)} groups of {len(theirs)} parameters, not these")
                + f"; there are {len(mine)} groups of {len(ours)} here"
            )
        self._groups.check(groups)
        for group, loaded in zip(self.param_groups, groups, strict=True):
            group.update({key: value for key, value in loaded.items() if key not in ("params", "param_names")})


def weighs(job: JobConfig) -> bool:
    """Whether the job heeds a step's weight, or has no use for it: one worker's gradient is all that is applied."""
    if job.workers == 1 or not job.lockstep:
        return True
    return job.specs.weighs


def _names(group: Mapping[str, Any]) -> Iterable[str]:
    return list(group.get("param_names", group["params"]))

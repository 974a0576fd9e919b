"""KV: what a training script talks to. The same in every mode, with a cluster or without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Unpack

from numpy.random import Generator

from ps.config.job import JobConfig
from ps.errors import StateError, UsageError
from ps.threads import ThreadTeam
from ps.trace import OFF, Trace
from ps.worker.evaluation import Evaluation, Measure
from ps.worker.frozen_module import FrozenModuleCheck
from ps.worker.groups import Groups
from ps.worker.handle import Handle, demand
from ps.worker.interrupt import HOLD
from ps.worker.lazy_parameters import LazyParameters
from ps.worker.lifetime import Lifetime
from ps.worker.milestones import Milestones
from ps.worker.model import demand_precision, read
from ps.worker.own_state import OwnState
from ps.worker.parameters import Parameters
from ps.worker.patience import PatienceArguments
from ps.worker.placement import place
from ps.worker.saving import Saving, write_model
from ps.worker.step import Steps
from ps.worker.step_log import StepLog, text_of
from ps.worker.store import Store, brief
from ps.worker.tree import Tree, tree_of
from ps.xp import Array, Device


class KV:
    """A worker's connection to its parameters; made by ``ps.connect``.

    ``init`` comes first, then ``step`` for each batch. ``push``, ``pull``, ``push_pull`` and ``wait`` are the verbs
    below ``step``. All of them belong to the thread that made the connection, and raise StateError elsewhere, before
    ``init`` and after ``close``. With a cluster they raise ServerLost, Evicted or PeerLost when the job cannot go on.
    After an interrupt (Ctrl-C) in one of them, ``clock`` says whether the step counts, and training can go on.
    """

    def __init__(
        self,
        store: Store,
        device: Device,
        log: StepLog,
        trace: Trace = OFF,
        team: ThreadTeam | None = None,
        saving: Saving | None = None,
    ) -> None:
        self.device = device
        """Where this worker computes."""
        self.note_first_batch, self.note_stages, self.execution = log.note_first_batch, log.note_stages, store.execution
        self._store = store
        self._trace = trace
        self._team = team or ThreadTeam()
        self._log = log
        log.belong(store.rank, reads=store.job.place_of(store.rank) == 0)
        self._evaluation = Evaluation(lambda: self.params, log, store.stop)
        self._saving = saving or Saving()
        self._own = OwnState(store.job, store.rank, store.cut_plan, device)
        self._milestones = Milestones(store, self._evaluation, self._saving, self.save, self._own)
        loader = self._loader = store.loader(device, log, self._evaluation)
        self._milestones.epoch, loader.idle = lambda: loader.epoch, lambda: self._steps.pass_over(stepped)
        store.report = lambda: {**log.report(store.traffic), "planned_steps": loader.planned}
        self._model: Parameters | None = None
        self._tree: Tree | None = None
        finish, stepped = self._milestones.finish, self._milestones.stepped
        self._lifetime = Lifetime(lambda: finish(self._model, self.barrier), lambda why: self._steps.leave(why))
        self._open, self.lent = self._lifetime.demand, self._lifetime.lent
        self._steps = Steps(store, loader, log, trace, self._open)
        self.offer = self._steps.offer

    # What is known

    @property
    def rank(self) -> int:
        """This worker's number, from 0."""
        return self._store.rank

    @property
    def num_workers(self) -> int:
        """How many workers are in the job now."""
        return self._store.num_workers

    @property
    def clock(self) -> int:
        """How many steps this worker has done; one that came late begins with the job's clock."""
        return self._store.clock

    @property
    def rng(self) -> Generator:
        """Random numbers of this worker's clock: with the same seed the same in every run, and in one that goes on."""
        return self._own.rng(self.clock)

    @property
    def job(self) -> JobConfig:
        """The job's settings."""
        return self._store.job

    def __repr__(self) -> str:
        return brief(self._store, closed=self._lifetime.closed, begun=self._model is not None)

    @property
    def params(self) -> Any:
        """The parameters, as ``init`` returned them. Raises StateError before ``init``."""
        if self._model is None:
            raise StateError("no parameters yet: call kv.init(params) first")
        found = self._model.all
        if self.job.defers:
            return LazyParameters(found, self._steps.weights.arrive)
        return dict(found) if self._tree is None else self._tree.build(found)

    @property
    def grads(self) -> dict[str, Array]:
        """Arrays like the parameters in which gradients can be computed: ``step`` need not copy them then.

        On one host they are shared with the servers; on a device they are encoded where they are, in a job that
        compresses. This waits for the push before, which may still be read from there; whoever keeps the arrays has to
        wait for it, or with ``overlap`` for all parameters, before they are changed. Raises StateError before ``init``.
        """
        self._ready()
        return self._steps.arrays(self.device)

    @property
    def stopped(self) -> bool:
        """Whether training has ended by ``stop``: for loops of one's own, before each step. False: take another one.
        It may wait until that is decided. Raises PeerLost when the scheduler, which decides it, stays silent."""
        self._open()
        with HOLD:
            return not self._store.begin_step()

    # The model

    def init(
        self,
        params: Any,
        kinds: Mapping[str, str] | None = None,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Any:
        """Set the model's first values, once, and return the parameters to train.

        The first worker's values win; every worker gets the same. The result has the names, shapes and dtypes of
        ``params`` (float32, float64, float16 or bfloat16; NumPy, CuPy or DLPack), lies on ``kv.device`` as views of one
        flat vector, and changes in place with each ``step``; on the host the arrays are read-only, since the job's
        servers decide what the weights are. With ``overlap`` the result is a mapping that waits for what is read of it.
        Of tensors in half precision the servers keep float32 masters, which are what is updated.

        ``params`` may also be a tree of dicts, lists, tuples and dataclasses: then so are the result and the gradients,
        names are joined by dots (``layers.0.weight``). Without ``overlap`` the order of a dict does not matter.

        ``kinds`` names tensors, by name or pattern, that have no gradients: a ``buffer`` (batch-norm statistics;
        float), a ``counter`` (int64), or ``frozen`` (any dtype). The script changes the first two in place. In a
        federated job buffers are averaged and counters added up over the clients; else each worker keeps its own. What
        is frozen never leaves the worker.

        ``groups`` gives tensors other numbers of the job's optimizer, in a federated job of the local one, than the
        rest: ``{"*.bias": {"weight_decay": 0}, "head.*": {"lr": 0.1}}``. A group's name is the pattern of its tensors'
        names, unless it lists patterns under ``tensors``; the first group that a tensor fits counts.

        Raises LayoutMismatch when another worker trains another model, UsageError for tensors that cannot be trained
        and for patterns that fit none, ConfigError for numbers that the optimizer does not take.
        """
        self._open()
        if self._model is not None:
            raise StateError("kv.init was called before; a connection trains one model")
        tree = tree_of(params)
        if tree is not None:
            params = tree.demand(self.job).flat
        model = read(params, kinds, groups, self.job.specs.step_optimizer, as_given=self.job.overlap)
        demand_precision(model.trained, self.job, self.device)
        self._tree, self._groups = tree, Groups(model.whole, self.job, self._store.set_rates, self._log)
        self._saving.demand(model.arrays)
        frozen_module = FrozenModuleCheck(params if model.part is None else model.arrays, model.arrays, model.trained)
        placed = place(model, self._store, self.device)
        self._steps.begin(placed, frozen_module, self.device, self._team)
        self._model = placed.parameters
        frozen_module.begin(self._model.tensors)
        self._milestones.begin(self._model)
        self._loader.begin(self.clock, self._model, self._milestones.published)
        self._log.begin(self._store.traffic)
        return self.params

    def watch(self, function: Callable[[], None]) -> None:
        """Call ``function()`` whenever the parameters have new values: after a step, a barrier, a pull into them, and
        in a federated job at a round's beginning (not after its local steps). It replaces the one before.
        Raises UsageError in a job with ``overlap``, or with several ``waves``.
        """
        model = self._ready()
        if self.job.defers:
            raise UsageError("with overlap or waves parameters have new values one by one: read them in kv.params")
        model.watch = function

    def ready(self, name: str, grad: Any, *, examples: float | None = None) -> None:
        """Announce one tensor's gradient of the coming ``step``, while the others are still computed.

        What is complete is sent at once; neither the gradient nor its parameter may be used otherwise before ``step``
        returns. ``examples`` is as in ``step``. Raises GradientError; other tensors' gradients may have been applied
        then, unless the job has ``on_nan`` = skip or ``clip_norm``, with which nothing is sent before ``step``.
        """
        self._ready()
        count = self._steps.count(examples)
        with HOLD:
            self._steps.announce(name, grad, count)

    def step(
        self,
        grads: Any = None,
        *,
        examples: float | None = None,
        partial: bool = False,
        **metrics: Any,
    ) -> None:
        """Give one batch's gradients and bring the parameters up to date, by the job's mode.

        ``grads`` has a gradient for each parameter, of its shape and dtype; those that were announced with ``ready``
        are not looked at again and may be left out. ``examples`` is how many examples they are the mean of; if not
        given, the size of the batch, of those of ``kv.batches`` in their order, one a step. ``metrics`` (loss=0.3) go
        into the run's record. Raises GradientError naming the tensor, and nothing is applied then.

        With ``partial`` some tensors may have no gradient, or None. What no worker has one for in a step stays as it
        is, and so does its optimizer's state; of a tensor for which some have one the others count as zeros, so that
        the step is that of one process with the whole batch.
        """
        with HOLD:
            self._ready()
            self._steps.push_pull(self._flat({} if grads is None else grads), examples, metrics, partial=partial)
        self._milestones.stepped()

    def skip(self, **metrics: Any) -> None:
        """Take no step, in the place of ``step``, as where gradients have overflowed.

        In sync mode nobody takes it, whatever the others give: weights and the optimizer's state stay, and the clock
        goes on. With ``backup_workers``, and in the other modes, it is skipped here alone. Raises StateError after
        ``ready``.
        """
        self._demand_whole()
        self._steps.skip(metrics)
        self._milestones.stepped()

    @property
    def skipped(self) -> bool:
        """Whether the last step was skipped: by ``skip`` here, or, in sync mode, on another worker."""
        self._ready()
        return self._steps.skipped

    def push_pull(self, grads: Any, params: Any = None, *, examples: float | None = None) -> None:
        """Give gradients and get the new weights, into ``params`` (dict of arrays) or the connection's own.

        Otherwise like ``step``. Raises GradientError or, when the weights do not fit into ``params``, UsageError;
        nothing is applied then.
        """
        self._ready()
        with HOLD:
            self._steps.push_pull_into(self._flat(grads), examples, self._flat(params))
        self._milestones.stepped()

    def push(self, grads: Any, *, examples: float | None = None, partial: bool = False) -> Handle:
        """Give gradients without waiting for their application. They are copied and may be reused at once.

        The push before it is waited for first. In sync mode with ``clip_norm`` it waits for the other workers'
        gradients, whose norm counts too. ``partial`` and GradientError are as in ``step``.
        """
        self._demand_whole()
        count = self._steps.count(examples)
        with HOLD:
            return Handle(self, self._steps.push(self._flat(grads), count, partial=partial))

    def pull(self, out: Any = None) -> Handle:
        """Ask for the weights that have this worker's pushes in them; they are there after ``wait``.

        They land in ``out`` (a dict of arrays like the parameters), or in the parameters themselves. In a federated
        job they are the published ones, and the parameters stay the client's own until its round is over. Raises
        UsageError when they do not fit there.
        """
        self._ready()
        with HOLD:
            return Handle(self, *self._steps.pull(self._flat(out)))

    def wait(self, handle: Handle) -> None:
        """Return when what the handle stands for is done. Raises StateError, or what went wrong with it."""
        self._ready()
        demand(handle, self)
        with HOLD:
            self._steps.wait(handle)

    def barrier(self) -> None:
        """Return when every live worker is here or has left. All go on with the same clock and the same weights.

        In a federated job, where clients come and go, it returns at once, between rounds with the latest weights.

        Raises PeerLost when the scheduler, which knows who is live, stays silent.
        """
        self._open()
        with HOLD:
            self._store.barrier()
            self._steps.met(begun=self._model is not None)

    def evaluate(self, function: Measure, data: Any, **patience: Unpack[PatienceArguments]) -> None:
        """Call ``function(params, data)`` every ``--eval-every`` steps and at the end; show and record the result.

        It returns a number, or a dict of numbers by name: ``kv.evaluate(mlp.accuracy, test)``. The worker with rank 0
        calls it. In a federated job ``--eval-every`` counts rounds, and each client that takes part also measures the
        global model on its own kind of data, before and after its own training. With ``patience=5`` training ends when
        the metric ``monitor`` was not better by over ``min_delta`` 5 times in a row; ``mode`` "max": higher is better.
        Raises UsageError for a wrong call, and, from the step that evaluates, for a result that is no number.
        """
        self._open()
        self._evaluation.add(function, data, **patience)

    def keep(self, name: str, save: Callable[[], Any], load: Callable[[Any], None]) -> None:
        """Have ``save()``, plain values and arrays, be part of each checkpoint; ``load(value)`` gets it back after one.

        Each worker keeps its own. See ``OwnState.keep``. Raises UsageError for a name that is taken.
        """
        self._own.keep(name, save, load)

    def stop(self, reason: str) -> None:
        """Have training end everywhere: in sync mode after the next step, which other workers may have begun.

        In async and ssp each worker ends before its next step, a federated job with the round under way. ``batches``
        end then, ``stopped`` is true, and a step beyond ends the ``with`` block of the connection (TrainingStopped).
        Any worker may say it; the first reason counts. Raises StateError after ``close``.
        """
        self._open()
        with HOLD:
            self._store.stop(text_of(reason))

    def save(self, path: str | PathLike[str], *, masters: bool = False) -> None:
        """Write the model as this worker has it into a safetensors file, whole or not at all; what was there goes.

        All tensors are in it, also those without gradients, by the names of the bare model: without ``module.`` or
        ``_orig_mod.`` where all have that in front. Buffers and counters are this worker's. Raises UsageError for a
        path or a tensor that cannot be, UnsavedModel when the file cannot be written. With ``masters``, what is trained
        in half precision is there as the servers' float32 masters, from which ``--init`` goes on with the same bits.
        """
        model = self._ready()
        self._steps.weights.all()
        write_model(path, model, self._store, masters=masters)

    def set_lr(self, lr: float, group: str | None = None) -> None:
        """From the next step on the base learning rate is ``lr``, for all workers; the schedule multiplies it.

        It is that of a ``group``, or of all tensors in none with an ``lr`` of its own. The latest counts, of several
        for one step the lowest rank's in sync mode, else each worker's for its own gradients. With ``backup_workers``
        it counts a step later, for a client from its next round on. Raises UsageError, or StateError after ``ready``.
        """
        self._demand_whole()
        self._groups.set_lr(lr, group)

    def set_weight_decay(self, weight_decay: float, group: str | None = None) -> None:
        """From the next step on the weight decay is this, as in ``set_lr``. Raises UsageError if there is none."""
        self._demand_whole()
        self._groups.set_weight_decay(weight_decay, group)

    def batches(
        self, data: Any, batch_size: int | None = None, *, epochs: int = 1, shuffle: bool = True, prefetch: int = 0
    ) -> Iterator[Any]:
        """Yield this worker's batches, on ``kv.device``: in each epoch the workers together see every example once.

        ``data`` is arrays of one length, a list or data set with examples by index (PyTorch, Hugging Face), a
        DataLoader, or any iterable of examples or, without ``batch_size``, of batches; worker/README says how each is
        shared out. A thread reads ``prefetch`` batches ahead. All workers get the same number of batches, each epoch in
        another order; a worker that came late begins where the job is. Raises DataError for data that cannot be shared.
        """
        self._open()
        return self._loader.batches(data, batch_size, epochs, shuffle, prefetch)

    # Inside

    def _ready(self) -> Parameters:
        self._open()
        if self._model is None:
            raise StateError("no parameters yet: call kv.init(params) first")
        return self._model

    def _demand_whole(self) -> None:
        self._ready()
        self._steps.refuse_partial()

    def _flat(self, tensors: Any) -> Any:
        return tensors if self._tree is None or tensors is None else self._tree.by_name(tensors)

    # The end

    def close(self, failure: str = "") -> None:
        """Leave the job in good order; ``failure`` says why when it is not. Raises what went wrong with a push."""
        self._lifetime.close(failure)

    def __enter__(self) -> KV:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._lifetime.exit(error)

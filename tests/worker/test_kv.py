"""KV: what a script may call and when, what its arrays may be, and what an end leaves behind. Without a cluster."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import model
from standin import STRICT, StrictArray

from ps import xp
from ps.config import job_from
from ps.errors import GradientError, PSError, StateError, UsageError
from ps.optim import OptimizerSpec
from ps.worker import KV, Handle
from ps.worker.gradients import Gradients
from ps.worker.local import LocalStore
from ps.worker.record import StepLog
from ps.worker.store import Pending

Local = Callable[..., KV]


class Foreign:
    """A tensor of another library: speaks DLPack, and has its own idea of a dtype."""

    dtype, shape = "torch.float32", "torch.Size([2])"

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.array.__dlpack__(**kwargs)


class Recording(LocalStore):
    """A local store that remembers how it was used, and fails when told to."""

    def __init__(self, **job: Any) -> None:
        super().__init__(job_from(job))
        self.closed: list[str] = []
        self.examples: list[float] = []
        self.trouble: PSError | None = None

    def push(self, gradients: Gradients | None, examples: float) -> Pending:
        self.examples.append(examples)
        return super().push(gradients, examples)

    def close(self, failure: str = "") -> None:
        self.closed.append(failure)
        if self.trouble is not None:
            raise self.trouble


def recording(**job: Any) -> tuple[KV, Recording]:
    store = Recording(**job)
    return KV(store, xp.CPU, StepLog(None)), store


def ones(params: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.ones(value.shape, value.dtype) for name, value in params.items()}


# When


def test_before_init_every_verb_says_what_comes_first(local: Local) -> None:
    kv = local()
    verbs: list[Callable[[], Any]] = [
        lambda: kv.step({}),
        lambda: kv.push({}),
        lambda: kv.pull(),
        lambda: kv.push_pull({}),
        lambda: kv.wait(None),  # type: ignore[arg-type]
        lambda: kv.set_lr(0.1),
        lambda: kv.params,
    ]
    for verb in verbs:
        with pytest.raises(StateError, match=r"call kv.init\(params\) first"):
            verb()


def test_after_close_every_verb_says_so_and_closing_again_is_nothing(local: Local) -> None:
    kv = local()
    params = kv.init(model((2,)))
    handle = kv.push(ones(params))
    kv.close()
    kv.close()
    for verb in (
        lambda: kv.step(ones(params)),
        lambda: kv.pull(),
        lambda: kv.wait(handle),
        kv.barrier,
        lambda: kv.init(params),
        lambda: kv.batches(np.arange(8), 2),
    ):
        with pytest.raises(StateError, match="this connection is closed"):
            verb()
    assert handle.done


def test_init_happens_once(local: Local) -> None:
    kv = local()
    kv.init(model((2,)))
    with pytest.raises(StateError, match="a connection trains one model"):
        kv.init(model((2,)))


def test_init_may_be_called_again_with_a_model_that_can_be_trained(local: Local) -> None:
    kv = local()
    for params, text in (
        ({"w": np.arange(3)}, "tensor 'w' has dtype int64"),
        ([np.ones(2)], "a model is a dict with an array for each tensor, not list"),
        ({}, "a model has 1 to 20000 tensors, not 0"),
        ({"w": object()}, "tensor 'w' has dtype object"),
        ({"w": [[1.0], [1.0, 2.0]]}, "tensor 'w' cannot be used"),
    ):
        with pytest.raises(UsageError, match=text):
            kv.init(params)  # type: ignore[arg-type]
    assert kv.init(model((2,)))["a"].shape == (2,)


def test_a_connection_belongs_to_the_thread_that_made_it(local: Local) -> None:
    kv = local()
    params = kv.init(model((2,)))
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            kv.step(ones(params))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(10)
    assert isinstance(raised[0], StateError)
    assert "belongs to another thread" in str(raised[0])
    assert kv.clock == 0


def test_a_forked_child_does_not_leave_the_job_for_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    kv, store = recording()
    pid = os.getpid()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: pid + 1)
        kv.close()
        with pytest.raises(StateError, match="another thread or process"):
            kv.barrier()
    assert store.closed == []
    kv.close()
    assert store.closed == [""]


# Handles


def test_waiting_takes_a_handle_of_this_connection_only(local: Local) -> None:
    kv, other = local(), local()
    params = kv.init(model((2,)))
    other.init(model((2,)))
    for handle, text in ((7, "not int"), (None, "not NoneType"), (other.pull(), "not a handle of another connection")):
        with pytest.raises(StateError, match=f"kv.wait takes a handle that kv.push or kv.pull returned, {text}"):
            kv.wait(handle)  # type: ignore[arg-type]
    handle = kv.push(ones(params))
    assert isinstance(handle, Handle)
    assert (handle.done, handle.staleness, repr(handle)) == (True, 0, "<Handle done>")
    kv.wait(handle)
    kv.wait(handle)


def test_a_pull_before_any_push_brings_the_first_values(local: Local) -> None:
    kv = local()
    first = model((3,), (2, 2))
    kv.init(first)
    out = {name: np.zeros_like(value) for name, value in first.items()}
    kv.wait(kv.pull(out))
    np.testing.assert_equal(out, first)


def test_two_pulls_at_once_do_not_share_their_memory(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(3)})
    a, b = {"w": np.full(3, 9.0)}, {"w": np.full(3, 9.0)}
    first = kv.pull(a)
    kv.wait(kv.push({"w": np.ones(3)}))
    second = kv.pull(b)
    kv.wait(second)
    kv.wait(first)
    assert (a["w"][0], b["w"][0], params["w"][0]) == (0, -1, -1)
    kv.wait(first)  # nothing is delivered twice
    assert a["w"][0] == 0


# Arrays


def test_what_init_returns_changes_in_place_and_is_what_pull_and_push_pull_know_as_their_own(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    given = model((2, 3), ())
    params = kv.init(given)
    assert list(params) == list(given)
    views = dict(params.items())
    kv.step({name: np.ones_like(value) for name, value in given.items()})
    kv.push_pull({name: np.ones_like(value) for name, value in given.items()}, params)
    kv.wait(kv.pull(params))
    for name in given:
        assert params[name] is views[name] is kv.params[name]
        np.testing.assert_allclose(params[name], given[name] - 2, rtol=1e-6)


def test_gradients_are_copied_by_push_and_may_be_reused_at_once(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(3)})
    grads = {"w": np.ones(3)}
    handles = []
    for _ in range(3):  # without a wait between them
        handles.append(kv.push(grads))
        grads["w"][...] = 100
        grads["w"][...] = 1
    for handle in handles:
        kv.wait(handle)
    assert params["w"][0] == -3


def test_parameters_as_gradients_are_the_gradient_of_their_own_norm(local: Local) -> None:
    kv = local(optimizer="adamw:lr=0.1,weight_decay=0.5")
    other = local(optimizer="adamw:lr=0.1,weight_decay=0.5")
    params, expected = kv.init(model((500,))), other.init(model((500,)))
    for _ in range(3):
        kv.step(params)
        other.step({"a": expected["a"].copy()})
    np.testing.assert_array_equal(params["a"], expected["a"])


def test_weights_go_into_foreign_tensors_and_nowhere_else_than_where_they_fit(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    kv.init({"w": np.zeros(2, np.float32)})
    target = np.ones(2, np.float32)
    kv.push_pull({"w": Foreign(np.ones(2, np.float32))}, {"w": Foreign(target)})
    assert target.tolist() == [-1, -1]
    frozen = np.ones(2, np.float32)
    frozen.flags.writeable = False
    for out, text in (
        ({}, "nowhere to put tensor 'w'"),
        ({"w": np.ones(3, np.float32)}, r"w float32\[2\] cannot go into an array of float32\[3\]"),
        ({"w": np.ones(2)}, "cannot go into an array of float64"),
        ({"w": frozen}, "that is read-only"),
        ({"w": [1.0, 2.0]}, "cannot go into a list"),
        ([1], "weights go into a dict of arrays, not into list"),
    ):
        with pytest.raises(UsageError, match=text):
            kv.pull(out)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=text):
            kv.push_pull({"w": np.ones(2, np.float32)}, out)  # type: ignore[arg-type]
    assert kv.clock == 1  # and nothing was applied


def test_a_device_gets_tensors_of_its_own_even_empty_ones(local: Local, strict_device: xp.Device) -> None:
    kv = local(strict_device)
    params = kv.init({"w": STRICT.to_device(np.ones(3, np.float32)), "none": np.zeros((0, 2)), "s": np.float32(2)})
    assert all(isinstance(value, StrictArray) for value in params.values())
    assert params["none"].shape == (0, 2)


def test_a_pull_into_the_parameters_on_a_device_is_not_undone_by_what_follows(
    local: Local, strict_device: xp.Device
) -> None:
    kv = local(strict_device, optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(2)})
    kv.wait(kv.push({"w": STRICT.to_device(np.ones(2))}))
    assert xp.to_host(params["w"])[0] == 0
    kv.wait(kv.pull(params))
    kv.barrier()
    assert xp.to_host(params["w"])[0] == -1


# Gradients that cannot be


@pytest.mark.parametrize("verb", ["step", "push", "push_pull"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_is_applied(local: Local, verb: str, value: float) -> None:
    kv = local(optimizer="momentum:lr=1")
    params = kv.init(model((3,), (2, 2)))
    before = {name: array.copy() for name, array in params.items()}
    grads = ones(params)
    grads["b"][1, 0] = value
    with pytest.raises(
        GradientError, match=rf"gradient of 'b' is {value} at \(1, 0\), at clock 0; nothing was applied"
    ):
        getattr(kv, verb)(grads)
    np.testing.assert_equal(params, before)
    assert kv.clock == 0
    kv.step(ones(params))
    np.testing.assert_allclose(params["a"], before["a"] - 1, rtol=1e-6)


def test_a_skipped_step_moves_the_clock_and_nothing_else(local: Local, tmp_path: Path) -> None:
    log = StepLog(str(tmp_path))
    kv, other = local(log=log, optimizer="adam:lr=0.1", on_nan="skip"), local(optimizer="adam:lr=0.1")
    params, expected = kv.init(model((3,))), other.init(model((3,)))
    for i in range(4):
        kv.step({"a": np.full(3, np.nan if i == 1 else 1, np.float32)})
        if i != 1:
            other.step({"a": np.ones(3, np.float32)})
    assert kv.clock == 4
    np.testing.assert_array_equal(params["a"], expected["a"])  # Adam's own count leaves it out as well
    log.flush()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("skipped") for line in lines] == [None, 1, None, None]


def test_a_wrong_shape_is_never_skipped(local: Local) -> None:
    kv = local(on_nan="skip")
    kv.init(model((3,)))
    with pytest.raises(GradientError, match="has shape"):
        kv.step({"a": np.ones(4, np.float32)})


# Numbers


@pytest.mark.parametrize("lr", [-1, float("nan"), float("inf"), "fast", None])
def test_what_is_no_learning_rate_is_refused(local: Local, lr: Any) -> None:
    kv = local()
    kv.init(model((2,)))
    with pytest.raises(UsageError, match="the learning rate must be a number of at least 0"):
        kv.set_lr(lr)


def test_a_new_learning_rate_holds_from_the_next_step_on_and_the_schedule_multiplies_it(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1", schedule="step:every=2,gamma=0.5")
    params = kv.init({"w": np.zeros(1)})
    seen = []
    for clock in range(4):
        if clock == 1:
            kv.set_lr(np.float32(10))
        kv.step({"w": np.ones(1)})
        seen.append(-float(params["w"][0]))
    np.testing.assert_allclose(np.diff([0, *seen]), [1, 10, 5, 5])


@pytest.mark.parametrize("verb", ["step", "push", "push_pull"])
def test_a_gradient_weighs_what_its_batch_has_examples(verb: str) -> None:
    kv, store = recording(aggregator="weighted")
    with kv:
        params = kv.init(model((2,)))
        push = getattr(kv, verb)
        push(ones(params))
        for _ in kv.batches(np.arange(9), 5):
            push(ones(params))
        push(ones(params), examples=2.5)
        for wrong in (0, -1, np.nan, "many"):
            with pytest.raises(UsageError, match="examples is the number of examples of a batch"):
                push(ones(params), examples=wrong)
    assert store.examples == [1.0, 4.0, 5.0, 2.5]


@pytest.mark.parametrize("verb", ["step", "push", "push_pull"])
def test_every_clock_has_its_line_in_the_record(local: Local, tmp_path: Path, verb: str) -> None:
    log = StepLog(str(tmp_path))
    kv = local(log=log)
    params = kv.init(model((2,)))
    for _ in range(3):
        getattr(kv, verb)(ones(params))
    kv.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["clock"] for line in lines] == [0, 1, 2]


# The end


class Boom(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (Boom("of the script"), "Boom: of the script"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit(3), "SystemExit: 3"),
        (SystemExit(0), ""),
        (SystemExit(None), ""),
        (GeneratorExit(), "GeneratorExit"),
    ],
)
@pytest.mark.parametrize("trouble", [None, PSError("while leaving")])
def test_a_script_ends_with_its_own_exception_and_the_job_hears_of_it(
    error: BaseException, noted: str, trouble: PSError | None
) -> None:
    kv, store = recording()
    store.trouble = trouble
    with pytest.raises(type(error)) as raised, kv:
        raise error
    assert raised.value is error
    assert [text.rpartition(".")[2] if "Boom" in text else text for text in store.closed] == [noted]


def test_what_went_wrong_with_the_last_push_is_raised_when_the_script_has_no_error_of_its_own() -> None:
    kv, store = recording()
    store.trouble = PSError("the last push was lost")
    with pytest.raises(PSError, match="the last push was lost"), kv:
        pass


def test_the_record_is_written_even_if_leaving_fails(tmp_path: Path) -> None:
    store = Recording()
    kv = KV(store, xp.CPU, StepLog(str(tmp_path)))
    kv.step(ones(kv.init(model((2,)))))
    store.trouble = PSError("no")
    with pytest.raises(PSError):
        kv.close()
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1


def test_a_script_that_never_closes_is_closed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kv, store = recording()
    kv._at_exit()
    assert store.closed == [""]
    kv, store = recording()
    monkeypatch.setattr(sys, "last_value", ValueError("of the script"), raising=False)
    store.trouble = PSError("no")
    kv._at_exit()  # and nothing is raised where nobody could catch it
    assert store.closed == ["ValueError: of the script"]


def test_every_optimizer_steps_as_it_does_alone(local: Local) -> None:
    """The baseline adds nothing of its own: it is the optimizer on one flat vector."""
    from ps.optim import apply

    for name in ("sgd:lr=0.1", "nesterov:lr=0.1", "adam:lr=0.01,weight_decay=0.1", "ftrl:lr=0.1"):
        kv = local(optimizer=name, clip_value=0.5)
        first = model((40, 3), (7,))
        params = kv.init(first)
        optimizer = OptimizerSpec.parse(name).build()
        weights = np.concatenate([array.ravel() for array in first.values()])
        state = optimizer.init(weights)
        for t in range(1, 5):
            grads = model((40, 3), (7,), seed=t)
            kv.step(grads)
            flat = np.concatenate([array.ravel() for array in grads.values()])
            apply(optimizer, weights, flat, state, lr=optimizer.lr, t=t, clip_value=0.5)
        np.testing.assert_array_equal(np.concatenate([params[n].ravel() for n in params]), weights)

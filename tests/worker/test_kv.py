"""KV: what a script may call and when, and what an end leaves behind. Without a cluster."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import PSError, StateError, UsageError
from ps.worker import KV, Handle
from ps.worker.step_log import StepLog
from support.loopback import model
from support.recording import Recording, ones, recording

Local = Callable[..., KV]


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


def test_a_notebook_is_told_who_a_connection_is_and_how_far(local: Local) -> None:
    kv = local()
    assert repr(kv) == "<KV: worker 0 without a cluster, clock 0, before init>"
    params = kv.init(model((2,)))
    kv.step(ones(params))
    assert repr(kv) == "<KV: worker 0 without a cluster, clock 1>"
    kv.close()
    assert repr(kv) == "<KV: worker 0 without a cluster, clock 1, closed>"


def test_init_happens_once(local: Local) -> None:
    kv = local()
    kv.init(model((2,)))
    with pytest.raises(StateError, match="a connection trains one model"):
        kv.init(model((2,)))


def test_init_may_be_called_again_with_a_model_that_can_be_trained(local: Local) -> None:
    kv = local()
    for params, text in (
        ({"w": np.arange(3)}, "tensor 'w' has dtype int64"),
        (np.ones(2), "a model is a dict with an array for each tensor, not ndarray"),
        ({}, "a model has 1 to 20000 tensors, not 0"),
        ({"w": object()}, "tensor 'w' is a object, which is no array"),
        ({"w": [[1.0], [1.0, 2.0]]}, "tensor 'w' cannot be read"),
    ):
        with pytest.raises(UsageError, match=text):
            kv.init(params)
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
    kv._lifetime.at_exit()
    assert store.closed == [""]
    kv, store = recording()
    monkeypatch.setattr(sys, "last_value", ValueError("of the script"), raising=False)
    store.trouble = PSError("no")
    kv._lifetime.at_exit()  # and nothing is raised where nobody could catch it
    assert store.closed == ["ValueError: of the script"]

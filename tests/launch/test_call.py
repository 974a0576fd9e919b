"""Promises of ps.launch.call: a function arrives by value, and what it returns or raises comes back."""

from __future__ import annotations

import functools
import linecache
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.errors import GradientError, UsageError
from ps.launch import called
from ps.launch.call import FUNCTION, OUTCOME, FunctionCall, ReceivedCall, WorkerTraceback, name_of


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """What a worker takes over stays the test's."""
    path, cells = list(sys.path), dict(linecache.cache)
    yield
    sys.path[:] = path
    linecache.cache.clear()
    linecache.cache.update(cells)


def work(call: FunctionCall, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a worker with this rank, in this process."""
    for name, fd in call.hands(rank).items():
        monkeypatch.setenv(name, str(os.dup(fd)))
    monkeypatch.setenv("PS_RANK", str(rank))
    called.main()


def made(text: str, filename: str = "<cell>", **names: Any) -> Callable[..., Any]:
    """Return the function ``f`` of some code that is in no module, as in a notebook."""
    scope = {"__name__": "__main__", **names}
    exec(compile(text, filename, "exec"), scope)
    return scope["f"]  # type: ignore[no-any-return]


def test_a_function_of_no_module_arrives_with_all_it_refers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    f = made(
        "def helper(x):\n    return x * scale\ndef f(x, more):\n    return helper(x) + more",
        scale=np.full(3, 2.0, np.float32),
    )
    with closing(FunctionCall(f, (np.arange(3), 1), 2)) as call:
        work(call, 1, monkeypatch)
        assert call.returned(0) is None
        work(call, 0, monkeypatch)
        np.testing.assert_array_equal(call.returned(0), [1, 3, 5])
        assert call.returned(1) is None
        assert call.raised(0) is None


def test_an_instance_of_a_class_of_no_module_comes_back_as_one_of_that_class(monkeypatch: pytest.MonkeyPatch) -> None:
    f = made("class Found:\n    def __init__(self, x):\n        self.x = x\ndef f():\n    return Found(3)")
    with closing(FunctionCall(f, (), 1)) as call:
        work(call, 0, monkeypatch)
        found = call.returned(0)
    assert type(found) is f.__globals__["Found"]
    assert found.x == 3


def test_every_worker_can_read_the_whole_function(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(FunctionCall(made("def f():\n    return 5"), (), 3)) as call:
        for rank in range(3):
            for name, fd in call.hands(rank).items():
                monkeypatch.setenv(name, str(os.dup(fd)))
            assert ReceivedCall().function() == 5


def test_an_exception_comes_back_with_its_lines_there_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def f():\n    try:\n        g()\n    except ZeroDivisionError as error:\n"
    text += "        raise GradientError('odd') from error"
    text += "\ndef g():\n    return 1 / 0  # the line"
    lines = text.splitlines(keepends=True)
    monkeypatch.setitem(linecache.cache, "/tmp/ipykernel_1/2.py", (len(text), None, lines, "/tmp/ipykernel_1/2.py"))
    f = made(text, "/tmp/ipykernel_1/2.py", GradientError=GradientError)
    with closing(FunctionCall(f, (), 2)) as call:
        monkeypatch.delitem(linecache.cache, "/tmp/ipykernel_1/2.py")
        with pytest.raises(GradientError, match="odd"):
            work(call, 1, monkeypatch)
        error = call.raised(1)
        assert call.raised(0) is None
    assert type(error) is GradientError
    assert isinstance(error.__cause__, WorkerTraceback)
    shown = "".join(traceback.format_exception(error))
    assert 'File "/tmp/ipykernel_1/2.py", line 7, in g\n    return 1 / 0  # the line' in shown
    assert "called.py" not in shown
    assert shown.index("ZeroDivisionError") < shown.index("GradientError: odd")


def test_an_exception_that_cannot_be_made_again_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    f = made(
        "class Odd(Exception):\n    def __init__(self, a, b):\n        super().__init__('how odd')\n"
        "def f():\n    raise Odd(1, 2)"
    )
    with closing(FunctionCall(f, (), 1)) as call:
        with pytest.raises(Exception, match="how odd"):
            work(call, 0, monkeypatch)
        error = call.raised(0)
    assert isinstance(error, RuntimeError)
    assert str(error) == "f raised on worker 0: Odd: how odd"
    assert "raise Odd" not in str(error.__cause__) and "Odd: how odd" in str(error.__cause__)


@pytest.mark.parametrize(
    ("text", "names", "args", "culprit"),
    [
        ("def f():\n    return lock", {"lock": threading.Lock()}, (), "lock, a _thread.lock: "),
        ("def f(a, b):\n    return b", {}, (1, (x for x in "ab")), "its argument 2, a generator: "),
        (
            "def g(items):\n    def f():\n        return items\n    return f\nf = g(x for x in 'ab')",
            {},
            (),
            "items, a generator: ",
        ),
    ],
)
def test_a_function_that_cannot_be_handed_over_is_refused_with_what_is_in_the_way(
    text: str, names: dict[str, Any], args: tuple[Any, ...], culprit: str
) -> None:
    f = made(text, **names)
    with pytest.raises(UsageError, match=f"f cannot be handed to the workers.*: {culprit}.*make such a thing inside"):
        FunctionCall(f, args, 1)


def test_a_result_that_cannot_be_handed_back_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    f = made("def f():\n    return (x for x in 'ab')")
    with closing(FunctionCall(f, (), 1)) as call:
        with pytest.raises(UsageError, match=r"what f returned, a generator, cannot be handed back: .*generator"):
            work(call, 0, monkeypatch)
        assert isinstance(call.raised(0), UsageError)


def test_a_client_that_was_started_again_has_the_last_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    f = made(
        "def f():\n    if not path.exists():\n        path.touch()\n        raise ValueError('x' * 1000)\n    return 7",
        path=tmp_path / "f",
    )
    with closing(FunctionCall(f, (), 1)) as call:
        with pytest.raises(ValueError, match="xxx"):
            work(call, 0, monkeypatch)
        work(call, 0, monkeypatch)
        assert call.raised(0) is None
        assert call.returned(0) == 7


def test_half_an_outcome_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(FunctionCall(made("def f():\n    return b'x' * 1000"), (), 1)) as call:
        work(call, 0, monkeypatch)
        os.ftruncate(call.hands(0)[OUTCOME], 100)
        assert call.returned(0) is None
        assert call.raised(0) is None


def test_started_by_hand_it_says_whose_part_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FUNCTION, OUTCOME):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"a part of ps\.run"):
        called.main()


class Model:
    def fit(self) -> None:
        pass

    def __call__(self) -> None:
        pass


def test_whatever_can_be_called_has_a_name() -> None:
    names = [name_of(f) for f in (Model().fit, functools.partial(Model.fit, None), Model(), len)]
    assert names == ["Model.fit", "Model.fit", "Model", "len"]

"""FunctionCall: a function on its way to the workers of a run, and what came of it there; in files without names.

It is handed over by value (cloudpickle), so it may stand in a notebook or a program, with what it refers to. Nothing
of it goes over a network: the files are descriptors that the workers of this run inherit.
"""

from __future__ import annotations

import io
import linecache
import mmap
import os
import pickle
import sys
import tempfile
import traceback
import types
from collections.abc import Callable, Mapping
from typing import IO, Any

import cloudpickle

from ps.descriptors import take_descriptor
from ps.errors import UsageError
from ps.text import with_article

FUNCTION = "PS_FUNCTION_FD"
OUTCOME = "PS_OUTCOME_FD"


class WorkerTraceback(Exception):
    """Where an exception was raised in a worker's process: the cause of the one that is raised here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class FunctionCall:
    """The launcher's side: ``function(*args)``, to be called in each worker."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], workers: int) -> None:
        """Raises UsageError when it cannot be handed to another process."""
        self.name = name_of(function)
        given = _pickled(function, args, self.name)
        self._function = _file(pickle.dumps((sys.path, _cells(), given)))
        self._outcomes = [_file() for _ in range(workers)]

    def hands(self, rank: int) -> Mapping[str, int]:
        """Return the descriptors that a worker is to inherit, by the variables that name them there."""
        return {FUNCTION: self._function.fileno(), OUTCOME: self._outcomes[rank].fileno()}

    def returned(self, rank: int) -> Any:
        """Return what the function returned on a worker; None where it ended its process in good order by itself.

        Raises UsageError when that cannot be unpickled here.
        """
        found = self._outcome(rank)
        if found is None or found[0] != "returned":
            return None
        try:
            return pickle.loads(found[1])
        except Exception as error:
            raise UsageError(
                f"what {self.name} returned on worker {rank} cannot be unpickled here: {_said(error)}"
            ) from error

    def raised(self, rank: int) -> BaseException | None:
        """Return the exception that ended the function on a worker, if one did, with its traceback there as cause."""
        found = self._outcome(rank)
        if found is None or found[0] != "raised":
            return None
        _, data, text = found
        try:
            error: BaseException = pickle.loads(data)
        except Exception:  # a class that cannot be made again from what it was made of
            error = RuntimeError(f"{self.name} raised on worker {rank}: {text.strip().splitlines()[-1]}")
        error.__cause__ = WorkerTraceback(text)
        return error

    def close(self) -> None:
        """Let go of the files."""
        for file in (self._function, *self._outcomes):
            file.close()

    def _outcome(self, rank: int) -> tuple[Any, ...] | None:
        file = self._outcomes[rank]
        file.seek(0)
        try:
            found: tuple[Any, ...] = pickle.load(file)
        except Exception:  # nothing, or half of it: the worker was killed, or the disk is full
            return None
        return found


class ReceivedCall:
    """A worker's side."""

    def __init__(self) -> None:
        """Take the function over. Raises UsageError where nobody handed one over, or it cannot be unpickled here."""
        function, outcome = take_descriptor(FUNCTION), take_descriptor(OUTCOME)
        if function is None or outcome is None:
            raise UsageError("this module is a part of ps.run, which alone can start it")
        self._outcome = outcome
        with mmap.mmap(function, 0, access=mmap.ACCESS_READ) as data:  # its offset is shared with the other workers
            path, cells, given = pickle.loads(data)
        os.close(function)
        sys.path[:] = path
        linecache.cache.update(cells)
        try:
            self.function, self.args = pickle.loads(given)
        except Exception as error:
            raise UsageError(f"the function cannot be unpickled in a worker: {_said(error)}") from error

    def note_result(self, result: Any) -> None:
        """Hand back what the function returned. Raises UsageError when it cannot be pickled."""
        try:
            data = _dumps(result)
        except Exception as error:
            raise UsageError(
                f"what {name_of(self.function)} returned, {_kind(result)}, cannot be handed back: {_said(error)}; "
                f"return numbers, texts, arrays, or lists and dicts of them"
            ) from error
        self._write("returned", data)

    def note_error(self, error: Exception, text: str) -> None:
        """Hand back an exception and its traceback."""
        try:
            data = _dumps(error)
        except Exception:
            data = b""
        self._write("raised", data, text)

    def _write(self, *found: Any) -> None:
        with os.fdopen(os.dup(self._outcome), "wb") as file:
            file.seek(0)
            file.truncate()  # a client that was started again has begun anew
            pickle.dump(found, file)


def name_of(function: Callable[..., Any]) -> str:
    """Return what messages call a function."""
    found = getattr(function, "__qualname__", None) or getattr(getattr(function, "func", None), "__qualname__", None)
    return str(found or type(function).__qualname__).replace("<locals>.", "")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Keeps the name of the file that code was compiled from, which tracebacks show lines of."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.CodeType) and value.co_filename:
            return _code_from, (value.replace(co_filename=""), value.co_filename)
        return super().reducer_override(value)


def _code_from(code: types.CodeType, filename: str) -> types.CodeType:
    return code.replace(co_filename=filename)


def _dumps(value: Any) -> bytes:
    with io.BytesIO() as file:
        _Pickler(file).dump(value)
        return file.getvalue()


def _pickled(function: Callable[..., Any], args: tuple[Any, ...], name: str) -> bytes:
    try:
        return _dumps((function, args))
    except Exception as error:
        culprit = _culprit(function, args)
        raise UsageError(
            f"{name} cannot be handed to the workers, which are processes of their own: {culprit}{_said(error)}; make "
            f"such a thing inside of the function"
        ) from error


def _culprit(function: Any, args: tuple[Any, ...]) -> str:
    """Return which of the things that a function refers to cannot be pickled, as far as it can be told."""
    named = {f"its argument {number}": value for number, value in enumerate(args, 1)}
    code = getattr(function, "__code__", None)
    if code is not None:
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        named |= {name: cell.cell_contents for name, cell in cells}
        named |= {name: function.__globals__[name] for name in code.co_names if name in function.__globals__}
    for name, value in named.items():
        try:
            _dumps(value)
        except Exception:
            return f"{name}, {_kind(value)}: "
    return ""


def _kind(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return with_article(name)


def _said(error: Exception) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _cells() -> dict[str, Any]:
    """Return the source lines that are in no file, such as those of a notebook's cells, for tracebacks."""
    found = {name: entry for name, entry in linecache.cache.items() if len(entry) == 4 and entry[1] is None}
    return {name: entry for name, entry in found.items() if isinstance(name, str)}


def _file(data: bytes = b"") -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        file.close()
        raise UsageError(
            f"{len(data):,} bytes for the workers cannot be written to {tempfile.gettempdir()}: {error.strerror}; "
            f"TMPDIR names another place"
        ) from None
    return file

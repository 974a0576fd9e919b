"""Promises of a file of weights: any array comes back as it was, no half file is ever there, damage is one line."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from ps.errors import UnsavedModel, UsageError
from ps.weights_file import bare, open_weights, write_weights

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
ODD: dict[str, Any] = {
    "transposed": ROWS.T,
    "fortran": np.asfortranarray(ROWS),
    "strided": ROWS[::2],
    "reversed": ROWS[::-1, ::-1],
    "channels last": np.arange(48, dtype=np.float64).reshape(2, 4, 3, 2).transpose(0, 3, 1, 2),
    "swapped": ROWS.astype(">f4"),
    "swapped and transposed": ROWS.astype(">f4").T,
    "scalar": np.float32(3.5) + np.zeros((), np.float32),
    "empty": np.zeros((0, 3), np.float32),
    "broadcast": np.broadcast_to(np.float32(2), (2, 3)),
    "read-only": np.frombuffer(b"\1\2\3", np.uint8),
    "flags": np.array([True, False]),
}


def read(path: Path) -> dict[str, np.ndarray]:
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("name", ODD)
def test_an_array_comes_back_whatever_its_order_in_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_weights(path, {"w": ODD[name], "after": ROWS}, {})
    found = read(path)
    assert found["w"].shape == ODD[name].shape
    np.testing.assert_array_equal(found["w"], ODD[name])
    np.testing.assert_array_equal(found["after"], ROWS)


def test_the_library_alone_writes_garbage_which_is_why_one_module_calls_it() -> None:
    data = save({"w": ROWS.T})
    (length,) = struct.unpack("<Q", data[:8])
    bare_call = np.frombuffer(data[8 + length :], np.float32).reshape(4, 3)
    assert not np.array_equal(bare_call, ROWS.T), "the library has been mended: the copy in C order can go"


def test_a_file_says_that_torch_can_read_it_and_has_ordinary_permissions(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_weights(path, {"w": ROWS}, {"clock": "7"})
    with safe_open(path, "numpy") as file:
        assert file.metadata() == {"format": "pt", "clock": "7"}
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    path.chmod(0o640)
    write_weights(path, {"w": ROWS}, {})
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir() if p.name != "plain"] == ["m.safetensors"]


def test_what_cannot_be_written_is_named_and_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_weights(path, {"w": ROWS}, {})
    for tensors, text in (
        ({"z": np.zeros(2, np.complex128)}, "'z' has dtype complex128, which a safetensors file cannot hold"),
        ({"t": np.array(["a"])}, "'t' has dtype <U1"),
        ({"__metadata__": ROWS}, "called '__metadata__' cannot be"),
        ({"\udcff": ROWS}, "cannot be in a safetensors file"),
    ):
        with pytest.raises(UsageError, match=text):
            write_weights(path, tensors, {})
    np.testing.assert_array_equal(read(path)["w"], ROWS)
    with pytest.raises(UnsavedModel, match=r"cannot write the model to .*gone/m: No such file"):
        write_weights(tmp_path / "gone" / "m", {"w": ROWS}, {})


def test_a_full_disk_is_named_and_leaves_the_older_file(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "m.safetensors"
    write_weights(path, {"w": ROWS}, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(UnsavedModel, match=r"cannot write the model to .*: File too large"):
            write_weights(path, {"w": np.zeros(1 << 16)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    np.testing.assert_array_equal(read(path)["w"], ROWS)
    assert os.listdir(tmp_path) == ["m.safetensors"], "nothing is left of the one that failed"  # noqa: PTH208


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["module.a", "module.b"], ["a", "b"]),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
        (["_orig_mod.module.a"], ["a"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["module.", "module.b"], ["module.", "module.b"]),
        ([], []),
    ],
)
def test_what_wraps_a_model_is_not_in_its_names(names: list[str], found: list[str]) -> None:
    assert list(bare(names).values()) == found


def test_a_tensor_is_read_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_weights(path, {"b": ROWS, "a": np.arange(3), "s": np.float64(5) + np.zeros(())}, {"x": "y"})
    with open_weights(path) as file:
        assert file.about == {"format": "pt", "x": "y"}
        assert {name: str(entry) for name, entry in file.entries.items()} == {
            "a": "int64[3]",
            "b": "float32[3, 4]",
            "s": "float64[]",
        }
        whole, scalar = np.empty_like(ROWS), np.empty(())
        file.read("b", whole)
        file.read("s", scalar)
    np.testing.assert_array_equal(whole, ROWS)
    assert scalar == 5


def made(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**other: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **other}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "it has 0 bytes"),
        (made({"a": entry()}, bytes(8), 1 << 60), "its header should have 1152921504606846976 bytes, of which"),
        (made({"a": entry()}, bytes(8), 1000), "it is cut short, or no safetensors file"),
        (made({"a": entry()}, bytes(4)), "its tensors take 8 bytes, and there are 4 bytes less: it is cut short"),
        (made({"a": entry()}, bytes(12)), "4 bytes more"),
        (made({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12)), "'b' overlaps the one before it"),
        (made({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)), "'b' leaves a gap"),
        (made({"a": entry(shape=[3])}, bytes(8)), r"F32\[3\], does not take the 8 bytes"),
        (made({"a": entry(shape=[1 << 62, 1 << 62])}, bytes(8)), "no whole numbers"),
        (made({"a": entry(shape=[-2])}, bytes(8)), "no whole numbers"),
        (made({"a": entry(shape=[True, 2])}, bytes(8)), "no whole numbers"),
        (made({"a": entry(data_offsets=[8, 0])}, bytes(8)), "does not take the -8 bytes"),
        (made({"a": entry(dtype="Q7")}, bytes(8)), "'a' has an unknown dtype, 'Q7'"),
        (made({"a": 1}), "is not a dtype, a shape and two offsets"),
        (made(b'{"a":{},"a":{}}'), "two entries of one name"),
        (made(b"[]"), "no JSON object"),
        (made(b"[" * 100_000), "nested too deeply"),
        (made(b"\xff{}"), "decode"),
        (made({"__metadata__": {"a": 1}}), "no object of texts"),
    ],
)
def test_a_damaged_file_is_told_in_a_line_that_says_what_is_wrong(data: bytes, text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=text) as caught, open_weights(path, "flag --init"):
        pass
    assert str(caught.value).startswith(f"cannot read the model file {path} (from flag --init): ")


def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    rows = np.zeros(1 << 18)
    write_weights(path, {"w": rows}, {})
    with open_weights(path) as file:
        os.truncate(path, path.stat().st_size - 4)
        with pytest.raises(UsageError, match="it ends within the tensor 'w'"):
            file.read("w", np.empty_like(rows))


def test_a_pipe_or_a_folder_is_no_file_of_weights(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, text in ((tmp_path / "pipe", "a pipe"), (tmp_path, "directory"), (tmp_path / "none", "there is no")):
        with pytest.raises(UsageError, match=text), open_weights(path):
            pass

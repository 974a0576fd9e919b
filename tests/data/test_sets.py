"""Loading digits and MNIST: the promised shapes and dtypes, and a clear word about every damaged file."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ps.data import batches, digits, digits_set, idx, mnist
from ps.errors import DataError
from ps.models import mlp

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
KEYS = ("x_train", "y_train", "x_test", "y_test")
ROOT = Path(__file__).parents[2]
BESIDE = ROOT.parent / "shared" / "data"


def parts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = [(6, 28, 28), (6,), (3, 28, 28), (3,)]
    return [rng.integers(0, 256 if len(s) == 3 else 10, s, np.uint8) for s in shapes]


def encode(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, *, gz: bool = False, dotted: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(NAMES, parts(), strict=True):
        name = name.replace("-idx", ".idx") if dotted else name
        content = encode(array)
        (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(content) if gz else content)


def check(place: Path | str | None) -> None:
    train, test = mnist(place)
    raw = parts()
    assert (train.x.dtype, train.y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(train.x, raw[0].reshape(6, 784) / np.float32(255))
    np.testing.assert_array_equal(test.y, raw[3])
    assert train.x.min() >= 0 and train.x.max() <= 1
    assert mnist(place, flat=False)[1].x.shape == (3, 28, 28)


def test_digits_are_scaled_divided_and_repeatable() -> None:
    train, test = digits()
    assert (train.x.shape, test.x.shape) == ((1438, 64), (359, 64))
    assert (train.x.dtype, train.y.dtype) == (np.float32, np.int64)
    assert (train.x.min(), train.x.max()) == (0, 1)
    np.testing.assert_array_equal(digits()[1].x, test.x)
    assert not np.array_equal(digits(seed=1)[1].y, test.y)
    assert len(digits(test_fraction=0.5)[0]) == 899
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(DataError, match="between 0 and 1"):
            digits(test_fraction=fraction)


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sklearn", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        digits()


def test_digits_are_scikit_learns_and_come_without_loading_it(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; from ps.data import digits; digits(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    read = digits()
    monkeypatch.setattr(digits_set, "FILE", "gone")  # as in a version that has it elsewhere
    loaded = digits()
    for a, b in zip(read, loaded, strict=True):
        assert (a.x.dtype, a.y.dtype) == (b.x.dtype, b.y.dtype)
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.y, b.y)


def test_the_examples_perceptron_learns_digits() -> None:
    train, test = digits()
    params = mlp.init([64, 128, 10])
    momentum = {name: np.zeros_like(value) for name, value in params.items()}
    for x, y in batches(train, 32, epochs=10):
        _, grads = mlp.loss_and_grad(params, x, y)
        for name, grad in grads.items():
            momentum[name] = np.float32(0.9) * momentum[name] + grad
            params[name] -= np.float32(0.05) * momentum[name]
    assert mlp.accuracy(params, test) >= 0.95


@pytest.mark.parametrize("folder", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize(("gz", "dotted"), [(False, False), (True, False), (False, True)])
def test_idx_files_are_found_plain_or_gzipped(tmp_path: Path, folder: str, gz: bool, dotted: bool) -> None:
    write_idx(tmp_path / folder, gz=gz, dotted=dotted)
    check(tmp_path)


@pytest.mark.parametrize("place", [".", "mnist", "mnist/mnist.npz"])
def test_npz_is_found_in_a_folder_or_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "mnist" / "mnist.npz", **dict(zip(KEYS, parts(), strict=True)))
    check(str(tmp_path / place))


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path)
    monkeypatch.setenv("PS_DATA", str(tmp_path))
    check(None)


def test_nothing_found_says_what_was_looked_for_and_how_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"mnist\.npz and no train-images-idx3-ubyte.*--data DIR.*PS_DATA") as caught:
        mnist(tmp_path)
    assert str(tmp_path / "MNIST/raw") in str(caught.value)
    monkeypatch.delenv("PS_DATA", raising=False)
    with pytest.raises(DataError, match="--data DIR or set PS_DATA"):
        mnist()


def test_a_missing_companion_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / NAMES[3]).unlink()
    with pytest.raises(DataError, match="needs t10k-labels-idx1-ubyte"):
        mnist(tmp_path)


def test_labels_for_other_images_are_refused(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / NAMES[1]).write_bytes(encode(parts()[3]))
    with pytest.raises(DataError, match="6 examples, but 3 labels"):
        mnist(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "holds 17 bytes, but its header says 18"),
        (lambda content: content + b"\0", "holds more bytes, but its header says 18"),
        (lambda content: content[:10], "ends within its header"),
        (lambda content: b"", "starts with nothing"),
        (lambda content: b"\0\0\x0d\x03" + content[4:], "starts with 00000d03, not 00000803"),
        (lambda content: b"\0\0\x08\x01" + content[4:], "starts with 00000801, not 00000803"),
        (
            lambda content: content[:4] + b"\xff" * 12 + content[16:],
            "its header says 79228162458924105385300197375",
        ),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_idx_file_is_named(tmp_path: Path, damage: object, message: str, suffix: str) -> None:
    path = tmp_path / f"images{suffix}"
    content = damage(encode(np.zeros((2, 3, 3), np.uint8)))  # type: ignore[operator]
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataError, match=message) as caught:
        idx.read(path, 3)
    assert str(path) in str(caught.value)


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    whole = gzip.compress(encode(parts()[0]))
    middle = len(whole) // 2
    for content in (whole[:middle], b"no gzip", whole[:middle] + bytes(20) + whole[middle + 20 :]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"images\.gz"):
            idx.read(path, 3)
    with pytest.raises(DataError, match="absent"):
        idx.read(tmp_path / "absent", 3)


def test_npz_without_a_key_says_which(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x_train=parts()[0], y_train=parts()[1])
    with pytest.raises(DataError, match=r"lacks x_test, y_test; it holds x_train, y_train"):
        mnist(tmp_path)


def test_npz_of_another_shape_or_range_is_refused(tmp_path: Path) -> None:
    good = dict(zip(KEYS, parts(), strict=True))
    for key, value in [
        ("x_test", good["x_test"].astype(np.float32)),
        ("x_train", good["x_train"].reshape(6, 784)),
        ("y_train", good["y_train"][:, None]),
        ("y_test", good["y_test"].astype(np.int64) - 1000),
    ]:
        np.savez(tmp_path / "mnist.npz", **(good | {key: value}))
        with pytest.raises(DataError, match=key):
            mnist(tmp_path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, **dict.fromkeys(KEYS, np.array([os.getcwd, {}], dtype=object)))
    with pytest.raises(DataError, match=r"cannot read the \.npz file .*mnist\.npz: "):
        mnist(tmp_path)
    np.array([os.getcwd], dtype=object).dump(path)
    with pytest.raises(DataError, match=r"cannot read the \.npz file .*mnist\.npz: "):
        mnist(tmp_path)


def test_files_that_are_no_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez_compressed(path, **dict(zip(KEYS, parts(), strict=True)))
    whole = path.read_bytes()
    with path.with_suffix(".npy").open("wb") as file:
        np.save(file, parts()[0])
    for content in (b"", b"PK", whole[: len(whole) // 2], path.with_suffix(".npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot read the \.npz file .*mnist\.npz: "):
            mnist(tmp_path)


def test_the_real_set_has_its_known_sizes() -> None:
    place = os.environ.get("PS_DATA") or BESIDE
    if not Path(place).exists():
        pytest.skip("MNIST is not here: set PS_DATA to its folder")
    train, test = mnist(place)
    assert (train.x.shape, test.x.shape) == ((60000, 784), (10000, 784))
    assert np.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]

"""MNIST, or a set in its files' format (Fashion-MNIST, KMNIST), from a folder that the user has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ps.data import idx, npz
from ps.data.dataset import Dataset
from ps.errors import DataError
from ps.regular_file import blaming, shown

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FOLDERS = (".", "mnist", "MNIST/raw")
_HOW = "Pass --data DIR or set PS_DATA"


def mnist(data_dir: str | Path | None = None, flat: bool = True) -> tuple[Dataset, Dataset]:
    """Return (train, test): x float32 in [0, 1] of shape (n, 784), or (n, 28, 28) unless flat; y int64.

    ``data_dir`` (or else the environment variable PS_DATA) is an ``.npz`` file, or a folder that holds
    ``mnist.npz`` (x_train, y_train, x_test, y_test) or the four IDX files, plain or gzipped, in itself or in
    ``mnist/`` or ``MNIST/raw/``. DataError when nothing is there, or when what is there is damaged.
    """
    chosen = data_dir or os.environ.get("PS_DATA")
    if not chosen:
        raise DataError(f"no folder to look for MNIST in. {_HOW}")
    parts = _find(Path(chosen))
    for part, what in zip(parts, ("training images", "training labels", "test images", "test labels"), strict=True):
        if not part.size:
            raise DataError(f"{shown(chosen)}: there are no {what}, but an array of shape {part.shape}")
    if parts[0].shape[1:] != parts[2].shape[1:]:
        raise DataError(
            f"{shown(chosen)}: training images are {parts[0].shape[1:]}, and test images {parts[2].shape[1:]}"
        )
    return _dataset(*parts[:2], flat=flat), _dataset(*parts[2:], flat=flat)


def _find(place: Path) -> list[NDArray[np.uint8]]:
    if not _is_there(place):
        raise DataError(f"there is nothing at {shown(place)}. {_HOW}")
    if not place.is_dir():
        return _read_npz(place)
    for folder in (place / name for name in _FOLDERS):
        if _is_there(folder / "mnist.npz"):
            return _read_npz(folder / "mnist.npz")
        files = [_existing(folder, name) for name in _IDX]
        if any(files):
            missing = [name for name, file in zip(_IDX, files, strict=True) if file is None]
            if missing:
                raise DataError(f"{folder}: also needs {', '.join(missing)} (or with .gz). {_HOW}")
            return [_read_idx(file) for file in files if file is not None]
    looked = ", ".join(str(place / name) for name in _FOLDERS)
    raise DataError(f"no mnist.npz and no {_IDX[0]}[.gz] and its three companions in {looked}. {_HOW}")


def _existing(folder: Path, name: str) -> Path | None:
    dotted = name.replace("-idx", ".idx")
    names = (name, f"{name}.gz", dotted, f"{dotted}.gz")
    return next((folder / each for each in names if _is_there(folder / each)), None)


def _is_there(path: Path) -> bool:
    with blaming(path, error=DataError):
        return path.exists()


def _read_idx(path: Path) -> NDArray[np.uint8]:
    return idx.read(path, 3 if "images" in path.name else 1)


def _read_npz(path: Path) -> list[NDArray[np.uint8]]:
    parts = npz.read(path, _KEYS)
    for key, part in parts.items():
        ndim = 3 if key.startswith("x") else 1
        if part.ndim != ndim or not np.issubdtype(part.dtype, np.integer):
            raise DataError(f"{path}: {key} is {part.dtype}{part.shape}; expected whole numbers, {ndim} dimension(s)")
        if part.size and (part.min() < 0 or part.max() > 255):
            raise DataError(f"{path}: {key} has values from {part.min()} to {part.max()}; expected 0 to 255")
    return list(parts.values())


def _dataset(x: NDArray[np.uint8], y: NDArray[np.uint8], *, flat: bool) -> Dataset:
    x = x.reshape(len(x), -1) if flat else x
    return Dataset(x.astype(np.float32) / np.float32(255), y.astype(np.int64))

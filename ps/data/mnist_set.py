"""MNIST, or a set in its files' format (Fashion-MNIST, KMNIST), from a folder that the user has."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ps.data import idx
from ps.data.dataset import Dataset
from ps.errors import DataError

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
    return _dataset(*parts[:2], flat=flat), _dataset(*parts[2:], flat=flat)


def _find(place: Path) -> list[NDArray[np.uint8]]:
    if place.is_file():
        return _read_npz(place)
    for folder in (place / name for name in _FOLDERS):
        if (folder / "mnist.npz").is_file():
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
    return next((folder / each for each in names if (folder / each).is_file()), None)


def _read_idx(path: Path) -> NDArray[np.uint8]:
    return idx.read(path, 3 if "images" in path.name else 1)


def _read_npz(path: Path) -> list[NDArray[np.uint8]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            missing = [key for key in _KEYS if key not in archive]
            if missing:
                raise DataError(f"{path}: lacks {', '.join(missing)}; it holds {', '.join(archive) or 'nothing'}")
            parts = [archive[key] for key in _KEYS]
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: no readable .npz file: {error}") from error
    for key, part in zip(_KEYS, parts, strict=True):
        ndim = 3 if key.startswith("x") else 1
        if part.ndim != ndim or not np.issubdtype(part.dtype, np.integer):
            raise DataError(f"{path}: {key} is {part.dtype}{part.shape}; expected whole numbers, {ndim} dimension(s)")
        if part.size and (part.min() < 0 or part.max() > 255):
            raise DataError(f"{path}: {key} has values from {part.min()} to {part.max()}; expected 0 to 255")
    return parts


def _dataset(x: NDArray[np.uint8], y: NDArray[np.uint8], *, flat: bool) -> Dataset:
    x = x.reshape(len(x), -1) if flat else x
    return Dataset(x.astype(np.float32) / np.float32(255), y.astype(np.int64))

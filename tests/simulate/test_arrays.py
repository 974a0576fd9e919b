"""Promises of shared arrays: every process sees the same values, and none can change them."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from ps.simulate.arrays import SharedArrays, read_arrays


def test_arrays_are_read_as_they_were_and_cannot_be_written() -> None:
    arrays = {"a": np.arange(7, dtype=np.float32).reshape(7, 1), "b": np.array([3, 1], np.int64), "c": np.zeros((0, 2))}
    shared = SharedArrays.of(arrays)
    found = read_arrays(shared.fd, shared.to_dict())
    for name, array in arrays.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0] = 1


def test_arrays_outlive_their_file_and_the_file_goes_with_its_last_user() -> None:
    shared = SharedArrays.of({"a": np.arange(5)})
    found = read_arrays(shared.fd, shared.to_dict())
    fd = shared.fd
    del shared
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert found["a"].tolist() == [0, 1, 2, 3, 4]

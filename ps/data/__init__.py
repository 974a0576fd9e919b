"""Data sets and their division among workers."""

from ps.data.dataset import Dataset
from ps.data.digits_set import digits
from ps.data.epochs import batches, num_examples, steps_per_epoch
from ps.data.mnist_set import mnist

__all__ = ["Dataset", "batches", "digits", "mnist", "num_examples", "steps_per_epoch"]

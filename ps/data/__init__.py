"""Data sets and their division among workers and clients."""

from ps.data.dataset import Dataset
from ps.data.digits_set import digits
from ps.data.epochs import batches, demand_arrays, demand_whole, num_examples, steps_per_epoch
from ps.data.mnist_set import mnist
from ps.data.shares import labels_of, view
from ps.partition import PARTITIONERS, Partition, counterpart, partition

__all__ = [
    "PARTITIONERS",
    "Dataset",
    "Partition",
    "batches",
    "counterpart",
    "demand_arrays",
    "demand_whole",
    "digits",
    "labels_of",
    "mnist",
    "num_examples",
    "partition",
    "steps_per_epoch",
    "view",
]

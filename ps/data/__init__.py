"""Data sets and their division among workers and clients."""

from ps.data.blank import BlankBatches, demand_length
from ps.data.collate import collate, size_of
from ps.data.columns import Columns
from ps.data.dataset import Dataset
from ps.data.digits_set import digits
from ps.data.epochs import batches, demand_arrays, demand_whole, num_examples, steps_per_epoch
from ps.data.foreign_loader import ForeignLoader
from ps.data.indexed import IndexedExamples
from ps.data.mnist_set import mnist
from ps.data.prefetch import ahead, demand_prefetch
from ps.data.shares import labels_of, view
from ps.data.source import Source, is_columns, source_of
from ps.data.step_windows import StepWindows
from ps.data.stream import ExampleStream
from ps.partition import PARTITIONERS, Partition, counterpart, partition

__all__ = [
    "PARTITIONERS",
    "BlankBatches",
    "Columns",
    "Dataset",
    "ExampleStream",
    "ForeignLoader",
    "IndexedExamples",
    "Partition",
    "Source",
    "StepWindows",
    "ahead",
    "batches",
    "collate",
    "counterpart",
    "demand_arrays",
    "demand_length",
    "demand_prefetch",
    "demand_whole",
    "digits",
    "is_columns",
    "labels_of",
    "mnist",
    "num_examples",
    "partition",
    "size_of",
    "source_of",
    "steps_per_epoch",
    "view",
]

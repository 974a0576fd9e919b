"""Which client holds which examples: one short file for each way to divide a data set among clients."""

from ps.partition.counterpart import counterpart
from ps.partition.division import Partition, partition
from ps.partition.features import Features
from ps.partition.spec import PARTITIONERS, Partitioner, PartitionSpec

__all__ = ["PARTITIONERS", "Features", "Partition", "PartitionSpec", "Partitioner", "counterpart", "partition"]

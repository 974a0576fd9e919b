"""Which client holds which examples: one short file for each way to divide a data set among clients."""

from ps.partition.counterpart import Counterparts, counterpart
from ps.partition.division import Partition, partition
from ps.partition.features import Features
from ps.partition.partitioner import Partitioner
from ps.partition.registry import PARTITIONERS

__all__ = ["PARTITIONERS", "Counterparts", "Features", "Partition", "Partitioner", "counterpart", "partition"]

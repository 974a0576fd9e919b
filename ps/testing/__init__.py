"""For tests of code that uses ps: a whole cluster inside one process, and a device without hardware.

from ps.testing import LocalCluster

def script(kv):
    params = kv.init({"w": np.zeros(3, np.float32)})
    kv.step({"w": np.ones(3, np.float32)})
    return params["w"].copy()

with LocalCluster(servers=2, workers=2, optimizer="sgd:lr=0.5") as cluster:
    results = cluster.run(script, script)
"""

from ps.testing.local_cluster import LocalCluster
from ps.testing.strict_device import STRICT, StrictArray, strict_device

__all__ = ["STRICT", "LocalCluster", "StrictArray", "strict_device"]

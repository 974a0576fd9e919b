"""BLAS: how many threads the matrix products of one process take: its share of the cores, unless somebody says more.
So do the OpenMP threads of what is loaded, such as PyTorch.

Each process would take all cores otherwise, and threads that wait for each other on cores that others have are slower
than one: three workers on two cores take half as long again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

log = logging.getLogger("ps")

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What libraries read when they are loaded. Whoever sets one of them has decided."""


def share(cores: int, processes: int) -> int:
    """Return how many threads each of so many processes on one host takes."""
    return max(1, cores // processes)


def take(threads: int, environ: Mapping[str, str]) -> bool:
    """Have the libraries that are loaded take at most ``threads``, and say so; return whether that changed anything.

    Nothing happens when ``environ`` has one of ``VARIABLES``, or nobody would take more.
    """
    if any(environ.get(name) for name in VARIABLES):
        return False
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api=["blas", "openmp"])
    if all(each["num_threads"] <= threads for each in libraries.info()):
        return False
    libraries.limit(limits=threads)
    plural = "s" if threads > 1 else ""
    log.warning("matrix products take %d thread%s, this process's share; OMP_NUM_THREADS sets another", threads, plural)
    return True

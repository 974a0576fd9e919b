"""Parent: the operating system ends a child whose parent is gone, on Linux: for the moments before it can look itself.

Elsewhere nothing happens here, and the lifeline alone has to do.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_prctl: Callable[..., int] | None = ctypes.PyDLL(None).prctl if sys.platform == "linux" else None


def tie(parent: int) -> None:
    """Have SIGKILL end this process when the thread that started it ends; called between fork and exec.

    ``parent`` is the process id of who starts it: it may be gone by now, and then no signal will come any more.
    """
    if _prctl is not None:
        _prctl(_SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def untie() -> None:
    """Leave this process to itself, and its end to its lifeline, now that it has something to tidy up.

    Called from its main thread, which alone is tied.
    """
    if _prctl is not None:
        _prctl(_SET_DEATH_SIGNAL, 0, 0, 0, 0)

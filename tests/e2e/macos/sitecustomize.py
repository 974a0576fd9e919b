"""Takes away from every process that finds this file first what Linux has and macOS has not."""

# ruff: noqa: E402
import select


def lose(module: object, *beginnings: str) -> None:
    for name in [name for name in vars(module) if name.startswith(beginnings)]:
        delattr(module, name)


lose(select, "epoll", "EPOLL")  # before anybody imports selectors

import builtins
import fcntl
import io
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

sys.platform = "darwin"
lose(os, "memfd_create", "MFD_", "sched_", "pidfd_open", "eventfd", "posix_fallocate", "posix_fadvise", "pipe2")
lose(os, "O_TMPFILE", "O_PATH", "copy_file_range", "getrandom", "splice", "setresuid", "getresuid")
lose(fcntl, "F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_", "F_OFD_", "F_SETPIPE_SZ", "F_GETPIPE_SZ", "F_SETSIG")
lose(socket, "SO_PEERCRED", "SO_PASSCRED", "SCM_CREDENTIALS", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "TCP_USER_TIMEOUT")
lose(signal, "sigtimedwait", "sigwaitinfo", "SIGRT", "SIGPWR", "SIGPOLL", "pidfd_send_signal")
lose(resource, "prlimit", "RUSAGE_THREAD")
lose(time, "CLOCK_BOOTTIME", "CLOCK_TAI")


def without_proc(call: Callable[..., Any]) -> Callable[..., Any]:
    def instead(path: Any = ".", *args: Any, **more: Any) -> Any:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        return call(path, *args, **more)

    return instead


for name in ("lstat", "listdir", "open", "readlink", "scandir", "stat"):
    setattr(os, name, without_proc(getattr(os, name)))
builtins.open = io.open = without_proc(io.open)

"""The process beside a run that serves its page: ``python -m ps.monitor.process``, told on its input what it needs.

It ends when its input does, which is when whoever started it has ended, however that came.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading

from ps.monitor.serving import serve, watcher_of


def main() -> None:
    """Serve until the input ends."""
    about = json.loads(sys.stdin.buffer.readline())

    def follow() -> None:
        sys.stdin.buffer.read()
        os._exit(0)  # whatever is being answered: nobody needs it any more

    threading.Thread(target=follow, daemon=True).start()
    with socket.socket(fileno=about["fd"]) as sock:
        serve(sock, watcher_of(about["scheduler"], about["keys"]), about["token"])


if __name__ == "__main__":
    main()

"""``python -m ps.worker`` is ``psctl worker``."""

import sys

from ps.cli import main

if __name__ == "__main__":
    sys.exit(main(["worker", *sys.argv[1:]]))

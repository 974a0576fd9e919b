"""``python -m ps.server`` is ``psctl server``."""

import sys

from ps.cli import main

if __name__ == "__main__":
    sys.exit(main(["server", *sys.argv[1:]]))

"""python -m ps.cli: the command psctl, where it is not on the path."""

import sys

from ps.cli import main

sys.exit(main())

"""Outfile: where figures are to be written, found out to be possible before an hour of measuring."""

from __future__ import annotations

import argparse
from pathlib import Path

from ps.errors import UsageError
from ps.whole import check_writable


def outfile(name: str) -> Path:
    """Return the path of a file that can be written, as a type for argparse; what is there stays until it is."""
    try:
        return check_writable(name, "the figures")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

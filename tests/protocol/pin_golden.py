"""Write golden.txt anew; to be run only when the protocol's version changes: python tests/protocol/pin_golden.py"""

from pathlib import Path

from ps.protocol.codec import encode
from support.samples import SAMPLES

lines = [f"{type(message).__name__} {encode(message).hex()}\n" for message in SAMPLES]
(Path(__file__).parent / "golden.txt").write_text("".join(lines))

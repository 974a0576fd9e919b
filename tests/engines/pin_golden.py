"""Write golden/ anew, to be looked at before it is kept: python tests/engines/pin_golden.py"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.rendered import goldens

folder = Path(__file__).parent / "golden"
shutil.rmtree(folder, ignore_errors=True)
for name, text in goldens().items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)

"""run_script: a training script in this process, as a worker."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from ps.config.process import ProcessConfig
from ps.errors import UsageError


def run_script(script: str, args: list[str], process: ProcessConfig) -> int:
    """Run a script as ``python script args`` would, with this process's settings in its environment.

    Returns 0, or the code it exits with; its exceptions come through. UsageError when there is no such script.
    """
    if not Path(script).is_file():
        raise UsageError(f"no script {script!r} here ({Path.cwd()})")
    os.environ.update(process.to_env())
    sys.argv = [script, *args]
    sys.path.insert(0, str(Path(script).resolve().parent))
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if not end.code:
            return 0
        sys.last_value = end
        if isinstance(end.code, int):
            return end.code
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.last_value = error  # as the interpreter does: a connection left open then knows why the script ended
        raise
    return 0

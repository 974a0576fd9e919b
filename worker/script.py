"""run_script: a training script in this process, as a worker."""

from __future__ import annotations

import os
import pkgutil
import runpy
import sys
import traceback
from pathlib import Path

from ps.config.process import ProcessConfig
from ps.script import Script


def run_script(script: Script, args: list[str], process: ProcessConfig) -> int:
    """Run a script as ``python script args`` would, with this process's settings in its environment.

    Returns 0, or the code it exits with; its exceptions come through. UsageError when there is no such script.
    """
    script.check()
    os.environ.update(process.to_env())
    _leave_our_folder()
    sys.argv = [script.name, *args]
    try:
        if script.is_module:
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(script.name, run_name="__main__", alter_sys=True)
        else:
            if pkgutil.get_importer(script.name) is None:  # else a folder or a zip, which runpy puts there itself
                sys.path.insert(0, str(Path(script.name).resolve().parent))
            runpy.run_path(script.name, run_name="__main__")
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


def _leave_our_folder() -> None:
    """Take from the path what python has put first on it, for the program that it was started with: ours."""
    ours = {"", str(Path.cwd()), str(Path(sys.argv[0]).resolve().parent)}
    if not sys.flags.safe_path and sys.path and sys.path[0] in ours:
        del sys.path[0]


def describe(error: BaseException | None) -> str:
    """Return what a script ended with, or nothing when that was no failure."""
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return ""
    return traceback.format_exception_only(error)[-1].strip()

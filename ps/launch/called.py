"""python -m ps.launch.called: what a worker of ``ps.run`` runs in the place of a script."""

from __future__ import annotations

import os
import traceback

from ps.launch.call import ReceivedCall


def main() -> None:
    """Call the function that was handed over; note what it returns on rank 0, and what it raises on any."""
    call = ReceivedCall()
    try:
        result = call.function(*call.args)
        if os.environ.get("PS_RANK") == "0":
            call.note_result(result)
    except Exception as error:
        trace = error.__traceback__
        assert trace is not None
        call.note_error(error, "".join(traceback.format_exception(error.with_traceback(trace.tb_next))))
        raise


if __name__ == "__main__":
    main()

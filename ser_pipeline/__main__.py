"""The command `ser-pipeline` or `python -m ser_pipeline`, which handles Ctrl-C before any slow import."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from types import FrameType

STOPPED = (129, 130, 143)
"""Exit status of a command that SIGHUP, SIGINT or SIGTERM stopped."""


def main() -> None:
    """Run the command; exit at once if it was stopped, since threads that still run would abort the process.

    Also exit at once if torch was imported: the destructors of its libraries take half a second and 150 MB.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    try:
        import_module("ser_pipeline.cli").main(prog_name="ser-pipeline")
    except SystemExit as end:
        if end.code in STOPPED:
            _leave(int(end.code))
        others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        if "torch" in sys.modules and isinstance(end.code, int) and all(thread.daemon for thread in others):
            atexit._run_exitfuncs()
            _leave(end.code)
        raise


def _leave(status: int) -> None:
    """End the process as it is, once all that was printed is written; return where it cannot be."""
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, b"\nStopped.\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()

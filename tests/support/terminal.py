"""Commands in a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

COLUMNS = 80
COMMAND = (sys.executable, "-m", "ser_pipeline")


def on_terminal(folder: Path, *args: object, columns: int = COLUMNS) -> tuple[int, list[str]]:
    """Run a command; returns its exit status, and every state of every line that its terminal showed.

    Args:
        folder: working folder.
        args: arguments of the command.
        columns: width of the terminal.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [*COMMAND, *map(str, args)], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65_536)
        except OSError:  # end of the terminal's output
            break
    os.close(ours)
    states = re.split(r"[\r\n]+", shown.decode("utf-8").replace("\x1b[A", ""))
    return process.wait(), [state.rstrip() for state in states if state.strip()]

"""Output of text to terminals and pipes of any encoding."""

from __future__ import annotations

import codecs
import io
import os
import sys

ESCAPED = "ser-pipeline-escaped"
"""Name of the error handler that writes `\\u00e9`, as JSON does, where an encoding has no é."""


def write_anything() -> None:
    """Let stdout and stderr write any text: UTF-8 to files and pipes, escapes for what a terminal cannot show.

    An encoding that the user set with PYTHONIOENCODING is kept.
    """
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            chosen = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(encoding=None if chosen else "utf-8", errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end

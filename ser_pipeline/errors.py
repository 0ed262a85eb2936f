"""The one exception that a user sees, and what it says where nothing can be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path


class PipelineError(Exception):
    """A mistake or fault that the user can mend: one line that says what is wrong and what to do."""

    def __str__(self) -> str:
        r"""The line, in which line breaks and other control characters of names and cells are escaped.

        >>> str(PipelineError("no column 'a\nb'"))
        "no column 'a\\nb'"
        """
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def is_full(error: BaseException) -> bool:
    """Whether `error` comes of a disk, quota or file-size limit that is reached.

    HDF5 and safetensors say so in words only, torch by the error that it met first.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if getattr(error, "errno", None) in full or any(os.strerror(code) in str(error) for code in full):
        return True
    return error.__context__ is not None and is_full(error.__context__)


def no_space(place: Path | str) -> str:
    """What is said where the disk of `place` is full."""
    return f"no space left on the disk of {place}; what is finished is kept: free some space and run again"


def unwritable(place: Path, error: OSError) -> str:
    """What is said where nothing can be written in the folder `place`."""
    return no_space(place) if is_full(error) else f"cannot write in {place}: {error.strerror}; choose another folder"

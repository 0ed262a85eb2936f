"""Which names, from a file or a user, may become part of a path."""

from __future__ import annotations

from typing import Annotated

from ser_pipeline.errors import PipelineError
from ser_pipeline.shape import Spelled

PARTIAL = ".partial"
"""How the name of an unfinished folder ends."""

KEPT = frozenset('/\\:*?"<>|')
"""Characters that separate folders, or that some file system keeps for itself."""

LONGEST = 150
"""Bytes of a name that leave room for a key and what is added while a file is written."""


def is_name(text: str) -> bool:
    """Whether a text names one file or folder, on any file system, and nothing above or below it.

    >>> is_name("März (1)"), is_name("../x"), is_name("a:b"), is_name("x.partial")
    (True, False, False, False)
    """
    if not text or text[0] in ". " or text[-1] in ". " or text.endswith(PARTIAL):
        return False
    return text.isprintable() and KEPT.isdisjoint(text)


FileName = Annotated[str, Spelled(is_name, "the name of a file or folder, without one above it")]
"""A name in a JSON file that becomes part of a path: what `is_name` lets pass."""


def path_name(name: str, what: str) -> str:
    """`name`, of which a file or folder is made, once it is shown to be the name of one.

    Every name that becomes part of a path passes here, or is read as a `FileName`: `../x` would lead elsewhere.

    Args:
        name: a corpus, protocol, ablation, fold or folder.
        what: says in the message what it names.

    Raises:
        PipelineError: it is no name of one file, or too long for a key after it.
    """
    if not is_name(name) or len(name.encode()) > LONGEST:
        raise PipelineError(f"{what} is named {name!r}, which no folder can be; use letters, digits, '-' and '_'")
    return name

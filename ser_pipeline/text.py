"""Formatting and parsing of text for messages, tables and pages."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def plural(number: int, noun: str) -> str:
    """Format a number with its noun.

    >>> plural(1, "seed"), plural(5531, "utterance"), plural(4, "class")
    ('1 seed', '5,531 utterances', '4 classes')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def capital(words: str) -> str:
    """The text with a capital first letter."""
    return words[:1].upper() + words[1:]


def percent(share: float, digits: int = 0) -> str:
    """Format a share in percent.

    >>> percent(0.654), percent(0.654, 1)
    ('65 %', '65.4 %')
    """
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit.

    >>> duration(41.2), duration(600), duration(3 * 3600 + 59), duration(400_000)
    ('41 s', '10 min', '3 h 0 min', '5 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds / 86_400:.0f} days"


def few(names: Sequence[str], most: int = 3, between: str = ", ") -> str:
    """List the first names, and the number of the others.

    Args:
        names: the names.
        most: largest number of names to list.
        between: separator of two names.

    >>> few(["a", "b", "c"]), few(["a", "b", "c", "d"], 2)
    ('a, b, c', 'a, b and 2 more')
    """
    more = len(names) - most
    return between.join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def alternatives(names: Sequence[str]) -> str:
    """List names with "or" before the last.

    >>> alternatives(["happy"]), alternatives(["happy", "neutral", "sad"])
    ('happy', 'happy, neutral or sad')
    """
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def lines(text: str) -> list[str]:
    r"""Split a text at `\n` only, and not at the other characters at which `str.splitlines` splits.

    >>> lines("one\u2028two\nthree\n")
    ['one\u2028two', 'three']
    """
    return text.removesuffix("\n").split("\n") if text else []


FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""Matches the beginning of a cell that a spreadsheet would evaluate as a formula."""


def guarded(cell: object) -> object:
    """Quote a cell of a CSV file that a spreadsheet would evaluate as a formula; numbers are not changed.

    >>> guarded("=1+1"), guarded("-0.5"), guarded("anger")
    ("'=1+1", '-0.5', 'anger')
    """
    if not isinstance(cell, str) or not FORMULA.match(cell):
        return cell
    with suppress(ValueError):
        parse_float(cell)
        return cell
    return "'" + cell


def unguarded(cell: str) -> str:
    """Undo `guarded`.

    >>> unguarded("'=1+1"), unguarded("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell) else cell


def natural(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key in which runs of digits count as numbers.

    >>> sorted(["10F", "9F", "9A"], key=natural)
    ['9A', '9F', '10F']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts]


def parse_float(text: str) -> float:
    """Parse a number from a table or a command line, without the underscores that `float` accepts.

    >>> parse_float(" 1e-4 ")
    0.0001

    Raises:
        ValueError: it is not a number, or has an underscore.
    """
    return float(_without_underscore(text))


def parse_int(text: str) -> int:
    """Parse a whole number from a table or a command line, without underscores.

    Raises:
        ValueError: it is not a whole number, or has an underscore.
    """
    return int(_without_underscore(text))


def _without_underscore(text: str) -> str:
    if "_" in text:
        raise ValueError(f"'{text}' is not a number")
    return text


def portable(value: Any) -> Any:
    """Replace paths of this machine in JSON values by the name of the folder or file.

    >>> portable({"encoder": "/home/me/encoders/whisper-tiny.en", "name": "openai/whisper-tiny.en"})
    {'encoder': 'whisper-tiny.en', 'name': 'openai/whisper-tiny.en'}
    """
    if isinstance(value, dict):
        return {key: portable(one) for key, one in value.items() if key != "_name_or_path"}
    if isinstance(value, list | tuple):
        return [portable(one) for one in value]
    if isinstance(value, str) and _is_path(value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def _is_path(text: str) -> bool:
    """Whether a text is a path on this machine, and not a name on the hub."""
    return bool(re.match(r"[/~.\\]|[A-Za-z]:[/\\]", text)) or ("/" in text and Path(text).exists())


def without_paths(text: str, roots: Iterable[str] = ()) -> str:
    """Replace paths of this machine in a text by their last part.

    Args:
        text: a sentence or a command.
        roots: known folders, which may contain spaces; paths in them become relative to them.

    >>> without_paths("encoder = /home/me/encoders/tiny (preset: openai/tiny)")
    'encoder = tiny (preset: openai/tiny)'
    >>> without_paths("cannot read /my runs/a/run.json", ["/my runs"])
    'cannot read a/run.json'
    """
    for root in sorted({root.rstrip("/\\") for root in roots} - {""}, key=len, reverse=True):
        text = re.sub(rf"(?<![\w./\\-]){re.escape(root)}(?:[/\\]+(?=[^\s/\\]))", "", text)
        text = re.sub(rf"(?<![\w./\\-]){re.escape(root)}(?![\w-])", portable(root).replace("\\", r"\\"), text)
    return re.sub(r"(?<![^\s'\"=(,;\[])(?:~|[A-Za-z]:)?[/\\](?:[^\s'\",;()]*[/\\])?(?=[^\s/\\])", "", text)

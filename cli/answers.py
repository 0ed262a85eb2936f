"""Writers of predictions: a table to read, and JSON, JSON lines or CSV, all rounded to the same digits."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from ser_pipeline.predict.answers import Answer, Unanswered
from ser_pipeline.text import guarded

DIGITS = 4
"""Decimals of probabilities and spreads in every format."""

SECONDS = 3
"""Decimals of times in seconds."""

UNSURE = "unsure"
"""The table's entry in place of an emotion where the model gives no answer."""

NARROWEST = 16
"""Minimum width of the column of file names on a terminal; columns that leave less room for it are dropped."""

SPARED = ("next", "spread", "end")
"""Columns that are dropped on a narrow terminal, in this order."""


class Writer(Protocol):
    """Writer of one output format."""

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one answer, or the reason why there is none."""

    def close(self) -> None:
        """Print the end of the output."""


def record(answer: Answer | Unanswered) -> dict[str, Any]:
    """Return an answer as a dictionary for JSON."""
    if isinstance(answer, Unanswered):
        return {"file": answer.file, "error": answer.error}
    return {
        "file": answer.file,
        "channel": answer.channel,
        "speaker": answer.speaker or None,
        "start": round(answer.start, SECONDS),
        "end": round(answer.end, SECONDS),
        "emotion": answer.emotion,
        "probability": round(answer.confidence, DIGITS) if answer.probabilities else None,
        "spread": None if answer.spread is None else round(answer.spread, DIGITS),
        "probabilities": {name: round(value, DIGITS) for name, value in answer.probabilities.items()},
        **{name: round(value, DIGITS) for name, value in answer.attributes.items()},
        "note": answer.note or None,
    }


@dataclass
class JsonWriter:
    """One JSON array."""

    out: TextIO
    begun: bool = False

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one element."""
        self.out.write((",\n" if self.begun else "[\n") + json.dumps(record(answer), ensure_ascii=False))
        self.begun = True

    def close(self) -> None:
        """End the array."""
        self.out.write("\n]\n" if self.begun else "[]\n")


@dataclass
class JsonLinesWriter:
    """One JSON object per line."""

    out: TextIO

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one line."""
        self.out.write(json.dumps(record(answer), ensure_ascii=False) + "\n")
        self.out.flush()

    def close(self) -> None:
        """Do nothing: a line ends itself."""


class CsvWriter:
    """A header and one line per answer."""

    def __init__(self, out: TextIO, labels: Sequence[str], attributes: Sequence[str] = ()) -> None:
        self._labels, self._attributes = labels, attributes
        self._lines = csv.writer(out, lineterminator="\n")
        scores = ["emotion", "probability", "spread", *(f"p:{label}" for label in labels), *attributes]
        self._lines.writerow(["file", "channel", "speaker", "start", "end", *scores, "note", "error"])

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one line."""
        if isinstance(answer, Unanswered):
            empty = [""] * (8 + len(self._labels) + len(self._attributes))
            self._lines.writerow(map(guarded, [answer.file, *empty, answer.error]))
            return
        place = [answer.file, answer.channel, answer.speaker, *map(_time, (answer.start, answer.end))]
        said = [answer.emotion, _share(answer.confidence if self._labels else None), _share(answer.spread)]
        shares = [_share(answer.probabilities[label]) for label in self._labels]
        shares += [_share(answer.attributes[name]) for name in self._attributes]
        self._lines.writerow(map(guarded, [*place, *said, *shares, answer.note, ""]))

    def close(self) -> None:
        """Do nothing: a line ends itself."""


class TableWriter:
    """Aligned columns, printed line by line and never wider than the terminal.

    On a narrow terminal only the two likeliest classes are shown. If that is still too wide, the beginnings of long
    names are cut, and notes are printed on lines of their own.
    """

    def __init__(
        self,
        out: TextIO,
        labels: Sequence[str],
        names: Sequence[str],
        shown: Mapping[str, bool],
        attributes: Sequence[str] = (),
    ) -> None:
        """Choose the columns; the header is printed with the first line, so that no progress bar comes between them.

        Args:
            out: the stream to write to.
            labels: names of the classes.
            names: names of the files, which set the width of their column.
            shown: which of channel, speaker, time, emotion and spread are shown.
            attributes: names of the predicted attributes, such as arousal.
        """
        self._out, self._labels = out, labels
        self._room = shutil.get_terminal_size().columns if out.isatty() else sys.maxsize
        hidden = {"channel": "channel", "speaker": "speaker", "start": "time", "end": "time", "spread": "spread"}
        hidden |= {"emotion": "emotion", "probability": "emotion"}
        longest = max(map(len, labels), default=0)
        widths = {"channel": 7, "speaker": 8, "start": 9, "end": 9}
        widths |= {"emotion": max(7, len(UNSURE), longest), "probability": 11, "spread": 6}
        widths = {name: width for name, width in widths.items() if shown.get(hidden.get(name, ""), True)}
        widths |= {name: max(len(name), 2 + DIGITS) for name in attributes}
        file = max([4, *map(len, names)])
        every = {f"p:{label}": max(len(label), 2 + DIGITS) for label in labels}
        wide = file + sum(2 + width for width in [*widths.values(), *every.values()]) <= self._room
        widths |= every if wide or not labels else {"next": longest + 3 + DIGITS}
        for name in SPARED:
            if self._left(widths) < min(file, NARROWEST):
                widths.pop(name, None)
        self._widths = {"file": max(1, min(file, self._left(widths))), **widths}
        self._begun = False

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one line; notes and errors that do not fit on it get lines of their own."""
        self._begin()
        if isinstance(answer, Unanswered):
            self._print({"file": answer.file}, f"error: {answer.error}")
            return
        second = sorted(answer.probabilities, key=lambda label: -answer.probabilities[label])[1:2]
        cells = {name: _share(value) for name, value in answer.attributes.items()} | {
            "file": answer.file,
            "channel": "" if answer.channel is None else str(answer.channel),
            "speaker": answer.speaker,
            "start": _time(answer.start),
            "end": _time(answer.end),
            "emotion": UNSURE if answer.emotion is None else answer.emotion,
            "probability": _share(answer.confidence if self._labels else None),
            "spread": _share(answer.spread),
            "next": "".join(f"{label} {_share(answer.probabilities[label])}" for label in second),
        }
        self._print(cells | {f"p:{label}": _share(share) for label, share in answer.probabilities.items()}, answer.note)

    def close(self) -> None:
        """Print the header if there was no answer."""
        self._begin()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._print({name: name.removeprefix("p:") for name in self._widths}, "note")

    def _left(self, widths: Mapping[str, int]) -> int:
        """Characters that columns of these widths leave for the file names."""
        return self._room - sum(2 + width for width in widths.values())

    def _print(self, cells: Mapping[str, str], note: str) -> None:
        """Print the cells that have a column, and a note after them."""
        texts = []
        for name, width in self._widths.items():
            if name in cells:
                text = cells[name] if len(cells[name]) <= width else f"…{cells[name][len(cells[name]) - width + 1 :]}"
                texts.append(text.ljust(width) if name in ("file", "speaker", "emotion", "next") else text.rjust(width))
        line = "  ".join(texts)
        if len(line) + 2 + len(note) <= self._room:
            line = f"{line}  {note}"
        elif cells["file"] != "file":
            folded = textwrap.wrap(note, self._room - 4, break_on_hyphens=False)
            line = "\n    ".join([line.rstrip(), *folded])
        self._out.write(line.rstrip() + "\n")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}f}"


def _time(seconds: float) -> str:
    return f"{seconds:.{SECONDS}f}"

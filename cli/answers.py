"""Answers as they are printed: a table to read, and JSON, JSON lines or CSV, all with the same digits."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from ser_pipeline.predict.answers import Answer, Unanswered
from ser_pipeline.text import guarded

DIGITS = 4
"""Decimals of probabilities and spreads in every format."""

SECONDS = 3
"""Decimals of times."""

UNSURE = "unsure"
"""What the table has in the place of an emotion where there is no answer."""

WIDEST = 48
"""The most characters of a file's name in a column of the table; longer names push the rest of their line."""


class Writer(Protocol):
    """One format of the answers."""

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one answer, or why there is none."""

    def close(self) -> None:
        """Print what ends the format."""


def record(answer: Answer | Unanswered) -> dict[str, Any]:
    """An answer as JSON has it."""
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
    """A JSON object a line."""

    out: TextIO

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one line."""
        self.out.write(json.dumps(record(answer), ensure_ascii=False) + "\n")
        self.out.flush()

    def close(self) -> None:
        """Do nothing: a line ends itself."""


class CsvWriter:
    """A header, and a line an answer."""

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
    """Aligned columns, printed as they come; where the terminal is too narrow, the two likeliest classes alone."""

    def __init__(
        self,
        out: TextIO,
        labels: Sequence[str],
        names: Sequence[str],
        shown: Mapping[str, bool],
        attributes: Sequence[str] = (),
    ) -> None:
        """Prints the header.

        Args:
            out: where to.
            labels: the classes.
            names: of the files, for the width of their column.
            shown: which of channel, speaker, time, emotion and spread there are.
            attributes: arousal and so on, where they are told.
        """
        self._out, self._labels = out, labels
        file = min(max([4, *map(len, names)]), WIDEST)
        columns = [("file", file), ("channel", 7), ("speaker", 8), ("start", 9), ("end", 9)]
        columns += [("emotion", max(7, len(UNSURE), *map(len, labels))), ("probability", 11), ("spread", 6)]
        hidden = {"channel": "channel", "speaker": "speaker", "start": "time", "end": "time", "spread": "spread"}
        hidden |= {"emotion": "emotion", "probability": "emotion"}
        columns = [(name, width) for name, width in columns if shown.get(hidden.get(name, ""), True)]
        columns += [(name, max(len(name), 2 + DIGITS)) for name in attributes]
        every = [(label, max(len(label), 2 + DIGITS)) for label in labels]
        room = shutil.get_terminal_size().columns if out.isatty() else sys.maxsize
        self._wide = sum(2 + width for _, width in [*columns, *every]) <= room
        self._columns = [*columns, *(every if self._wide else [("next", 0)])]
        self._line({name: name for name, _ in self._columns}, "note")

    def write(self, answer: Answer | Unanswered) -> None:
        """Print one line."""
        if isinstance(answer, Unanswered):
            self._out.write(f"{answer.file.ljust(self._columns[0][1])}  error: {answer.error}\n")
            return
        ranked = sorted(answer.probabilities, key=lambda label: -answer.probabilities[label])
        second = ranked[1] if len(ranked) > 1 else ""
        cells = {name: _share(value) for name, value in answer.attributes.items()} | {
            "file": answer.file,
            "channel": "" if answer.channel is None else str(answer.channel),
            "speaker": answer.speaker,
            "start": _time(answer.start),
            "end": _time(answer.end),
            "emotion": UNSURE if answer.emotion is None else answer.emotion,
            "probability": _share(answer.confidence),
            "spread": _share(answer.spread),
        }
        if self._wide:
            self._line(cells, answer.note, {label: _share(answer.probabilities[label]) for label in self._labels})
        else:
            self._line(
                cells | {"next": f"{second} {_share(answer.probabilities[second])}" if second else ""}, answer.note
            )

    def close(self) -> None:
        """Do nothing: a line ends itself."""

    def _line(self, cells: Mapping[str, str], note: str, shares: Mapping[str, str] | None = None) -> None:
        texts = []
        own = len(self._columns) - (len(self._labels) if self._wide else 1)
        for place, (name, width) in enumerate(self._columns):
            text = (shares if shares and place >= own else cells)[name]
            left = name in ("file", "speaker", "emotion", "next")
            texts.append(text.ljust(width) if left else text.rjust(width))
        self._out.write("  ".join([*texts, note]).rstrip() + "\n")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.{DIGITS}f}"


def _time(seconds: float) -> str:
    return f"{seconds:.{SECONDS}f}"

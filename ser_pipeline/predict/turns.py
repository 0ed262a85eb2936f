"""Speaker turns of a recording, from an RTTM file or a CSV table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ser_pipeline.errors import PipelineError
from ser_pipeline.text import parse_float

COLUMNS = ("start", "end", "speaker")
"""Required columns of a table of turns; `file` and `channel` are optional."""


@dataclass(frozen=True)
class SpeakerTurn:
    """A part of a recording in which one speaker speaks."""

    start: float  # seconds into the recording
    end: float  # seconds into the recording
    speaker: str
    file: str = ""  # name of the recording, with or without its suffix; "" for any
    channel: int | None = None  # counted from 1; None for any

    def of(self, name: str) -> bool:
        """Whether it belongs to the recording with the path `name`."""
        return self.file in ("", name, Path(name).name, Path(name).stem)


def read_turns(file: Path) -> tuple[SpeakerTurn, ...]:
    """Read turns from an RTTM file, whose name ends in `.rttm`, or from a CSV table with the header `COLUMNS`.

    RTTM is NIST's format. Its lines are `SPEAKER file channel start duration <NA> <NA> speaker …`; others are ignored.

    Raises:
        PipelineError: the file cannot be read, or a line is not a turn; the message names the line.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PipelineError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PipelineError(f"{file} is not UTF-8 text, so it contains no turns") from None
    lines = text.split("\n")
    turns = tuple(_of_rttm(lines, file) if file.suffix.lower() == ".rttm" else _of_table(text, file))
    if not turns:
        raise PipelineError(f"{file} contains no turns; use RTTM, or CSV with columns {', '.join(COLUMNS)}")
    return turns


def _of_rttm(lines: Iterable[str], file: Path) -> Iterator[SpeakerTurn]:
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words[:1] != ["SPEAKER"]:
            continue
        if len(words) < 8:
            raise PipelineError(f"line {number} of {file} has {len(words)} fields; a turn in RTTM has at least 8")
        start, length = _seconds(words[3], number, file), _seconds(words[4], number, file)
        channel = int(words[2]) if words[2].isdecimal() else None
        yield _turn(SpeakerTurn(start, start + length, words[7], words[1], channel), number, file)


def _of_table(text: str, file: Path) -> Iterator[SpeakerTurn]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise PipelineError(f"{file} has no column {', '.join(missing)}; a table of turns needs {', '.join(COLUMNS)}")
    for row in rows:
        start, end = (_seconds(row[name] or "", rows.line_num, file) for name in COLUMNS[:2])
        channel = row.get("channel") or ""
        number = int(channel) if channel.isdecimal() else None
        turn = SpeakerTurn(start, end, row["speaker"] or "", row.get("file") or "", number)
        yield _turn(turn, rows.line_num, file)


def _seconds(text: str, number: int, file: Path) -> float:
    try:
        seconds = parse_float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise PipelineError(f"line {number} of {file} has '{text}' instead of seconds")
    return seconds


def _turn(turn: SpeakerTurn, number: int, file: Path) -> SpeakerTurn:
    if turn.end <= turn.start:
        raise PipelineError(f"line {number} of {file} has a turn that ends at {turn.end:g} s, at or before its start")
    return turn

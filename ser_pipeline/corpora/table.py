"""A user's own corpus: one table that names the files.

Layout: a `.csv`, `.tsv` or `.jsonl` file with the columns `file`, `emotion` and `speaker`, and, where they are known,
`id`, `session`, `dialogue`, `script`, `split` (train, validation, test), `start` and `end` (seconds), `language`.
Paths are relative to the table. Every label is a class, in alphabetical order, unless `--classes` says otherwise.
Other columns are ignored.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path

from ser_pipeline.corpora.corpus import Corpus, Utterance
from ser_pipeline.corpora.layout import broken, lines
from ser_pipeline.corpora.layout import table as rows_of
from ser_pipeline.errors import PipelineError

REQUIRED = ("file", "emotion", "speaker")
COLUMNS = tuple(field.name for field in fields(Utterance))
SPLITS = {
    "": "",
    "train": "train",
    "test": "test",
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
SUFFIXES = (".csv", ".tsv", ".jsonl")

log = logging.getLogger(__name__)


def read(root: Path) -> Iterator[Utterance]:
    """Every row of the table `root`."""
    seen: dict[str, int] = {}
    for line, utterance in _numbered(root):
        first = seen.setdefault(utterance.id, line)
        if first != line:
            raise broken(root, line, f"{utterance.id} is already in line {first}")
        yield utterance


def line_of(root: Path, utterance: Utterance) -> int:
    """The line of the table that an utterance comes from."""
    return next(line for line, other in _numbered(root) if other.file == utterance.file and other.id == utterance.id)


def write(utterances: Iterable[Utterance], prefix: str = "") -> str:
    """The CSV table of `utterances`, `prefix` before their files, without columns that are empty in all of them."""
    rows = [
        {name: _text(getattr(utterance, name)) for name in COLUMNS} | {"file": prefix + utterance.file}
        for utterance in utterances
    ]
    used = [name for name in ("file", *COLUMNS) if name in REQUIRED or any(row[name] for row in rows)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(used)), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _numbered(root: Path) -> Iterator[tuple[int, Utterance]]:
    if not root.is_file():
        raise PipelineError(f"{root} is a folder; name the table itself, {TABLE.layout}")
    if root.suffix.lower() not in SUFFIXES:
        raise PipelineError(f"{root} is no table; its name must end in {', '.join(SUFFIXES)}")
    rows = _objects(root) if root.suffix.lower() == ".jsonl" else rows_of(root, REQUIRED)
    told: set[str] = set()
    line = 0
    for line, row in rows:
        _tell_others(root, line, row, told)
        yield line, _utterance(root, line, row)
    if not line:
        raise PipelineError(f"{root} has no rows")


def _objects(root: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    for line, text in enumerate(lines(root), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise broken(root, line, f"not JSON ({error})") from None
        if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
            raise broken(root, line, "not a flat JSON object")
        missing = [name for name in REQUIRED if name not in row]
        if missing:
            raise broken(root, line, f"no {', '.join(missing)}")
        yield line, {name: _text(value).strip() for name, value in row.items()}


def _tell_others(root: Path, line: int, row: Mapping[str, str], told: set[str]) -> None:
    """Refuse a column that is nearly one of ours, and say once that another is ignored."""
    for name in row.keys() - told - set(COLUMNS):
        near = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.75)
        if near:
            raise PipelineError(f"{root}, line {line}: unknown column '{name}'; did you mean {near[0]}?")
        log.info("%s: the column '%s' is ignored", root, name)
        told.add(name)


def _utterance(root: Path, line: int, row: Mapping[str, str]) -> Utterance:
    empty = [name for name in REQUIRED if not row[name]]
    if empty:
        raise broken(root, line, f"no {', '.join(empty)}")
    if row.get("split", "").lower() not in SPLITS:
        raise broken(root, line, f"split '{row['split']}' is not train, validation or test")
    start, end = (_seconds(root, line, name, row.get(name, "")) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise broken(root, line, f"end {end} is not after start {start or 0.0}")
    stretch = "" if start is None and end is None else f"@{row.get('start', '')}-{row.get('end', '')}"
    return Utterance(
        id=row.get("id") or row["file"].rpartition(".")[0] + stretch,
        file=row["file"],
        emotion=row["emotion"],
        speaker=row["speaker"],
        session=row.get("session", ""),
        dialogue=row.get("dialogue", ""),
        script=row.get("script", ""),
        split=SPLITS[row.get("split", "").lower()],
        language=row.get("language", ""),
        start=start,
        end=end,
    )


def _seconds(root: Path, line: int, name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise broken(root, line, f"{name} '{text}' is not a number of seconds")
    return value


def _text(value: object) -> str:
    return "" if value is None else str(value)


TABLE = Corpus(
    name="table",
    title="your own table",
    read=read,
    classes={},
    layout="a .csv, .tsv or .jsonl with the columns file, emotion, speaker (and session, dialogue, script, split, ...)",
    source="you; `ser-pipeline corpora --init CORPUS ROOT > my.csv` writes one",
    licence="yours",
)

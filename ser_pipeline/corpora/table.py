"""A user's own corpus: one table that names the files.

Layout: a `.csv`, `.tsv` or `.jsonl` file with the columns `file`, `emotion` and `speaker`, and optionally `id`,
`session`, `dialogue`, `script`, `split` (train, validation, test), `start` and `end` (seconds), `language`, and the
speaker's `gender` and `age` (years).
Votes of raters are in `votes:LABEL` (how many chose the label; `votes:` alone: how many chose none), and attributes in
`arousal`, `valence` and `dominance` with the ends of their scale, `scale_low` and `scale_high`. A rated row may have no
`emotion`, and then belongs to no class.
Common synonyms of column names are accepted (`path`, `label`, `speaker_id`), and the choices are reported.
Paths are relative to the table. Every label is a class, in alphabetical order, unless `--classes` says otherwise.
Other columns are ignored.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from ser_pipeline.corpora.corpus import RATED, Corpus, Utterance, gender_of
from ser_pipeline.corpora.folder import part
from ser_pipeline.corpora.layout import age_in, broken, lines
from ser_pipeline.corpora.layout import table as rows_of
from ser_pipeline.corpora.matching import tell_near
from ser_pipeline.corpora.ratings import DIMENSIONS, Vad, Votes
from ser_pipeline.corpora.sheets import require_text
from ser_pipeline.errors import PipelineError
from ser_pipeline.names import closest
from ser_pipeline.text import guarded, parse_float, unguarded

REQUIRED = ("file", "emotion", "speaker")
VOTES = "votes:"
"""Prefix of the columns of votes; the label follows."""

SCALE = ("scale_low", "scale_high")
KEPT = tuple(field.name for field in fields(Utterance) if field.name not in ("corpus", *RATED))
COLUMNS = (*KEPT, *DIMENSIONS, *SCALE)
SPLITS = {
    "": "",
    "train": "train",
    "test": "test",
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
}
SYNONYMS = {
    "file": ("path", "filename", "filepath", "audio", "audiopath", "audiofile", "wav", "wavfile", "wavpath", "clip"),
    "emotion": ("label", "emotionlabel", "emo", "class", "category", "target", "emotionclass"),
    "speaker": ("speakerid", "spk", "spkid", "spkrid", "actor", "actorid", "subject", "subjectid", "participant"),
    "id": ("utteranceid", "uttid", "utt"),
    "session": ("sessionid",),
    "dialogue": ("dialog", "dialogueid", "dialogid", "conversation", "conversationid", "call", "callid"),
    "script": ("text", "sentence", "transcript", "transcription"),
    "split": ("partition", "subset", "splitset"),
    "start": ("starttime", "begin", "onset"),
    "end": ("endtime", "stop", "offset"),
    "language": ("lang",),
}
"""Our column -> its synonyms, as lower-case letters only; the first that occurs is used."""

SUFFIXES = (".csv", ".tsv", ".jsonl")

log = logging.getLogger(__name__)


def read(root: Path) -> Iterator[Utterance]:
    """Every row of the table `root`."""
    rows = list(_numbered(root))
    seen: dict[str, int] = {}
    for line, utterance in rows:
        first = seen.setdefault(utterance.id, line)
        if first != line:
            raise broken(root, line, f"{utterance.id} is already in line {first}")
    utterances = [utterance for _, utterance in rows]
    tell_near(root, utterances)
    yield from utterances


def by_paths(root: Path, emotion: str = "", speaker: str = "") -> list[Utterance]:
    """The rows of a table without an emotion or speaker column, which are read from the paths of its files.

    Args:
        root: the table.
        emotion: which part of a path is the emotion, see `folder.PATTERNS`; "" reads its column.
        speaker: which part is the speaker; "" reads its column.

    Raises:
        PipelineError: as in `rows_in`; or a path lacks such a part.
    """
    finders = {name: part(pattern) for name, pattern in (("emotion", emotion), ("speaker", speaker)) if pattern}
    rows = [
        (line, {**row, **{name: find(row["file"]) for name, find in finders.items()}})
        for line, row in rows_in(root, [name for name in REQUIRED if name not in finders])
    ]
    common = _common(row["file"] for _, row in rows)
    return [_utterance(root, line, row, common) for line, row in rows]


def line_of(root: Path, utterance: Utterance) -> int:
    """The line of the table that contains an utterance."""
    return next(line for line, other in _numbered(root) if other.file == utterance.file and other.id == utterance.id)


def write(utterances: Iterable[Utterance], prefix: str = "") -> str:
    """Format utterances as a CSV table, with `prefix` before their files; columns that are always empty are omitted."""
    utterances = list(utterances)
    labels = sorted({label for one in utterances for label, _ in one.votes})
    rows = [
        {name: guarded(_text(getattr(one, name))) for name in KEPT} | {"file": guarded(prefix + one.file)} | _rated(one)
        for one in utterances
    ]
    columns = ("file", *COLUMNS, *(VOTES + label for label in labels))
    used = [name for name in columns if name in REQUIRED or any(row.get(name) for row in rows)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(used)), "", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _rated(one: Utterance) -> dict[str, str]:
    """The ratings of an utterance, by column."""
    found = {VOTES + label: f"{weight:.12g}" for label, weight in one.votes}
    if one.vad:
        values = zip((*DIMENSIONS, *SCALE), (*one.vad.values, *one.vad.scale), strict=True)
        found |= {name: f"{value:.12g}" for name, value in values}
    return found


def _numbered(root: Path) -> Iterator[tuple[int, Utterance]]:
    rows = list(rows_in(root, REQUIRED))
    if not rows:
        raise PipelineError(f"{root} has no rows; write one for each recording")
    common = _common(row["file"] for _, row in rows)
    for line, row in rows:
        yield line, _utterance(root, line, row, common)


def rows_in(root: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows of the table `root`: (line number, column -> text), with our names for its columns.

    Args:
        root: a `.csv`, `.tsv` or `.jsonl`.
        columns: required columns.

    Raises:
        PipelineError: a column is missing or repeated, or a row is broken; names the file and the line.
    """
    if not root.is_file():
        kind = "a folder" if root.is_dir() else "not a file"
        raise PipelineError(f"{root} is {kind}; name the table itself, {TABLE.layout}")
    if root.suffix.lower() not in SUFFIXES:
        raise PipelineError(f"{root} is not a table; its name must end in {', '.join(SUFFIXES)}")
    names = _Names(root)
    rows = _objects(root, columns, names) if root.suffix.lower() == ".jsonl" else rows_of(root, columns, names.ours)
    for line, row in rows:
        row = {name: unguarded(text) for name, text in row.items()}
        names.tell_others(line, row)
        require_text(root, line, row, COLUMNS)
        yield line, row


def _objects(root: Path, columns: Sequence[str], names: _Names) -> Iterator[tuple[int, Mapping[str, str]]]:
    for line, text in enumerate(lines(root), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise broken(root, line, f"not JSON ({error})") from None
        if not isinstance(row, dict) or any(isinstance(value, dict | list) for value in row.values()):
            raise broken(root, line, "not a flat JSON object")
        row = dict(zip(names.ours(list(row)), row.values(), strict=True))
        missing = [name for name in columns if name not in row]
        if missing:
            raise broken(root, line, f"no {', '.join(missing)}")
        yield line, {name: _text(value).strip() for name, value in row.items()}


class _Names:
    """Our names for the columns of a table; each choice is logged once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._told: set[str] = set()

    def ours(self, names: Sequence[str]) -> Sequence[str]:
        """Column names with synonyms replaced, unless our own name also occurs."""
        known = {name: name for name in names if name in COLUMNS}
        for column, synonyms in SYNONYMS.items():
            plain = {_plain(name): name for name in reversed(names) if name not in known}
            found = next((plain[synonym] for synonym in (column, *synonyms) if synonym in plain), None)
            if found is not None and column not in known.values():
                known[found] = column
                self._tell(f"using `{found}` as {column}")
        return [known.get(name, name) for name in names]

    def tell_others(self, line: int, row: Mapping[str, str]) -> None:
        """Refuse a column whose name is nearly one of ours, and log once that another is ignored."""
        for name in row.keys() - self._told - set(COLUMNS):
            if name.startswith(VOTES):
                continue
            near = closest(name, COLUMNS)
            if near and near not in row:
                raise PipelineError(f"{self._root}, line {line}: unknown column '{name}'; did you mean '{near}'?")
            self._tell(f"the column '{name}' is ignored")
            self._told.add(name)

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            log.info("%s: %s", self._root, what)


def _plain(name: str) -> str:
    """A column's name without differences that programs introduce.

    >>> _plain("Speaker ID")
    'speakerid'
    """
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _common(files: Iterable[str]) -> str:
    """The common folder, with a slash, of all paths outside the table's folder; ids omit it."""
    outside = [file for file in files if file.startswith(("/", "../"))]
    return os.path.commonpath([file.rpartition("/")[0] for file in outside]) + "/" if outside else ""


def _utterance(root: Path, line: int, row: Mapping[str, str], common: str) -> Utterance:
    votes, vad = _votes(root, line, row), _vad(root, line, row)
    empty = [name for name in REQUIRED if not row[name] and not (name == "emotion" and (votes or vad))]
    if empty:
        raise broken(root, line, f"no {', '.join(empty)}")
    if row.get("split", "").lower() not in SPLITS:
        raise broken(root, line, f"split '{row['split']}' is not train, validation or test")
    start, end = (_seconds(root, line, name, row.get(name, "")) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise broken(root, line, f"end {end} is not after start {start or 0.0}")
    stretch = "" if start is None and end is None else f"@{row.get('start', '')}-{row.get('end', '')}"
    return Utterance(
        id=row.get("id") or _stem(row["file"].removeprefix(common)) + stretch,
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
        gender=gender_of(row.get("gender", "")),
        age=age_in(root, line, row.get("age", "")),
        votes=votes,
        vad=vad,
    )


def _votes(root: Path, line: int, row: Mapping[str, str]) -> Votes:
    """The votes of a row, without labels that nobody chose."""
    given = [(name.removeprefix(VOTES), text) for name, text in row.items() if name.startswith(VOTES) and text]
    votes = [(label, _rating(root, line, VOTES + label, text)) for label, text in given]
    if negative := [label for label, weight in votes if weight < 0]:
        raise broken(root, line, f"{VOTES}{negative[0]} is below 0")
    return tuple((label, weight) for label, weight in votes if weight)


def _vad(root: Path, line: int, row: Mapping[str, str]) -> Vad | None:
    """Arousal, valence and dominance of a row with the ends of their scale; None if it has none of them."""
    if not any(row.get(name) for name in DIMENSIONS):
        return None
    names = (*DIMENSIONS, *SCALE)
    if missing := [name for name in names if not row.get(name)]:
        raise broken(root, line, f"no {', '.join(missing)}, required with {', '.join(DIMENSIONS)}")
    arousal, valence, dominance, low, high = (_rating(root, line, name, row[name]) for name in names)
    if low >= high:
        raise broken(root, line, f"scale_low {low:g} is not below scale_high {high:g}")
    return Vad((arousal, valence, dominance), (low, high))


def _rating(root: Path, line: int, name: str, text: str) -> float:
    """A finite number in the column `name`."""
    try:
        value = parse_float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise broken(root, line, f"{name} '{text}' is not a number")
    return value


def _stem(file: str) -> str:
    """A path without its suffix, with forward slashes."""
    folder, slash, name = file.replace("\\", "/").rpartition("/")
    return folder + slash + (name.rpartition(".")[0] or name)


def _seconds(root: Path, line: int, name: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = parse_float(text)
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

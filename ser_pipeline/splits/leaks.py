"""Find leaks from training to test in the labels and the folds alone, without decoding audio."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.findings import Finding, ordered
from ser_pipeline.splits.folds import Fold
from ser_pipeline.splits.protocols import Columns
from ser_pipeline.text import alternatives, few, natural, plural

if TYPE_CHECKING:
    from ser_pipeline.cache.manifest import Manifest


def leaks(data: Manifest | Sequence[Utterance], folds: Sequence[Fold] = ()) -> list[Finding]:
    """Leaks of `folds` and of the columns that they are based on; errors first.

    The keys of a manifest also reveal equal audio. Sharing is only a warning in the fold of `official-shared`, which
    the user requests by name.
    """
    utterances = tuple(data) if isinstance(data, Sequence) else data.utterances
    columns = Columns(utterances)
    keys = () if isinstance(data, Sequence) else data.keys
    return ordered(
        [
            *_speaker_from_dialogue(utterances),
            *_shared(columns, folds, "speaker", ("train", "validation"), "test"),
            *_shared(columns, folds, "dialogue", ("train",), "validation"),
            *_shared(columns, folds, "dialogue", ("train",), "test"),
            *_scripts(columns, folds),
            *_classes(columns, folds),
            *_selection(folds),
            *same_audio(utterances, keys, folds),
        ]
    )


LETTERS = ({"F", "M"}, {"A", "B"})
"""Letters that distinguish the two speakers of a dialogue in the names of its turns."""

_TURN = re.compile(r"(.+)[_-]([FMAB])[A-Z]*\d+")


def _speaker_from_dialogue(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    """Find speakers that are the same for both sides of a dialogue: the file's prefix instead of the turn's letter."""
    letters: dict[str, dict[str, list[Utterance]]] = defaultdict(lambda: defaultdict(list))
    for utterance in utterances:
        match = _TURN.fullmatch(re.split(r"[/\\]", utterance.file)[-1].rpartition(".")[0])
        if match:
            letters[match[1]][match[2]].append(utterance)
    both = [turns for turns in letters.values() if any(pair <= turns.keys() for pair in LETTERS)]
    wrong = [turns for turns in both if len({one.speaker for side in turns.values() for one in side}) == 1]
    if len(wrong) > 1 and len(wrong) * 2 >= len(both):
        fewer = [one.id for turns in wrong for side in list(turns.values())[1:] for one in side]
        yield Finding(
            "error",
            "speaker-from-dialogue",
            f"{len(wrong)} of {len(both)} dialogues have one speaker for both letters of their turns (such as "
            f"{wrong[0][min(wrong[0])][0].id}): the column is the file's prefix, not the turn's own letter",
            "about half of a held-out speaker's turns are spoken by someone in training; results read high",
            tuple(fewer),
        )
        return
    yield from _speaker_is_prefix(utterances)


def _speaker_is_prefix(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    speakers: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.dialogue:
            speakers[utterance.dialogue].add(utterance.speaker)
    prefix = [
        one for one, names in speakers.items() if len(names) == 1 and one.startswith(min(names)) and one not in names
    ]
    if len(prefix) > 1 and len(prefix) == len(speakers) and len({min(names) for names in speakers.values()}) > 1:
        yield Finding(
            "warning",
            "speaker-from-dialogue",
            f"every dialogue has one speaker, whose name is the dialogue's prefix (such as {prefix[0]})",
            "if two people talk in a dialogue, half of a held-out speaker's turns are spoken by someone in training",
        )


SHARING = {
    ("speaker", "test"): (
        "speaker-in-two-parts",
        "error",
        "the model was trained on the test speaker; results read high",
    ),
    ("dialogue", "validation"): (
        "dialogue-split",
        "error",
        "the epoch is chosen on recordings that share room, partner and topic with training",
    ),
    ("dialogue", "test"): (
        "dialogue-shared",
        "warning",
        "test recordings share room, partner and topic with training; results may read high",
    ),
}
"""(column, part) -> name, severity and consequence of sharing values of the column with that part."""


def _shared(
    columns: Columns, folds: Sequence[Fold], column: str, parts: Sequence[str], other: str
) -> Iterator[Finding]:
    name, severity, cost = SHARING[column, other]
    for fold in folds:
        chosen_on_test = np.array_equal(fold.validation, fold.test)
        for part in parts:
            if chosen_on_test and "validation" in (part, other):
                continue
            shared = columns.shared(column, getattr(fold, part), getattr(fold, other))
            if shared:
                names, codes = columns.codes(column)
                rows = [row for row in getattr(fold, other).tolist() if names[codes[row]] in shared]
                yield Finding(
                    "warning" if fold.shared else severity,
                    name,
                    f"fold {fold.name}: {plural(len(shared), column)} ({few(shared)}) in {part} and in {other}",
                    cost,
                    tuple(columns.utterances[row].id for row in rows),
                )


def _scripts(columns: Columns, folds: Sequence[Fold]) -> Iterator[Finding]:
    shared = [columns.shared("script", fold.train, fold.test) for fold in folds]
    several = [scripts for scripts in shared if scripts]
    if several:
        every = sorted(set(several[0]).intersection(*several), key=natural)
        union = set().union(*several)
        what = "sentences or scripts are" if len(union) > 1 else "sentence or script is"
        if len(every) == len(union):
            text = f"the same {len(union)} {what}" if len(union) > 1 else f"the same {what}"
        else:
            text = f"{len(union)} of {len(columns.codes('script')[0])} {what}"
        yield Finding(
            "note",
            "text-dependent",
            f"{text} in train and in test of {len(several)} of {len(folds)} folds ({few(sorted(union, key=natural))})",
            "results hold for known texts; a new text may be harder",
        )


def _classes(columns: Columns, folds: Sequence[Fold]) -> Iterator[Finding]:
    labels, codes = columns.codes("emotion")
    for fold in folds:
        untrained = [label for code, label in enumerate(labels) if code not in codes[fold.train]]
        if untrained:
            yield Finding(
                "error",
                "class-untrained",
                f"fold {fold.name}: no {alternatives(untrained)} in train",
                "the model cannot learn the class, and its recall is 0",
            )


def _selection(folds: Sequence[Fold]) -> Iterator[Finding]:
    chosen = [fold.name for fold in folds if np.array_equal(fold.validation, fold.test)]
    if chosen:
        yield Finding(
            "warning",
            "selected-on-test",
            f"the epoch is chosen on the test rows in {len(chosen)} of {len(folds)} folds, by request",
            "results read high",
        )


def same_audio(utterances: Sequence[Utterance], keys: Sequence[str], folds: Sequence[Fold]) -> Iterator[Finding]:
    """Utterances with equal keys, except ""; an error if two speakers or two parts of a fold share one.

    Args:
        utterances: utterances of the corpus.
        keys: hash of each utterance's sound.
        folds: folds whose parts must not share a sound.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        if key:
            groups[key].append(row)
    for name, severity, cost, copies in by_kind(utterances, [rows for rows in groups.values() if len(rows) > 1], folds):
        yield _copies(utterances, name, severity, cost, copies)


def by_kind(
    utterances: Sequence[Utterance], groups: Sequence[list[int]], folds: Sequence[Fold]
) -> Iterator[tuple[str, str, str, list[list[int]]]]:
    """Groups of rows with the same sound, by their kind: name, severity, consequence and the groups of each kind.

    The severity is at most a warning if the user requested folds that share speakers.

    Args:
        utterances: utterances of the corpus.
        groups: rows with the same sound.
        folds: folds whose parts must not share a sound.
    """
    side: Mapping[str, list[int]] = {fold.name: _sides(fold, len(utterances)) for fold in folds}
    kinds: dict[str, list[list[int]]] = defaultdict(list)
    for rows in groups:
        kinds[_kind(utterances, rows, side)].append(rows)
    by_request = bool(folds) and all(fold.shared for fold in folds)
    for name, severity, cost in SAME:
        if kinds[name]:
            yield name, "warning" if by_request else severity, cost, kinds[name]


def other_labels(utterances: Sequence[Utterance], groups: Sequence[list[int]]) -> str:
    """How many of the groups have several labels, as the end of a message."""
    several = sum(len({utterances[row].emotion for row in rows}) > 1 for rows in groups)
    return f"; {several} with different labels" if several else ""


SAME = (
    ("copy-across-speakers", "error", "one of the speakers is wrong, and a held-out speaker's audio is in training"),
    ("copy-across-folds", "error", "test audio is in training"),
    ("copy", "warning", "the utterance counts more than once"),
)


def _sides(fold: Fold, count: int) -> list[int]:
    side = np.zeros(count, np.int64)
    side[fold.train] = 1
    side[fold.validation] = 1
    side[fold.test] = 2
    return side.tolist()


def _kind(utterances: Sequence[Utterance], rows: Sequence[int], sides: Mapping[str, list[int]]) -> str:
    if len({utterances[row].speaker for row in rows}) > 1:
        return "copy-across-speakers"
    crossed = any({1, 2} <= {side[row] for row in rows} for side in sides.values())
    return "copy-across-folds" if crossed else "copy"


def _copies(utterances: Sequence[Utterance], name: str, severity: str, cost: str, groups: list[list[int]]) -> Finding:
    ids = [[utterances[row].id for row in rows] for rows in groups]
    first = " = ".join(ids[0][:3])
    many = f"{plural(len(groups), 'recording')} {'occurs' if len(groups) == 1 else 'occur'} more than once"
    return Finding(
        severity,
        name,
        f"{many} (such as {first}){other_labels(utterances, groups)}",
        cost,
        tuple(one for group in ids for one in group),
    )

"""Match names that differ only in form: of files from another system, of inconsistently typed labels and speakers."""

from __future__ import annotations

import logging
import os
import shlex
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.text import few, plural

log = logging.getLogger(__name__)


def plain(name: str) -> str:
    r"""Normalise a name: composed characters, one case, no surrounding blanks.

    >>> plain("Ma\u0308x ") == plain("MÄX")
    True
    """
    return unicodedata.normalize("NFKC", " ".join(name.split())).casefold()


def near_names(names: Iterable[str]) -> Iterator[list[str]]:
    """Groups of different names that are equal when normalised, the most frequent name first."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        groups[plain(name)][name] += 1
    for group in groups.values():
        if len(group) > 1:
            yield [name for name, _ in group.most_common()]


def tell_near(place: Path, utterances: Sequence[Utterance]) -> None:
    """Warn if labels or speakers of a corpus differ only in case, blanks or the form of accents."""
    for group in near_names(one.emotion for one in utterances):
        listed = " and ".join(f"'{name}'" for name in group)
        classes = shlex.quote(f"{group[0]}={'+'.join(group)},...")
        merge = f"--classes {classes} merges them, or make them equal in the table"
        log.warning(
            "%s: the labels %s are nearly equal but count as %s; %s", place, listed, plural(len(group), "class"), merge
        )
    for group in near_names(one.speaker for one in utterances):
        listed = " and ".join(f"'{name}'" for name in group)
        what = "one of them could train while another tests; make them equal in the table"
        log.warning("%s: the speakers %s are nearly equal but count as %d; %s", place, listed, len(group), what)


def found_again(utterances: Sequence[Utterance], missing: Sequence[Utterance], folder: Path) -> list[Utterance]:
    """The utterances, with missing files replaced by files whose names differ only in form.

    Names may differ in slashes, case or normal form, or lack their suffix, if exactly one file matches. Other missing
    files stay as they are.

    Args:
        utterances: all utterances.
        missing: those whose file is missing.
        folder: folder that their files are relative to.
    """
    names = _Names(folder)
    found = {one.file: names.find(one.file) for one in missing}
    there = {file: actual for file, actual in found.items() if actual}
    if not there:
        return list(utterances)
    first = next(iter(there.items()))
    log.info(
        "%s found under a name that differs in case, slashes or form: %s is %s",
        plural(len(there), "file"),
        *map(repr, first),
    )
    return [replace(one, file=there.get(one.file, one.file)) for one in utterances]


class _Names:
    """The contents of folders, by normalised name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, file: str) -> str:
        """The path on disk of `file`; "" if there is none, or more than one."""
        place = ""
        parts = file.replace("\\", "/").split("/")
        for number, part in enumerate(parts):
            if part in ("", ".", ".."):
                place = f"{place}{part}/"
                continue
            known = self._names(place)
            matches = known.get(plain(part), [])
            if not matches and number == len(parts) - 1:
                matches = known.get(plain(part) + "\0", [])
            if part not in matches and len(matches) != 1:
                return ""
            place += (part if part in matches else matches[0]) + "/"
        return place.removesuffix("/")

    def _names(self, place: str) -> dict[str, list[str]]:
        """Normalised name -> names in the folder `place`; names without suffix are marked with a trailing NUL."""
        if place not in self._listed:
            names: dict[str, list[str]] = defaultdict(list)
            with suppress(OSError), os.scandir(self._folder / place) as entries:
                for entry in entries:
                    names[plain(entry.name)].append(entry.name)
                    names[plain(entry.name.rpartition(".")[0]) + "\0"].append(entry.name)
            self._listed[place] = names
        return self._listed[place]


def require_text(utterances: Iterable[Utterance]) -> str:
    """Describe the first file name that is not UTF-8, or return ""."""
    odd = [one.file for one in utterances if any("\ud800" <= letter <= "\udfff" for letter in one.file)]
    if not odd:
        return ""
    shown = few([os.fsencode(name).decode("utf-8", "backslashreplace") for name in odd], 1)
    return f"the name of {shown} is not UTF-8; rename it, as `convmv -f latin1 -t utf8 -r --notest FOLDER` does"

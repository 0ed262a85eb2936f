"""The corpora: one file for each, and one row here.

`read_corpus` reads any of them: it finds the reader, applies the classes, and checks the utterances.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ser_pipeline.corpora import table
from ser_pipeline.corpora.classes import found_classes
from ser_pipeline.corpora.copies import read_once
from ser_pipeline.corpora.corpus import Classes, Corpus, Utterance, choose
from ser_pipeline.corpora.cremad import CREMAD, CREMAD_INTENDED
from ser_pipeline.corpora.emodb import EMODB
from ser_pipeline.corpora.emotale import EMOTALE
from ser_pipeline.corpora.esd import ESD
from ser_pipeline.corpora.folder import FOLDER
from ser_pipeline.corpora.iemocap import DEMO, IEMOCAP
from ser_pipeline.corpora.layout import missing_audio
from ser_pipeline.corpora.matching import found_again, require_text
from ser_pipeline.corpora.meld import MELD
from ser_pipeline.corpora.msp_podcast import MSP_PODCAST
from ser_pipeline.corpora.nemo import NEMO
from ser_pipeline.corpora.ravdess import RAVDESS
from ser_pipeline.corpora.savee import SAVEE
from ser_pipeline.corpora.table import TABLE
from ser_pipeline.corpora.tess import TESS
from ser_pipeline.corpora.urdu import URDU
from ser_pipeline.errors import PipelineError
from ser_pipeline.names import closest, unknown

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        IEMOCAP,
        EMODB,
        RAVDESS,
        CREMAD,
        CREMAD_INTENDED,
        TESS,
        SAVEE,
        NEMO,
        EMOTALE,
        URDU,
        MELD,
        MSP_PODCAST,
        ESD,
        TABLE,
        FOLDER,
        DEMO,
    )
}


def find_corpus(name: str, command: str = "features") -> Corpus:
    """The corpus with that name.

    Args:
        name: a row of `CORPORA`.
        command: the command that the user gave, for the message.

    Raises:
        PipelineError: there is no such corpus; lists all, and says how the user's own corpus is read.
    """
    if name in CORPORA:
        return CORPORA[name]
    own = f"your own corpus is read with: {reading(command, name)}"
    if _is_own(name):
        raise PipelineError(f"unknown corpus '{name}'; {own}")
    told = unknown("corpus", name, sorted(CORPORA))
    raise PipelineError(told if closest(name, CORPORA) else f"{told}; {own}")


def require_root(name: str, root: Path | str | None) -> None:
    """Check that a corpus exists and is given with its folder or file, unless it is synthesised.

    Raises:
        PipelineError: there is no such corpus, or `root` is None.
    """
    find_corpus(name)
    if root is None and name != "demo":
        what = {"table": "a table", "folder": "your folder"}.get(name, f"the folder of {name}")
        raise PipelineError(f"name {what}: {reading('features', name)}")


def reading(command: str, name: str) -> str:
    """The command line with which `command` reads the corpus `name`, or the user's own corpus of that name.

    >>> reading("features", "emodb"), reading("audit", "mine")
    ('ser-pipeline features emodb ROOT', 'ser-pipeline audit table mine.csv')
    """
    if name == "demo":
        return "ser-pipeline features"
    if not _is_own(name):
        name = closest(name, CORPORA) or name
    if name in CORPORA:
        return f"ser-pipeline {command} {name} {'my.csv' if CORPORA[name] is TABLE else 'ROOT'}"
    if Path(name).is_dir():
        return shlex.join(["ser-pipeline", command, "folder", name])
    file = name if Path(name).suffix.lower() in table.SUFFIXES else f"{name}.csv"
    return shlex.join(["ser-pipeline", command, "table", file])


def _is_own(name: str) -> bool:
    """Whether `name` is that of a table, or of a table or folder that exists."""
    return Path(name).suffix.lower() in table.SUFFIXES or Path(name).exists() or Path(f"{name}.csv").is_file()


def read_corpus(
    name: str,
    root: Path,
    classes: Classes | None = None,
    subset: str = "",
    check_audio: bool = True,
    rated: bool = False,
) -> list[Utterance]:
    """The utterances of corpus `name` in `root` with classes as their emotions, sorted by speaker and id.

    Args:
        name: a row of `CORPORA`.
        root: the corpus's folder, its parent or a subfolder; for `table`, its file.
        classes: which labels to read; None for the corpus's own classes.
        subset: a name of the corpus's `subsets`, or `all`; empty for its default.
        check_audio: whether a missing audio file is an error.
        rated: whether to keep utterances without a class (emotion "") that have votes for a class, or attributes.

    Raises:
        PipelineError: the corpus cannot be read; says what was expected and, if known, what the folder contains
            instead.
    """
    corpus = find_corpus(name)
    utterances = _subset(corpus, _read(corpus, root), subset)
    _require_labels(classes or {}, utterances)
    chosen = sorted(
        choose(utterances, class_table(corpus, utterances, classes), rated), key=lambda item: (item.speaker, item.id)
    )
    if not chosen:
        raise PipelineError(f"{root} has no utterances of the classes {', '.join(classes or corpus.classes)}")
    chosen = read_once(chosen, audio_folder(root))
    chosen, missing = _present(chosen, audio_folder(root))
    if check_audio and missing:
        raise _missing(missing, root)
    return chosen


def class_table(corpus: Corpus, utterances: Iterable[Utterance], classes: Classes | None = None) -> Classes:
    """`classes` if given, otherwise the corpus's own, otherwise all labels; gives the class order everywhere.

    Args:
        corpus: corpus whose classes are used if `classes` is None.
        utterances: their labels are used if the corpus has no classes.
        classes: class -> labels that are mapped to it, in the order of the classes; None for no choice.
    """
    return classes or corpus.classes or found_classes(utterances)


def audio_folder(root: Path) -> Path:
    """The folder that `Utterance.file` is relative to: `root`, or the folder of a table."""
    return root.parent if root.is_file() else root


def _read(corpus: Corpus, root: Path) -> list[Utterance]:
    if not root.exists():
        raise PipelineError(f"{root} does not exist; it should contain {corpus.layout}")
    utterances = list(corpus.read(root))
    if not utterances:
        raise PipelineError(_other(corpus, root))
    return utterances


def _other(corpus: Corpus, root: Path) -> str:
    if root.is_dir() and not any(root.iterdir()):
        return f"{root} is empty; {corpus.title} has {corpus.layout}"
    for other in CORPORA.values():
        if other not in (corpus, FOLDER) and other.read is not corpus.read and _recognises(other, root):
            command = f"ser-pipeline features {other.name} {shlex.quote(str(root))}"
            return f"{root} is not {corpus.title}; it looks like {other.title}: `{command}`"
    if corpus is not FOLDER and _recognises(FOLDER, root):
        command = f"`ser-pipeline corpora --init folder {shlex.quote(str(root))} > my.csv`"
        own = f"it contains recordings in folders of your own, from which a table can be written: {command}"
        return f"{root} is not {corpus.title}, which has {corpus.layout}; {own}"
    return f"{root} is not {corpus.title}, which has {corpus.layout}"


def _recognises(corpus: Corpus, root: Path) -> bool:
    with suppress(PipelineError):
        return next(corpus.read(root), None) is not None
    return False


def _subset(corpus: Corpus, utterances: list[Utterance], subset: str) -> list[Utterance]:
    name = subset or corpus.subset or "all"
    if name == "all":
        return utterances
    if name not in corpus.subsets:
        raise PipelineError(f"{corpus.title} has no subset '{name}'; choose {', '.join(('all', *corpus.subsets))}")
    kept = [utterance for utterance in utterances if corpus.subsets[name](utterance)]
    if not kept:
        raise PipelineError(f"no utterance here belongs to the subset '{name}'; choose another with --subset")
    return kept


def _require_labels(classes: Classes, utterances: Iterable[Utterance]) -> None:
    found = Counter(utterance.emotion for utterance in utterances)
    for label in sum(classes.values(), ()):
        if label not in found:
            there = ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
            raise PipelineError(f"no utterance is labelled '{label}'; the labels here are {there}")


def _present(utterances: list[Utterance], folder: Path) -> tuple[list[Utterance], list[Utterance]]:
    """The utterances with the names of their files on disk, and those whose file is missing."""
    odd = require_text(utterances)
    if odd:
        raise PipelineError(odd)
    missing = missing_audio(utterances, folder)
    if missing:
        utterances = found_again(utterances, missing, folder)
        missing = missing_audio(utterances, folder)
    return utterances, missing


def _missing(missing: Sequence[Utterance], root: Path) -> PipelineError:
    place = f"{root}, line {table.line_of(root, missing[0])}" if root.is_file() else root
    first = missing[0].file
    video = (audio_folder(root) / missing[0].file).with_suffix(".mp4")
    with suppress(OSError):  # the name may be too long
        if video.is_file():
            extract = 'find . -name "*.mp4" -exec sh -c \'ffmpeg -i "$1" -vn -ac 1 -ar 16000 "${1%.mp4}.wav"\' _ {} ";"'
            what = f"{first} exists only as video; extract its sound in that folder"
            return PipelineError(f"{place}: {what}: {extract}")
    more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
    return PipelineError(
        f"{place}: the audio file {first} is missing{more}; correct the path, restore the file, or leave it out with "
        "`ser-pipeline features … --skip-bad`"
    )

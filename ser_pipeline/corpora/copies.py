"""Find recordings that occur more than once in a corpus's folder: copies of a tree, or several formats side by side."""

from __future__ import annotations

import filecmp
import logging
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.corpora.layout import AUDIO
from ser_pipeline.errors import PipelineError
from ser_pipeline.text import plural

log = logging.getLogger(__name__)


def read_once(utterances: Sequence[Utterance], folder: Path) -> list[Utterance]:
    """Drop repeated utterances: byte-for-byte copies, and copies in another format in the same folder.

    Args:
        utterances: utterances of a corpus.
        folder: folder that their files are relative to.

    Raises:
        PipelineError: two recordings of one name differ.
    """
    named: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        named[utterance.id].append(utterance)
    kept, copies, formats = [], [], []
    for several in named.values():
        first, *others = sorted(several, key=_order)
        kept.append(first)
        for other in others:
            if _stem(other) == _stem(first) and other.file != first.file:
                formats.append((first, other))
            elif _equal(folder / first.file, folder / other.file):
                copies.append((first, other))
            else:
                raise PipelineError(
                    f"utterance {first.id} occurs twice, as {first.file} and {other.file}, and they differ; "
                    "name the folder of one copy"
                )
    _tell(folder, copies, "there twice, byte for byte, and read once")
    _tell(folder, formats, "there in several formats, of which one is read")
    return kept


def _order(utterance: Utterance) -> tuple[int, int, str]:
    """The shallowest path first, then the format that reads fastest."""
    suffix = utterance.file[utterance.file.rfind(".") :].lower()
    return utterance.file.count("/"), AUDIO.index(suffix) if suffix in AUDIO else len(AUDIO), utterance.file


def _stem(utterance: Utterance) -> str:
    return utterance.file.rpartition(".")[0]


def _equal(one: Path, other: Path) -> bool:
    with suppress(OSError):
        return filecmp.cmp(one, other, shallow=False)
    return False


def _tell(folder: Path, pairs: Sequence[tuple[Utterance, Utterance]], what: str) -> None:
    if pairs:
        first, other = pairs[0]
        number = plural(len(pairs), "recording")
        log.info(
            "%s: %s %s: %s and %s",
            folder,
            number,
            f"{'is' if len(pairs) == 1 else 'are'} {what}",
            first.file,
            other.file,
        )

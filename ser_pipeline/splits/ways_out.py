"""What helps where a protocol cannot be used."""

from __future__ import annotations

from collections.abc import Iterable

from ser_pipeline.corpora.corpus import Utterance

ONE_SPEAKER = (
    "name the speakers (`ser-pipeline corpora --init table TABLE --speaker PATTERN` finds them in the paths), add a "
    "column split with train and test for --protocol official-shared, or train one model without a test: train --final"
)
"""What helps where there is only one speaker, or none: every other protocol keeps speakers apart."""

GROUPS = 5
"""Maximum number of groups of speakers that is suggested."""


def ways_out(utterances: Iterable[Utterance]) -> str:
    """Name the protocols that a corpus allows, or what one speaker can do."""
    speakers = {utterance.speaker for utterance in utterances}
    if len(speakers) < 2 or "" in speakers:
        return ONE_SPEAKER
    return f"choose --protocol speaker or group-{min(GROUPS, len(speakers))}"

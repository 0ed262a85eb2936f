"""What a corpus's raters imply for a model: their agreement, turns without a majority, scales, upper limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ser_pipeline.corpora.corpus import Utterance
from ser_pipeline.corpora.ratings import DIMENSIONS, ELSEWHERE, vote_weights
from ser_pipeline.evaluation.raters import alpha_of_values, alpha_of_votes, one_against_others, reliability_of_means
from ser_pipeline.findings import Finding
from ser_pipeline.text import percent, plural


def audit_raters(utterances: Sequence[Utterance]) -> list[Finding]:
    """Notes on votes and attributes; none for a corpus without either.

    Args:
        utterances: with classes as their emotions and in their votes; utterances without a class count if kept.
    """
    return [*_votes(utterances), *_attributes(utterances)]


def _votes(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    rated = [utterance for utterance in utterances if utterance.votes]
    if not rated:
        return
    labels = sorted({label for utterance in rated for label, _ in utterance.votes})
    counts = vote_weights([utterance.votes for utterance in rated], labels)
    totals = counts.sum(1)
    elsewhere = counts[:, labels.index(ELSEWHERE)].sum() if ELSEWHERE in labels else 0.0
    ties = int(((counts == counts.max(1, keepdims=True)).sum(1) > 1).sum())
    yield Finding(
        "note",
        "votes",
        f"{len(rated):,} of {plural(len(utterances), 'utterance')} have {totals.min():g} to {totals.max():g} votes, "
        f"{percent(elsewhere / counts.sum())} of them for no class; {ties} have no class that most raters chose",
        "--target votes learns from all of them; under --target class those without a class are left out",
    )
    whole = counts[(counts % 1 == 0).all(1)]
    alpha, agreed = alpha_of_votes(whole), one_against_others(whole)
    if not np.isnan(alpha):
        yield Finding(
            "note",
            "agreement",
            f"Krippendorff's alpha of the votes is {alpha:.2f}; a rater agrees with most of the others in "
            f"{percent(agreed)} of cases",
            "expect about the same of a listener who is scored against the majority",
        )


def _attributes(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    rated = [utterance.vad for utterance in utterances if utterance.vad]
    if not rated:
        return
    yield from _outside(utterances)
    values = np.array([one.values for one in rated])
    scales = ", ".join(sorted({f"{one.scale[0]:g} to {one.scale[1]:g}" for one in rated}))
    spans = ", ".join(
        f"{name} {low:g} to {high:g}" for name, low, high in zip(DIMENSIONS, values.min(0), values.max(0), strict=True)
    )
    yield Finding("note", "attributes", f"{plural(len(rated), 'utterance')}, scale {scales}: {spans}")
    raters = [[[one[place] for one in vad.raters] for vad in rated] for place in range(len(DIMENSIONS))]
    alphas = [alpha_of_values(ratings) for ratings in raters]
    if np.isnan(alphas).any():
        return
    ceilings = [reliability_of_means(ratings) ** 0.5 for ratings in raters]
    told = [f"{name} {alpha:.2f}" for name, alpha in zip(DIMENSIONS, alphas, strict=True)]
    most = [f"{name} {ceiling:.2f}" for name, ceiling in zip(DIMENSIONS, ceilings, strict=True)]
    yield Finding(
        "note",
        "reliability",
        f"Krippendorff's alpha of the raters is {', '.join(told)}",
        f"the highest correlation with the raters' means to expect of a model is {', '.join(most)}",
    )


def _outside(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    """A warning about values outside their scale, if there are any."""
    found = [(one.id, one.vad) for one in utterances if one.vad and one.vad.outside]
    if found:
        (name, vad), count = found[0], plural(len(found), "utterance")
        values = ", ".join(f"{what} {value:g}" for what, value in zip(DIMENSIONS, vad.values, strict=True))
        yield Finding(
            "warning",
            "attributes-outside",
            f"{count} outside the scale of {vad.scale[0]:g} to {vad.scale[1]:g}, such as {name}: {values}",
            "they are trained on and scored unchanged; a wrong scale looks the same as a slip in the labels",
            rows=tuple(one for one, _ in found),
        )

"""Embeddings of utterances in two dimensions. U utterances, S segments, D width."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.errors import PipelineError
from ser_pipeline.runs.records import FoldResult

FEWEST = 12
"""Fewest utterances for which t-SNE is meaningful."""

STEPS = 500
"""Steps of gradient descent; enough for a few hundred points to converge."""

PERPLEXITY = 30.0

WORKERS = 2
"""Number of embeddings computed at a time."""

log = logging.getLogger(__name__)


def utterance_means(fold: FoldResult, name: str) -> Floats | None:
    """The embedding `name` of each utterance, (U, D), as the mean of its segments; None if there is none to show."""
    try:
        stored = fold.segments(("utterance", name))
    except PipelineError as error:
        log.warning("no embeddings: %s", error)
        return None
    if name not in stored or len(fold.rows) < FEWEST:
        return None
    try:
        means = average(stored[name], stored["utterance"], len(fold.rows))
    except (KeyError, ValueError, IndexError, TypeError) as error:
        log.warning("no embeddings of fold %s: its segments.npz contradicts its predictions (%s)", fold.name, error)
        return None
    if not np.isfinite(means).all():
        log.warning("no embeddings of fold %s: %s is not finite", fold.name, name)
        return None
    return means


def average(rows: NDArray[np.floating], utterance: NDArray[np.integer], count: int) -> Floats:
    """Means (`count`, D) of the rows (S, D) of each utterance.

    Args:
        rows: (S, D), of segments.
        utterance: index of each segment's utterance (S,), 0 to `count` - 1.
        count: number of utterances.

    >>> average(np.array([[1.0], [3.0], [5.0]]), np.array([0, 0, 1]), 2).ravel().tolist()
    [2.0, 5.0]
    """
    sums = np.zeros((count, rows.shape[1]))
    np.add.at(sums, utterance, rows.astype(np.float64))
    return sums / np.maximum(np.bincount(utterance, minlength=count), 1)[:, None]


def planes(embeddings: Sequence[Floats]) -> list[Floats]:
    """t-SNE of each of `embeddings` (U, D): points (U, 2) that fill the square from -1 to 1, the same on every call."""
    from threadpoolctl import threadpool_limits

    # one thread each: more would mostly wait for each other, and would add in another order
    with threadpool_limits(1), ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(_plane, embeddings))


def silhouettes(embedding: Floats, target: Ints) -> Floats | None:
    """How much nearer each utterance (U,) is to its class than to the nearest other one, -1 to 1.

    None with a single class, and if no class has two utterances. Source: Rousseeuw, Silhouettes, 1987; Euclidean
    distances.

    Args:
        embedding: (U, D).
        target: class of each (U,).
    """
    from sklearn.metrics import silhouette_samples

    if not 2 <= len(np.unique(target)) < len(target):
        return None
    return np.asarray(silhouette_samples(embedding, target))


def _plane(embedding: Floats) -> Floats:
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(embedding) - 1) / 3)
    points = TSNE(init="pca", perplexity=perplexity, max_iter=STEPS, random_state=0).fit_transform(embedding)
    points = points - (points.max(0) + points.min(0)) / 2
    return np.asarray(points / np.maximum(np.abs(points).max(0), 1e-9))

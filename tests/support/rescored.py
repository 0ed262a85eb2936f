"""Scores of a run from its predictions.csv alone, with a second implementation that does not use the package."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

DIMENSIONS = ("arousal", "valence", "dominance")


def lines(run: Path) -> list[dict[str, str]]:
    """Return the lines of all folds."""
    found: list[dict[str, str]] = []
    for file in sorted(run.glob("*/predictions.csv")):
        with file.open(encoding="utf-8", newline="") as text:
            found += csv.DictReader(text)
    return found


def judged(run: Path) -> list[dict[str, str]]:
    """Return the lines of all folds, including turns without a class, which only raters judged."""
    found = lines(run)
    for file in sorted(run.glob("*/undecided.csv")):
        with file.open(encoding="utf-8", newline="") as text:
            found += csv.DictReader(text)
    return found


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def concordance(one: Sequence[float], other: Sequence[float]) -> float:
    first, second = mean(one), mean(other)
    both = mean([(a - first) * (b - second) for a, b in zip(one, other, strict=True)])
    spreads = mean([(a - first) ** 2 for a in one]) + mean([(b - second) ** 2 for b in other])
    return 2 * both / (spreads + (first - second) ** 2)


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    first, second = mean(one), mean(other)
    both = math.fsum((a - first) * (b - second) for a, b in zip(one, other, strict=True))
    return both / math.sqrt(math.fsum((a - first) ** 2 for a in one) * math.fsum((b - second) ** 2 for b in other))


def attributes(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, float]]:
    """Compute CCC, correlation and mean absolute error of each dimension over all lines."""
    found = {}
    for name in DIMENSIONS:
        true, told = ([float(row[column]) for row in rows] for column in (name, f"predicted:{name}"))
        error = mean([abs(a - b) for a, b in zip(true, told, strict=True)])
        found[name] = {"ccc": concordance(true, told), "pearson": correlation(true, told), "mae": error}
    return found


def distributions(rows: Sequence[dict[str, str]]) -> tuple[list[list[float]], list[list[float]]]:
    """Return the raters' shares and the model's probabilities of each line."""
    labels = [name.removeprefix("votes:") for name in rows[0] if name.startswith("votes:")]
    wanted, told = [], []
    for row in rows:
        weights = [float(row[f"votes:{label}"]) for label in labels]
        scores = [math.exp(float(row[f"log_p:{label}"])) for label in labels]
        wanted.append([weight / sum(weights) for weight in weights])
        told.append([score / sum(scores) for score in scores])
    return wanted, told


def divergence(one: Sequence[float], other: Sequence[float]) -> float:
    """Compute the Kullback-Leibler divergence in bits."""
    return math.fsum(a * math.log2(a / b) for a, b in zip(one, other, strict=True) if a > 0)


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """Compute the Jensen-Shannon divergence in bits."""
    middle = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    return (divergence(one, middle) + divergence(other, middle)) / 2


def votes(rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """Compute mean distances, accuracy against the label, and macro F1 of classes above a share of 1 / C."""
    wanted, told = distributions(rows)
    pairs = list(zip(wanted, told, strict=True))
    classes = len(wanted[0])
    scores = []
    for place in range(classes):
        truth = [one[place] > 1 / classes for one in wanted]
        said = [one[place] > 1 / classes for one in told]
        both = sum(a and b for a, b in zip(truth, said, strict=True))
        if any(truth) or any(said):
            scores.append(2 * both / (sum(truth) + sum(said)))
    return {
        "js": mean([apart(one, other) for one, other in pairs]),
        "kl": mean([divergence(one, other) for one, other in pairs]),
        "accuracy": mean([float(row["prediction"] == row["label"]) for row in rows if row["label"]]),
        "f1": mean(scores),
    }

"""The targets that a model can predict, with one row each that defines its loss, outputs, scores and valid settings.

`class` is the label of the corpus. `votes` is the distribution of the raters over the classes: votes for other classes
do not count, and utterances that most raters gave none of the classes are used as well. `vad` is arousal, valence and
dominance, with the ends of the corpus's scale mapped to -1 and 1. Models of `vad+class` share all but the last layer.

Sources: Fayek, Lech and Cavedon, IJCNN 2016 (cross-entropy to the raters' distribution); Trigeorgis et al., ICASSP 2016
(1 - CCC over a batch); Chou et al., EMO-SUPERB, SLT 2024 (no utterance without a majority left out).
"""

from __future__ import annotations

from dataclasses import dataclass

BY_CLASS = ("ua", "wa", "wa+ua")
"""Values of `train.monitor` for targets with classes."""

EVERY = ("loss", "last")
"""Values of `train.monitor` for all targets."""


@dataclass(frozen=True)
class Target:
    """The definition of a target."""

    name: str
    words: str  # what its models predict
    loss: str  # what is minimised
    classes: bool  # whether there is an output per class
    votes: bool  # whether the classes' targets are the raters' distribution instead of the label
    attributes: bool  # whether there are outputs for arousal, valence and dominance
    monitors: tuple[str, ...]  # valid values of `train.monitor`; the first is suggested
    solvers: tuple[str, ...]  # valid values of `train.solver`
    follows: frozenset[str]  # settings of `CHANGES` that affect it


CHANGES = {"class_weights": False, "balanced": False, "label_smoothing": 0.0, "vad_weight": 1.0}
"""Settings of `train` that do not affect every target, with the values at which they have no effect."""

TARGETS = {
    row.name: row
    for row in (
        Target(
            name="class",
            words="classes",
            loss="cross-entropy",
            classes=True,
            votes=False,
            attributes=False,
            monitors=(*BY_CLASS, *EVERY),
            solvers=("adamw", "ridge", "svm", "logistic"),
            follows=frozenset({"class_weights", "balanced", "label_smoothing"}),
        ),
        Target(
            name="votes",
            words="the raters' distribution",
            loss="cross-entropy to the raters' distribution",
            classes=True,
            votes=True,
            attributes=False,
            monitors=("loss", "last", *BY_CLASS),
            solvers=("adamw", "ridge"),
            follows=frozenset({"class_weights", "label_smoothing"}),
        ),
        Target(
            name="vad",
            words="arousal, valence and dominance",
            loss="1 - CCC over a batch",
            classes=False,
            votes=False,
            attributes=True,
            monitors=("ccc", *EVERY),
            solvers=("adamw", "ridge"),
            follows=frozenset(),
        ),
        Target(
            name="vad+class",
            words="classes, arousal, valence and dominance",
            loss="cross-entropy + train.vad_weight (1 - CCC over a batch)",
            classes=True,
            votes=False,
            attributes=True,
            monitors=(*BY_CLASS, "ccc", *EVERY),
            solvers=("adamw", "ridge"),
            follows=frozenset({"class_weights", "label_smoothing", "vad_weight"}),
        ),
    )
}
"""Targets by the value of `train.target`."""

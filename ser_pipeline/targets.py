"""What a model can learn to say: one row a target, from which loss, outputs, scores and refusals follow.

`class` is the corpus's own label. `votes` is the distribution of the raters over the classes: those who chose no class
do not count, and utterances that most raters gave to no class train as well. `vad` is arousal, valence and dominance,
on a scale of -1 to 1 between the ends of the corpus's own. Both together share all but the last layer.

Sources: Fayek, Lech and Cavedon, IJCNN 2016 (cross-entropy to the raters' distribution); Trigeorgis et al., ICASSP 2016
(1 - CCC over a batch); Chou et al., EMO-SUPERB, SLT 2024 (no utterance without a majority left out).
"""

from __future__ import annotations

from dataclasses import dataclass

BY_CLASS = ("ua", "wa", "wa+ua")
"""What may choose the epoch where classes are told."""

EVERY = ("loss", "last")
"""What may choose it whatever is told."""


@dataclass(frozen=True)
class Target:
    """A row of the table."""

    name: str
    words: str  # what a model of it tells
    loss: str  # what is minimised
    classes: bool  # whether there is an output a class
    votes: bool  # whether these learn from the raters' distribution, not from the label
    attributes: bool  # whether there are outputs for arousal, valence and dominance
    monitors: tuple[str, ...]  # values of `train.monitor`; the first is the nearest to another's
    solvers: tuple[str, ...]  # values of `train.solver`
    follows: frozenset[str]  # settings of `train` that it has a meaning for, of `CHANGES`


CHANGES = {"class_weights": False, "balanced": False, "label_smoothing": 0.0, "vad_weight": 1.0}
"""Settings of `train` that not every target follows -> where they change nothing."""

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
"""Setting `train.target` -> its row."""

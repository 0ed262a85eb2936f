"""The drawing of the figures. U utterances, C classes, T frames of the speech encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ser_pipeline.arrays import Floats, Ints
from ser_pipeline.report.drawing import ACCENT, CLASS_COLOURS, CLASS_MARKERS, INK, MARK, PAPER, SOFT, Drawn, Key
from ser_pipeline.report.scores import Calibration

STEPS = (1, 2, 5, 10)
"""What ticks of an axis lie apart, times a power of ten."""

DARK = 0.72
"""Share from which on a cell is so dark that its number is written in the paper's colour."""


def confusion(title: str, counts: Ints, labels: Sequence[str]) -> Drawn:
    """A confusion matrix (C, C), its rows in percent; hovering shows the counts.

    Args:
        title: of the figure.
        counts: (C, C), a row for each true class.
        labels: C names.
    """
    rows = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cells = [(i, j) for i in range(len(labels)) for j in range(len(labels))]
    hints = {
        f"cell-{i}-{j}": f"{labels[i]} predicted as {labels[j]}: {counts[i, j]:,} of {counts[i].sum():,}"
        for i, j in cells
    }

    def draw(ax: Axes) -> None:
        for i, j in cells:
            share = float(rows[i, j])
            if not counts[i].any():
                continue  # a class without utterances has no shares
            patch = Rectangle(
                (j - 0.48, i - 0.48), 0.96, 0.96, facecolor=ACCENT, alpha=max(share, 0.03), gid=f"cell-{i}-{j}"
            )
            ax.add_patch(patch)
            size = 9 if len(labels) < 6 else 8 if len(labels) < 8 else 7
            colour = PAPER if share >= DARK else INK
            ax.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=size, color=colour)
        ax.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5), aspect="equal")
        turn = 35 if max(len(label) for label in labels) * len(labels) > 30 else 0
        ax.set_xticks(
            range(len(labels)), labels, rotation=turn, ha="right" if turn else "center", rotation_mode="anchor"
        )
        ax.set_yticks(range(len(labels)), labels)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(title)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")

    return Drawn(draw, hints)


def heat(title: str, values: Floats, rows: Sequence[str], columns: Sequence[str]) -> Drawn:
    """Scores of each row on each column, darker for higher ones; hovering shows both names.

    Args:
        title: of the figure.
        values: (R, C), 0 to 1; NaN: no score.
        rows: R names of training corpora.
        columns: C names of test corpora.
    """
    cells = [(i, j) for i in range(len(rows)) for j in range(len(columns)) if not np.isnan(values[i, j])]
    hints = {f"heat-{i}-{j}": f"{rows[i]} on {columns[j]}: {100 * values[i, j]:.1f} %" for i, j in cells}

    def draw(ax: Axes) -> None:
        for i, j in cells:
            share = float(values[i, j])
            colour = PAPER if share >= DARK else INK
            place = (j - 0.48, i - 0.48)
            ax.add_patch(Rectangle(place, 0.96, 0.96, facecolor=ACCENT, alpha=max(share, 0.03), gid=f"heat-{i}-{j}"))
            ax.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=9, color=colour)
        ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5), aspect="equal")
        ax.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(rows)), rows)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(title)
        ax.set_xlabel("tested")
        ax.set_ylabel("trained")

    return Drawn(draw, hints)


def class_keys(labels: Sequence[str]) -> tuple[Key, ...]:
    """A colour and a marker for each class."""
    return tuple(Key(label, *class_look(place)) for place, label in enumerate(labels))


def class_look(place: int) -> tuple[str, str]:
    """Colour and marker of the class with this number; every pair of the first 64 differs."""
    turn = place // len(CLASS_COLOURS)
    return CLASS_COLOURS[place % len(CLASS_COLOURS)], CLASS_MARKERS[(place + turn) % len(CLASS_MARKERS)]


def scatter(title: str, points: Floats, target: Ints, labels: Sequence[str], below: str = "") -> Drawn:
    """Points (U, 2) in the square from -1 to 1, marked by class.

    Args:
        title: of the figure.
        points: (U, 2), -1 to 1.
        target: class of each (U,).
        labels: names of the classes.
        below: text under it.
    """

    def draw(ax: Axes) -> None:
        for place in range(len(labels)):
            colour, marker = class_look(place)
            chosen = points[target == place]
            ax.scatter(chosen[:, 0], chosen[:, 1], s=9, c=colour, marker=marker, linewidths=0, alpha=0.75)
        ax.set(xlim=(-1.06, 1.06), ylim=(-1.06, 1.06), aspect="equal", xticks=[], yticks=[], xlabel=below)
        ax.spines[:].set_visible(True)
        ax.set_title(title)

    return Drawn(draw)


@dataclass(frozen=True)
class Course:
    """What a panel of learning curves draws for each epoch."""

    fields: Mapping[str, tuple[str, str]]  # field of the history -> colour and style of its line
    dotted: str  # field whose line gets a dot at the kept epoch
    limits: tuple[float, float]
    unit: float = 1.0  # value of one unit of the axis; 0.01: percent


def curves(title: str, runs: Sequence[Sequence[Mapping[str, float]]], best: Sequence[int], course: Course) -> Drawn:
    """Learning curves of a fold for each seed, with a dot at the kept epoch.

    Args:
        title: of the figure.
        runs: the history of each seed, an entry per epoch.
        best: the kept epoch of each seed.
        course: what is drawn.
    """

    def draw(ax: Axes) -> None:
        for lines, kept in zip(runs, best, strict=True):
            epochs = [line["epoch"] for line in lines]
            for name, (colour, style) in course.fields.items():
                values = [line.get(name, np.nan) / course.unit for line in lines]
                ax.plot(epochs, values, color=colour, linewidth=1.2, linestyle=style)
            dot = [(line["epoch"], line[course.dotted] / course.unit) for line in lines if line["epoch"] == kept]
            ax.plot(*zip(*dot, strict=True), "o", color=MARK, markersize=4) if dot else None
        ax.set(ylim=course.limits, xlabel="epoch")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=STEPS))
        ax.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        ax.set_title(title)

    return Drawn(draw)


LOSSES = {"loss": (SOFT, "--"), "validation_loss": (ACCENT, "-")}
"""Lines of a panel of losses."""

KEPT = Key("the kept epoch", MARK, "o")

CURVE_KEYS = (Key("training loss", SOFT, "--"), Key("validation loss", ACCENT, "-"), KEPT)

UA_KEYS = (Key("validation UA, %", ACCENT, "-"), KEPT)


def reliability(title: str, calibration: Calibration) -> Drawn:
    """Accuracy by confidence; the area of a dot shows its share of the utterances."""

    def draw(ax: Axes) -> None:
        there = calibration.count > 0
        sizes = 8 + 260 * calibration.count[there] / calibration.count.max()
        ax.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle="--")
        ax.plot(calibration.confidence[there], calibration.accuracy[there], color=ACCENT, linewidth=1.2, zorder=2)
        ax.scatter(
            calibration.confidence[there],
            calibration.accuracy[there],
            s=sizes,
            color=ACCENT,
            alpha=0.45,
            linewidths=0,
            zorder=3,
        )
        ticks = [0, 0.25, 0.5, 0.75, 1]
        ax.set(xlim=(0, 1.03), ylim=(0, 1.03), aspect="equal", xlabel="confidence, %", ylabel="accuracy, %")
        ax.set_xticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
        ax.set_yticks(ticks, [f"{100 * tick:.0f}" for tick in ticks])
        ax.grid()
        ax.set_axisbelow(True)
        ax.set_title(title)

    return Drawn(draw)


def attention(
    title: str,
    spectrogram: NDArray[np.uint8],
    weights: Floats,
    *,
    times: Floats,
    length: float,
    top: float,
    unit: str,
    sound: str = "",
) -> Drawn:
    """A spectrogram with the weights of its frames above it.

    Args:
        title: above it.
        spectrogram: (bins, frames), 255 for the loudest.
        weights: of the encoder's frames, (T,).
        times: the middle of each frame in seconds, (T,).
        length: of the spectrogram in seconds.
        top: upper end of the highest bin.
        unit: of `top`.
        sound: file to play with it.
    """
    (bins, frames), together = spectrogram.shape, min(2, len(spectrogram))
    picture = np.empty((bins // together, frames, 4))
    picture[..., :3] = to_rgb(ACCENT)
    rows = spectrogram[: together * len(picture)].reshape(len(picture), together, frames)
    picture[..., 3] = (rows.mean(1) / 255) ** 1.5
    heights = weights / max(float(weights.max()), 1e-9)

    def draw(ax: Axes) -> None:
        ax.imshow(picture, origin="lower", aspect="auto", extent=(0, length, 0, top), interpolation="none")
        ax.fill_between(times, top * 1.06, top * (1.06 + 0.42 * heights), color=MARK, linewidth=0, alpha=0.85)
        ax.set(xlim=(0, length), ylim=(0, top * 1.5), xlabel="seconds", ylabel=unit)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        ax.set_yticks([0, round(top / 2, 2), round(top, 2)])
        ax.set_title(title)

    return Drawn(draw, sound=sound)


ATTENTION_KEYS = (Key("weight of the frame", MARK, "s"), Key("energy", ACCENT, "s"))

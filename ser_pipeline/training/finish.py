"""The end of a fold: test it, and write its predictions, probes, examples and result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ser_pipeline.cost import Meter
from ser_pipeline.entry import write_json
from ser_pipeline.inputs import IMAGE, INPUTS
from ser_pipeline.runs import layout
from ser_pipeline.runs.writing import Scores, pick_examples, write_examples, write_predictions, write_segments
from ser_pipeline.training import scoring
from ser_pipeline.training.checkpoint import FoldProgress
from ser_pipeline.training.context import FoldContext
from ser_pipeline.training.scoring import Forward


def finish_fold(folder: Path, model: nn.Module, progress: FoldProgress, context: FoldContext, seconds: float) -> None:
    """Write predictions of the validation and test rows, and the result; a final model has no test rows.

    Args:
        folder: folder of the fold.
        model: the model with the weights of the best epoch.
        progress: the epochs.
        context: the fold, its data and settings.
        seconds: duration of training.
    """
    end, forward = Meter(context.on_gpu), Forward(model, context.autocast)
    tested = _test(folder, forward, context) if len(context.fold.test) else {}
    row = context.objective.row
    for name, rows in ((layout.VALIDATION, context.fold.validation), (layout.UNDECIDED, context.fold.undecided)):
        if len(rows):
            write_predictions(folder / name, context.score(forward, rows), context.data.manifest, rows, row)
    best = progress.history[progress.best_epoch - 1]
    result = {
        "fold": context.fold.name,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch,
        "seconds": round(max(seconds, sum(record["seconds"] for record in progress.history)), 3),
        **_spent(progress, context, end),
        "train": len(context.fold.train),
        "validation": {name: best[name] for name in ("wa", "ua", "ccc") if name in best}
        | {"loss": best["validation_loss"]},
        **tested,
    }
    write_json(folder / layout.RESULT, result)


def _test(folder: Path, forward: Forward, context: FoldContext) -> dict[str, Any]:
    """Write the test predictions, and those with each input shuffled or silenced.

    Args:
        folder: folder of the fold.
        forward: the model with the weights of the best epoch.
        context: the fold, its data and settings.

    Returns:
        The scores, for the result.
    """
    manifest, test = context.data.manifest, context.fold.test
    scores = context.score(forward, test)
    probes, row = {}, context.objective.row
    for name in context.config.model.inputs if row.classes else ():
        for kind, change in (("shuffled", context.swapped(name)), ("zeroed", scoring.zeroed(name))):
            probes[f"{kind}:{name}"] = context.score(forward, test, change).log_prob
    write_segments(folder / layout.SEGMENTS, scores, manifest, test, probes)
    images = [name for name in context.data.inputs if INPUTS[name].form == IMAGE]
    if scores.attention is not None and images and row.classes:
        _write_examples(folder, scores, context, images[0])
    write_predictions(folder / layout.PREDICTIONS, scores, manifest, test, row)
    found = scoring.measured(scores, manifest, test)
    counts = scoring.confusion(scores, manifest, test).counts.tolist() if row.classes else []
    told: dict[str, Any] = {name: found[name] for name in ("wa", "ua", "ccc") if name in found}
    return {**told, "silent": round(scores.silent, 4), "counts": counts}


def _spent(progress: FoldProgress, context: FoldContext, end: Meter) -> dict[str, float]:
    """Return the resources that the fold used.

    They are measured since the start of the fold. If an earlier call started it, or others were trained with it, they
    are the sum over its epochs.

    Args:
        progress: the epochs, each with the resources that it used.
        context: the fold.
        end: measures from the end of the last epoch.
    """
    found = {}
    for name, value in (context.meter or end).read().items():
        epochs = sum(record.get(name, 0.0) for record in progress.history)
        found[name] = round(max(value, epochs) if context.meter else value + epochs, 3)
    return found


def _write_examples(folder: Path, scores: Scores, context: FoldContext, image: str) -> None:
    """Write the image and attention of a few test utterances, for the report's figures."""
    manifest, test = context.data.manifest, context.fold.test
    chosen = pick_examples(scores, manifest, test)
    rows = manifest.firsts[test[chosen]]
    (spectrograms,) = (batch[image] for batch in context.source.batches(rows, len(rows)))
    write_examples(folder / layout.EXAMPLES, scores, manifest, test, chosen, spectrograms.cpu().numpy())

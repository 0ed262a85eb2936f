"""Plan of the runs to train; their folds are checked for leaks before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ser_pipeline.audit.corpus import audit, audit_labels, to_json
from ser_pipeline.audit.raters import audit_raters
from ser_pipeline.cache.catalogue import Sources
from ser_pipeline.cache.manifest import Manifest
from ser_pipeline.cache.targeted import digest_of, targeted
from ser_pipeline.config import Config, keyed, require_valid
from ser_pipeline.corpora import CORPORA
from ser_pipeline.corpora.corpus import Corpus
from ser_pipeline.device import precision
from ser_pipeline.entry import Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.stores import (
    FROZEN,
    encoders_of,
    find_stores,
    made_for,
    on_disk,
    read_manifest,
    resolved,
    with_store,
)
from ser_pipeline.findings import ordered, refuse
from ser_pipeline.inputs import INPUTS
from ser_pipeline.model.needs import require_needs
from ser_pipeline.splits import folds
from ser_pipeline.splits.folds import Fold
from ser_pipeline.splits.leaks import leaks
from ser_pipeline.splits.protocols import FINAL
from ser_pipeline.targets import TARGETS
from ser_pipeline.text import few
from ser_pipeline.training.ablations import ablated
from ser_pipeline.training.pretrained import Known, pretrained

log = logging.getLogger(__name__)

CHANGES = ("speed", "gain", "noise", "frame_masks")
"""Kinds of augmentation that must be applied to every input."""


LEAKS = frozenset({"speaker-in-two-parts", "dialogue-split"})
"""Errors of folds; a file of folds may share speakers or dialogues only if one of these is accepted."""


@dataclass(frozen=True)
class PlannedRun:
    """One protocol, ablation and seed over the features of a corpus."""

    entry: Entry
    folds: tuple[Fold, ...]
    config: Config
    about: Mapping[str, Any]  # contents of `run.json`
    members: Mapping[str, Any]  # contents of `folds.json`: the ids of every part
    manifest: Manifest


def plan_runs(
    sources: Sources,
    runs: Path,
    config: Config,
    *,
    protocol: str = "speaker",
    file: Path | None = None,
    ablations: Sequence[str] = ("full",),
    own: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Sequence[int] = (0,),
    device: torch.device,
    about: Mapping[str, Any],
    accepted: Collection[str] = (),
) -> list[PlannedRun]:
    """Plan the runs of every ablation and seed, and check their folds for leaks; nothing is written.

    Args:
        sources: the corpus or corpora, and the corpus to test on if that is another one.
        runs: folder of the runs.
        config: settings of every run, except for the seed and the changes of an ablation.
        protocol: what each fold holds out; ignored with a corpus to test on or a `file`.
        file: a `folds.json` to use instead of a protocol.
        ablations: names of ablations; those that would repeat another run are left out.
        own: the user's ablations.
        seeds: the seeds, with one run each.
        device: the device of training, which determines the precision.
        about: further contents of `run.json`.
        accepted: names of the audit's errors that the user accepts.

    Raises:
        PipelineError: features are missing or do not fit the settings, pre-trained weights are not available, the
            protocol does not suit the corpus or contradicts the file or the corpus to test on, or labels or folds have
            an error that was not accepted.
    """
    for name in FROZEN:
        config = resolved(config, sources.folders[0], name)
    require_followed(config)
    if protocol == FINAL and (file or sources.tested):
        raise PipelineError("a final model is not tested: leave out --test-corpus and --folds, or --final")
    require_together(config, sources)
    data = targeted(read_manifest(sources), config.train.target)
    require_classes(data, config.train.target)
    protocol, split, config = _split(data, "cross" if sources.tested else protocol, file, config, accepted)
    require_trained(data, split, config.train.target)
    refuse([*audit_labels(data.utterances, _published(data)), *leaks(data, split)], accepted)
    planned, known = [], Known()
    about = {**about, "manifest": data.inputs["utterances"]}
    rows = ablated(config, ablations, own)
    for ablation, changed in rows.items():
        require_valid(changed)
        require_needs(changed)
        if changed.train.target != config.train.target:
            raise PipelineError(f"ablation '{ablation}' changes train.target, and with it the folds; use --target")
        changed = with_store(sources.folders, changed)
        changed = replace(changed, train=replace(changed.train, precision=precision(config.train.precision, device)))
        found = find_stores(sources.folders, changed)
        stores = {name: paths[0].name for name, paths in found}
        told = {**about, "features_cost": made_for(path for _, paths in found for path in paths)}
        try:
            weights = pretrained(changed, known)
        except PipelineError as error:
            if len(rows) == 1 or changed.model.speech_encoder == config.model.speech_encoder:
                raise
            log.warning("ablation '%s' is left out: %s", ablation, error)
            continue
        told["encoders"] = weights | encoders_of(path for _, paths in found for path in paths)
        inputs = {"stores": stores, "ablation": ablation, **({"pretrained": weights} if weights else {})}
        planned += [
            _run(sources, data, runs, replace(changed, seed=seed), protocol, inputs, split, told) for seed in seeds
        ]
    return planned


def _split(
    data: Manifest, protocol: str, file: Path | None, config: Config, accepted: Collection[str]
) -> tuple[str, tuple[Fold, ...], Config]:
    """Return the protocol, folds and settings; a file of folds determines the protocol and `train.selection`."""
    if file is None:
        return protocol, folds.make_folds(data, protocol, config.train.selection), config
    split, protocol, selection = folds.read_folds(file, data.utterances, sharing=not LEAKS.isdisjoint(accepted))
    return protocol, split, replace(config, train=replace(config.train, selection=selection))


def require_classes(data: Manifest, target: str) -> None:
    """Check that there are several classes, if the target has any.

    Raises:
        PipelineError: all utterances have the same class.
    """
    there = {utterance.emotion for utterance in data.utterances} - {""}
    if TARGETS[target].classes and len(there) < 2:
        raise PipelineError(f"{data.corpus} has one class only, {few(sorted(there))}; at least two are needed")


def require_trained(data: Manifest, split: Sequence[Fold], target: str) -> None:
    """Check that every fold trains on several classes, if the target has any.

    Args:
        data: the utterances.
        split: the folds.
        target: key of `TARGETS`.

    Raises:
        PipelineError: a fold trains on one class; names both.
    """
    for fold in split if TARGETS[target].classes else ():
        there = {data.utterances[row].emotion for row in fold.train.tolist()} - {""}
        if len(there) < 2:
            raise PipelineError(
                f"fold {fold.name} trains on one class only, {few(sorted(there))}; at least two are needed: choose "
                "another --protocol or other folds"
            )


def require_followed(config: Config) -> None:
    """Check that augmentation and joined segments can be applied to every input of the model.

    Raises:
        PipelineError: they cannot; the message names the inputs, the changes, and the settings that turn them off.
    """
    rows = [INPUTS[name] for name in config.model.reads]
    asked = [name for name in CHANGES if getattr(config.augment, name)]
    refused = [name for name in asked if any(name not in row.follows for row in rows)]
    if refused:
        stiff = [row.name for row in rows if not row.follows.issuperset(refused)]
        words = " ".join(f"--set augment.{name}=0" for name in refused)
        told = ", ".join(f"augment.{name}" for name in refused)
        raise PipelineError(f"{told} cannot be applied to {' and '.join(stiff)}; turn it off: {words}")
    alone = [row.name for row in rows if not row.joins]
    if alone and config.model.segments > 1:
        raise PipelineError(f"{' and '.join(alone)} cannot join segments: --set model.segments=1")


def require_together(config: Config, sources: Sources) -> None:
    """Refuse settings and options for several corpora if there is only one.

    Raises:
        PipelineError: names the setting or the option.
    """
    if config.train.corpus_weights == "equal" and len(sources.trained) < 2:
        raise PipelineError("train.corpus_weights='equal' needs several corpora to train on: --corpus A+B")
    if sources.classes and len(sources.sets) < 2:
        raise PipelineError(
            "train --classes needs several corpora; choose the classes of one corpus when its features are extracted: "
            "ser-pipeline features CORPUS ROOT --classes LIST"
        )


def findings_of(
    sources: Sources, split: Sequence[Fold], config: Config, accepted: Collection[str] = ()
) -> dict[str, Any]:
    """Audit a corpus and its folds, including the audio if it still exists, and return the contents of `audit.json`.

    Args:
        sources: the features of one or several corpora.
        split: the folds.
        config: has the length of a segment.
        accepted: names of errors that the user accepts.
    """
    data = targeted(read_manifest(sources), config.train.target)
    if not all(one.root.is_dir() for one in sources.sets):
        labels = [*audit_labels(data.utterances, _published(data)), *audit_raters(data.utterances)]
        found = ordered([*labels, *leaks(data, split)])
        return to_json(found, data.utterances, accepted)
    corpus = _published(data)
    root, heard = sources.sets[0].root, on_disk(data.utterances, sources) if len(sources.sets) > 1 else data.utterances
    found = audit(heard, root, corpus=corpus, folds=split, segment=config.audio.seconds)
    return to_json(ordered([*found, *audit_raters(data.utterances)]), data.utterances, accepted)


def _published(data: Manifest) -> Corpus | None:
    """Return the corpus whose published counts apply to `data`; None with other classes, or for a user's own corpus."""
    row = CORPORA.get(data.corpus)
    return row if row and dict(row.classes) == dict(data.classes) else None


def _run(
    sources: Sources,
    data: Manifest,
    runs: Path,
    config: Config,
    protocol: str,
    row: Mapping[str, Any],
    split: tuple[Fold, ...],
    about: Mapping[str, Any],
) -> PlannedRun:
    members = folds.folds_json(split, data.utterances, protocol, config.train.selection)
    inputs = {
        "features": [folder.name for folder in sources.folders],
        "protocol": protocol,
        "folds": members,
        "config": keyed(config),
        **row,
        **({"classes": dict(sources.classes)} if sources.classes else {}),
        **({"target": digest_of(data, TARGETS[config.train.target])} if config.train.target != "class" else {}),
    }
    known = {
        **about,
        "corpus": data.corpus,
        "labels": list(data.labels),
        "protocol": protocol,
        "selection": _selection(config),
        "ablation": row["ablation"],
        "seed": config.seed,
        "features": "+".join(folder.name for folder in sources.folders),
        "test_corpus": sources.sets[-1].corpus if sources.tested else "",
        "folds": [fold.name for fold in split],
        "utterances": _of_the_corpus(sources, data),
        "precision": config.train.precision,
        "audio_root": "" if sources.together else str(sources.sets[-1].root),
        **({"audio_roots": {one.corpus: str(one.root) for one in sources.sets}} if sources.together else {}),
        "pretrained": row.get("pretrained", {}),
        **({"rated": True} if (data.target < 0).any() else {}),
        **({"scale": list(data.scale)} if TARGETS[config.train.target].attributes else {}),
    }
    entry = Entry.keyed(runs, f"{data.corpus}-{protocol}-{row['ablation']}-s{config.seed}", inputs)
    return PlannedRun(
        Entry(entry.path, {key: inputs[key] for key in inputs if key != "folds"}), split, config, known, members, data
    )


def _of_the_corpus(sources: Sources, data: Manifest) -> int:
    """Return the number of utterances that folds could test: all, or those of the corpus to test on."""
    there = [utterance for utterance in data.utterances if utterance.emotion]
    return sum(not sources.tested or utterance.split == "test" for utterance in there)


def _selection(config: Config) -> str:
    """Return the rows that choose the epoch, "validation", "test" or "reference", or "last" if the last is used."""
    chosen = config.train.selection
    return "last" if config.train.monitor == "last" and chosen == "validation" else chosen

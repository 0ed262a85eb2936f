"""What will be trained: runs of a protocol, ablation and seed, proven not to leak before anything is written."""

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
from ser_pipeline.training.ablations import ablated
from ser_pipeline.training.pretrained import Known, pretrained

log = logging.getLogger(__name__)

CHANGES = ("speed", "gain", "noise", "frame_masks")
"""Changes of training segments that every input must follow."""


LEAKS = frozenset({"speaker-in-two-parts", "dialogue-split"})
"""Errors of folds, one of which must be accepted before a file of folds may share speakers or dialogues."""


@dataclass(frozen=True)
class PlannedRun:
    """One protocol, ablation and seed over the features of a corpus."""

    entry: Entry
    folds: tuple[Fold, ...]
    config: Config
    about: Mapping[str, Any]  # what `run.json` says
    members: Mapping[str, Any]  # what `folds.json` says: ids of every part
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
    """The runs of every ablation and seed, proven not to leak; nothing is written.

    Args:
        sources: the corpus or corpora, and the one to test on where that is another.
        runs: where runs are kept.
        config: settings of every run, but for the seed and what an ablation changes.
        protocol: what is left out; of no account with a corpus to test on or a `file`.
        file: a published `folds.json` to take instead.
        ablations: rows of the ablation table; those that would repeat another run are left out.
        own: rows of the user, beside those of the table.
        seeds: a run each.
        device: where it will train; decides on the precision.
        about: what else `run.json` says.
        accepted: names of the audit's errors that are taken as they are.

    Raises:
        PipelineError: features are missing or would have to change, pre-trained weights cannot be had, a protocol that
            the corpus cannot give or that contradicts the file or the other corpus, or an error in labels or folds
            that was not accepted.
    """
    for name in FROZEN:
        config = resolved(config, sources.folders[0], name)
    require_followed(config)
    if protocol == FINAL and (file or sources.tested):
        raise PipelineError("a final model tests nothing: leave out --test-corpus and --folds, or --final")
    require_together(config, sources)
    data = targeted(read_manifest(sources), config.train.target)
    protocol, split, config = _split(data, "cross" if sources.tested else protocol, file, config, accepted)
    refuse([*audit_labels(data.utterances, _published(data)), *leaks(data, split)], accepted)
    planned, known = [], Known()
    about = {**about, "manifest": data.inputs["utterances"]}
    rows = ablated(config, ablations, own)
    for ablation, changed in rows.items():
        require_valid(changed)
        require_needs(changed)
        if changed.train.target != config.train.target:
            raise PipelineError(f"ablation '{ablation}' changes train.target, and so who trains; --target is for that")
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
    """Protocol, folds and settings, of which a file of folds decides the protocol and the selection."""
    if file is None:
        return protocol, folds.make_folds(data, protocol, config.train.selection), config
    split, protocol, selection = folds.read_folds(file, data.utterances, sharing=not LEAKS.isdisjoint(accepted))
    return protocol, split, replace(config, train=replace(config.train, selection=selection))


def require_followed(config: Config) -> None:
    """Refuse changes of segments that an input of the model would not follow.

    Raises:
        PipelineError: names the inputs, the changes, and the settings that leave them out.
    """
    rows = [INPUTS[name] for name in config.model.reads]
    asked = [name for name in CHANGES if getattr(config.augment, name)]
    refused = [name for name in asked if any(name not in row.follows for row in rows)]
    if refused:
        stiff = [row.name for row in rows if not row.follows.issuperset(refused)]
        words = " ".join(f"--set augment.{name}=0" for name in refused)
        told = ", ".join(f"augment.{name}" for name in refused)
        raise PipelineError(f"{' and '.join(stiff)} cannot follow {told}; leave these out: {words}")
    alone = [row.name for row in rows if not row.joins]
    if alone and config.model.segments > 1:
        raise PipelineError(f"{' and '.join(alone)} is of single segments: --set model.segments=1")


def require_together(config: Config, sources: Sources) -> None:
    """Refuse what is for several corpora where there is one to train on.

    Raises:
        PipelineError: names the setting or the option.
    """
    if config.train.corpus_weights == "equal" and len(sources.trained) < 2:
        raise PipelineError(
            "train.corpus_weights='equal' is for several corpora that are trained together: --corpus A+B"
        )
    if sources.classes and len(sources.sets) < 2:
        raise PipelineError(
            "train --classes is for several corpora; the classes of one are chosen as its features are made: "
            "ser-pipeline features CORPUS ROOT --classes LIST"
        )


def findings_of(
    sources: Sources, split: Sequence[Fold], config: Config, accepted: Collection[str] = ()
) -> dict[str, Any]:
    """The audit of a corpus and its folds, with its audio where that is still where it was; for `audit.json`.

    Args:
        sources: the features of the corpus, or of several.
        split: the folds.
        config: for the length of a segment.
        accepted: names of errors that are taken as they are.
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
    """The corpus whose published counts hold for `data`; None where other classes were chosen, or it is one's own."""
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
    """How many utterances there are that folds could test: all, or those of the corpus that is tested on."""
    there = [utterance for utterance in data.utterances if utterance.emotion]
    return sum(not sources.tested or utterance.split == "test" for utterance in there)


def _selection(config: Config) -> str:
    """What chooses the epoch: "validation" or "test" rows, or "last" where nothing does."""
    chosen = config.train.selection
    return "last" if config.train.monitor == "last" and chosen == "validation" else chosen

"""The model card: what users must know about a model before they trust it, from the run's report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ser_pipeline.corpora import CORPORA
from ser_pipeline.corpora.corpus import Corpus
from ser_pipeline.corpora.ratings import DIMENSIONS
from ser_pipeline.errors import PipelineError
from ser_pipeline.evaluation.rated import RATED
from ser_pipeline.export import names
from ser_pipeline.report import Choice, Report, make_report, words
from ser_pipeline.report.groups import Group
from ser_pipeline.report.origins import published
from ser_pipeline.report.scores import Result, Score
from ser_pipeline.runs.reading import read_header, scan
from ser_pipeline.runs.records import RunHeader
from ser_pipeline.splits.protocols import FINAL
from ser_pipeline.text import plural

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LIMITS = (
    "The model classifies how an utterance sounds, in the classes of the corpus; it does not know what a person feels. "
    "Acted speech, a single language, few speakers and clean recordings give scores that other speech does not reach. "
    "The probabilities assume that the classes are about as frequent as in the corpus. Do not make decisions about "
    "people with the model. In the European Union, systems that infer emotions at work and in education are "
    "prohibited (Regulation 2024/1689, article 5)."
)
"""Limits of every model that its scores do not show."""

USE = """```python
from ser_pipeline import SpeechEmotion

model = SpeechEmotion.from_pretrained("FOLDER OR HUB NAME")
print(model("speech.wav").emotion)
```

Or with transformers, if ser-pipeline is installed, whose code `trust_remote_code` runs:

```python
from transformers import pipeline

listen = pipeline("audio-classification", "FOLDER OR HUB NAME", trust_remote_code=True)
```

Or on the command line: `ser-pipeline predict FOLDER speech.wav`.
"""
"""Use of a model folder."""

USE_ATTRIBUTES = """```python
from ser_pipeline import SpeechEmotion

model = SpeechEmotion.from_pretrained("FOLDER OR HUB NAME")
print(model("speech.wav").attributes)
```

Or on the command line: `ser-pipeline predict FOLDER speech.wav`.
"""
"""Use of a model folder that predicts only attributes."""

WITHOUT_TORCH = "\nWithout torch: `ser-pipeline predict model.onnx speech.wav`, or onnxruntime alone.\n"
"""Use of the ONNX graph in a model folder."""

UNTESTED = (
    "This model was trained on the whole corpus and was not tested, so it has no scores. `ser-pipeline train` without "
    "--final measures the scores of its settings; export the model again after that to include them.\n"
)
"""Text in place of the scores of a final model whose settings were not tested."""

UNREAD = "The run is not finished, or its scores cannot be read.\n"
"""Text in place of the scores of any other run without them."""

MOST_FINDINGS = 12
"""Largest number of findings in a card."""


def run_report(run: Path) -> Report | None:
    """Return the report on a single run; None if it has no results yet.

    For a final model, which is not tested, it is the report on cross-validation runs with the same settings in the same
    folder.
    """
    try:
        header = read_header(run)
        names = _tested_alike(header) if header.protocol == FINAL else (run.name,)
        return published(make_report(run.parent, Choice(corpus=header.corpus, patterns=names))) if names else None
    except PipelineError:
        return None


def _tested_alike(final: RunHeader) -> tuple[str, ...]:
    """Return the names of finished runs with a final model's features, settings and ablation, and any seed."""
    return tuple(
        other.path.name
        for other in scan(final.path.parent)[0]
        if other.whole
        and not other.test_corpus
        and (other.features, other.settings, other.ablation) == (final.features, final.settings, final.ablation)
    )


def card(
    about: Mapping[str, Any],
    report: Report | None,
    files: Sequence[str],
    cost: Sequence[str],
    agreed: Sequence[str] = (),
) -> str:
    """Return the text of README.md, with the metadata that the Hugging Face hub reads.

    Args:
        about: contents of `config.json`.
        report: report on the run; None if it has no scores.
        files: names of the folder's files.
        cost: lines about the size, time and memory of the model.
        agreed: results of the checks of the ONNX graphs, one line each.
    """
    group, result = (report.experiments[0].main if report and report.experiments else None) or (None, None)
    title, final = about["run"]["title"], about["run"]["protocol"] == FINAL
    parts = [
        _metadata(about, None if final else result),
        f"# Speech emotion recognition, trained on {title}\n",
        "".join(f"{line}\n" for line in _what(about)),
        f"## Use\n\n{_use(about, files)}",
        f"## Data\n\n{_data(about, result)}",
        f"## Training\n\n{_protocol(about)}",
        f"## Scores\n\n{_scores(about, group, result) if about['id2label'] else ''}{_rated(report)}",
        f"## Findings\n\n{_findings(report)}",
        "## Cost\n\n" + "".join(f"- {line}\n" for line in cost),
        f"## Limits\n\n{LIMITS}\n",
        *(["## ONNX\n\n" + "".join(f"- {line}\n" for line in agreed)] if agreed else []),
    ]
    return "\n".join(parts)


def _metadata(about: Mapping[str, Any], result: Result | None) -> str:
    from huggingface_hub import ModelCardData

    scores = list(_measured(about["run"], result)) if result else None
    data = ModelCardData(
        library_name="ser-pipeline",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "audio"],
        model_name=f"ser-pipeline-{about['run']['corpus']}" if scores else None,
        eval_results=scores,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _measured(run: Mapping[str, Any], result: Result) -> Iterator[EvalResult]:
    """Yield the scores in the form that the hub reads."""
    from huggingface_hub import EvalResult

    for name, metric in (("wa", "accuracy"), ("ua", "recall")):
        yield EvalResult(
            task_type="audio-classification",
            dataset_type=run["corpus"],
            dataset_name=run["title"],
            metric_type=metric,
            metric_name=name.upper(),
            metric_value=round(result.scores[name].pooled, 4),
        )


def _what(about: Mapping[str, Any]) -> Iterator[str]:
    run, folds = about["run"], about["folds"]
    labels = ", ".join(about["id2label"].values())
    members = (
        "one model"
        if run["protocol"] == FINAL
        else "the model of one fold"
        if len(folds) == 1
        else f"the models of {plural(len(folds), 'fold')}, averaged"
    )
    yield f"Takes speech sampled at {about['sampling_rate'] / 1000:g} kHz and predicts {_told(about, labels)}. It is"
    yield f"{members} ({', '.join(folds)}); inputs: {words.inputs(about['settings']['model']['inputs'])}."
    yield f"Trained with ser-pipeline {about['ser_pipeline_version']}, preset `{run['preset']}`, run `{run['name']}`."


def _told(about: Mapping[str, Any], labels: str) -> str:
    """Return what the models predict, in words."""
    low, high = about.get("scale", (0, 0))
    attributes = f"{', '.join(DIMENSIONS)} on a scale of {low:g} to {high:g}" if low < high else ""
    return " and ".join(filter(None, (f"a probability for each of {labels}" if labels else "", attributes)))


def _use(about: Mapping[str, Any], files: Sequence[str]) -> str:
    if not about["id2label"]:
        return USE_ATTRIBUTES
    return USE + (WITHOUT_TORCH if names.ONNX in files else "")


def _data(about: Mapping[str, Any], result: Result | None) -> str:
    run = about["run"]
    corpus: Corpus | None = CORPORA.get(run["corpus"])
    lines = [f"- Corpus: {run['title']}" + (f" ({corpus.source})" if corpus and corpus.source else "")]
    if run["synthetic"]:
        lines.append("- **Synthetic speech, generated by a program: the scores say nothing about real speech.**")
    if corpus and corpus.licence:
        lines.append(f"- Licence of the corpus: {corpus.licence}")
    else:
        lines.append("- Licence of the corpus: not known to ser-pipeline; ask its owner.")
    if result:
        lines.append(f"- {plural(result.utterances, 'utterance')} of {plural(result.speakers, 'speaker')}")
    if about["id2label"]:
        lines.append(f"- Classes: {', '.join(about['id2label'].values())}")
    return "\n".join(lines) + "\n"


def _protocol(about: Mapping[str, Any]) -> str:
    run = about["run"]
    lines = [
        f"- Protocol: {words.protocol(run['protocol'])} ({plural(run['folds'], 'fold')}), seed {run['seed']}",
        f"- Epoch of each fold: {words.epoch(run['selection'])}",
        f"- Settings: in `config.json`, key `settings`; ablation `{run['ablation']}`",
        f"- Segments of {about['segment'] / about['sampling_rate']:g} s"
        if about["segment"]
        else "- Whole utterances, without segments",
        f"- Arithmetic: {run['precision']}; device: {run['device']}",
    ]
    if about["commit"]:
        lines.append(f"- Commit of ser-pipeline: {about['commit']}")
    return "\n".join(lines) + "\n"


def _scores(about: Mapping[str, Any], group: Group | None, result: Result | None) -> str:
    """Return the table of scores, with what they measure and what they do not.

    Args:
        about: contents of `config.json`.
        group: the runs with the scores; None if there are none.
        result: the scores; None if there are none.
    """
    final = about["run"]["protocol"] == FINAL
    if group is None or result is None:
        return UNTESTED if final else UNREAD
    lines = ["| score | pooled, % | 95 % interval |", "|---|---|---|"]
    lines += [_score(name.upper() if len(name) == 2 else "macro F1", score) for name, score in result.scores.items()]
    unit = words.clusters(group.header.protocol, result.clusters, result.crossed)
    lines += [
        "",
        f"Chance is {100 * result.chance:.1f} % UA. The intervals are computed by the jackknife over {unit}. The "
        "scores are those of the run's folds, each of which was tested on data that it was not trained on.",
    ]
    if final:
        named = ", ".join(f"`{run.header.name}`" for run in group.runs)
        lines.append(
            f"This model was not tested. The scores are those of {named}: models with the same settings, which were "
            "trained on a part of the corpus."
        )
    elif len(about["folds"]) > 1:
        lines.append(
            "The average of the folds' models has no score of its own, because most of them were trained on any given "
            "recording of the corpus. Test it on other speakers."
        )
    recalls = zip(about["id2label"].values(), result.recalls.tolist(), strict=True)
    lines += ["", "Recalls: " + ", ".join(f"{label} {100 * value:.0f} %" for label, value in recalls) + "."]
    return "\n".join(lines) + "\n"


def _rated(report: Report | None) -> str:
    """Return the table of the first model's scores against raters, or ""."""
    lines = ["", "| against raters | pooled | 95 % interval |", "|---|---|---|"]
    for panel in report.rated if report else ():
        for row in (row for row in panel.rows if row.model == panel.rows[0].model):
            for name, one in row.measures.items():
                low, high, why = one.interval.low, one.interval.high, one.interval.why
                between = why or f"{low:.3f} to {high:.3f}"
                lines.append(f"| {row.what}, {RATED[panel.kind][name].words} | {one.pooled:.3f} | {between} |")
    return "\n".join(lines) + "\n" if len(lines) > 3 else ""


def _score(name: str, score: Score) -> str:
    interval = score.interval
    between = interval.why or f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
    return f"| {name} | {100 * score.pooled:.1f} | {between} |"


def _findings(report: Report | None) -> str:
    """Return the findings of the audit and the report, including leaks between folds."""
    if report is None:
        return "The run has no report.\n"
    lines = [
        f"- {finding.severity}: {finding.message}" + (f" ({finding.cost})" if finding.cost else "")
        for finding in report.findings[:MOST_FINDINGS]
    ]
    more = len(report.findings) - MOST_FINDINGS
    lines += [f"- and {more} more in the run's report"] if more > 0 else []
    if not any(finding.name == "leak" for finding in report.findings):
        lines.append("- The check of the folds found no leak of utterances, speakers or dialogues.")
    return "\n".join(lines) + "\n"

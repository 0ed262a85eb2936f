"""The model card: what a stranger must know of a model before trusting it, from the run's own report."""

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
    "It names what an utterance sounds like, in the classes that the corpus was labelled with; it does not know what "
    "a person feels. Acted speech, one language, few speakers and clean recordings make scores that other speech does "
    "not reach. Its probabilities are those of the corpus's classes in about the corpus's shares. Do not decide about "
    "people with it; in the European Union, systems that infer emotions at work and in education are prohibited "
    "(Regulation 2024/1689, article 5)."
)
"""What no score says."""

USE = """```python
from ser_pipeline import SpeechEmotion

model = SpeechEmotion.from_pretrained("FOLDER OR HUB NAME")
print(model("speech.wav").emotion)
```

Or with transformers, where ser-pipeline is installed (its code is what `trust_remote_code` runs):

```python
from transformers import pipeline

listen = pipeline("audio-classification", "FOLDER OR HUB NAME", trust_remote_code=True)
```

Or on the command line: `ser-pipeline predict FOLDER speech.wav`.
"""
"""How every folder is used."""

USE_ATTRIBUTES = """```python
from ser_pipeline import SpeechEmotion

model = SpeechEmotion.from_pretrained("FOLDER OR HUB NAME")
print(model("speech.wav").attributes)
```

Or on the command line: `ser-pipeline predict FOLDER speech.wav`.
"""
"""How one is used that tells attributes alone."""

WITHOUT_TORCH = "\nWithout torch: `ser-pipeline predict model.onnx speech.wav`, or onnxruntime alone.\n"
"""How one with an ONNX graph is used, too."""

UNTESTED = (
    "This model learned from the corpus and was tested on nothing: it has no scores. Those of its settings are "
    "measured by `ser-pipeline train` without --final; a card that is written after that has them.\n"
)
"""What stands for the scores of a final model whose settings were not tested."""

UNREAD = "The run is not finished, or its scores cannot be read: there are none to report.\n"
"""What stands for the scores of another."""

MOST_FINDINGS = 12
"""Findings that are written out."""


def run_report(run: Path) -> Report | None:
    """What the report says of a whole run alone; None where it has nothing to say yet.

    Of a final model, which tests nothing: of the runs beside it that left out what they tested, in the same settings.
    """
    try:
        header = read_header(run)
        names = _tested_alike(header) if header.protocol == FINAL else (run.name,)
        return published(make_report(run.parent, Choice(corpus=header.corpus, patterns=names))) if names else None
    except PipelineError:
        return None


def _tested_alike(final: RunHeader) -> tuple[str, ...]:
    """Names of the whole runs beside a final model that have its features, settings and ablation, whatever the seed."""
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
    """The text of README.md, with the metadata that the Hugging Face hub reads.

    Args:
        about: what `config.json` says.
        report: of the run; None where it has no scores.
        files: names of the folder's files.
        cost: what the model costs, a line each.
        agreed: what the checks of the ONNX graphs say.
    """
    group, result = (report.experiments[0].main if report and report.experiments else None) or (None, None)
    title, final = about["run"]["title"], about["run"]["protocol"] == FINAL
    parts = [
        _metadata(about, None if final else result),
        f"# Emotions of speech, learned from {title}\n",
        "".join(f"{line}\n" for line in _what(about)),
        f"## Use\n\n{_use(about, files)}",
        f"## Data\n\n{_data(about, result)}",
        f"## How it was trained\n\n{_protocol(about)}",
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
    """The scores in the form that the hub reads."""
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
    yield f"It hears speech of {about['sampling_rate'] / 1000:g} kHz and gives {_told(about, labels)}. It is"
    yield f"{members} ({', '.join(folds)}), with {words.inputs(about['settings']['model']['inputs'])} for inputs."
    yield f"Made with ser-pipeline {about['ser_pipeline_version']}, preset `{run['preset']}`, run `{run['name']}`."


def _told(about: Mapping[str, Any], labels: str) -> str:
    """What the models say of a recording."""
    low, high = about.get("scale", (0, 0))
    attributes = f"{', '.join(DIMENSIONS)} on a scale of {low:g} to {high:g}" if low < high else ""
    return " and ".join(filter(None, (f"a probability to each of {labels}" if labels else "", attributes)))


def _use(about: Mapping[str, Any], files: Sequence[str]) -> str:
    if not about["id2label"]:
        return USE_ATTRIBUTES
    return USE + (WITHOUT_TORCH if names.ONNX in files else "")


def _data(about: Mapping[str, Any], result: Result | None) -> str:
    run = about["run"]
    corpus: Corpus | None = CORPORA.get(run["corpus"])
    lines = [f"- Corpus: {run['title']}" + (f" ({corpus.source})" if corpus and corpus.source else "")]
    if run["synthetic"]:
        lines.append("- **Synthetic speech, made by a program: nothing here is about people.**")
    if corpus and corpus.licence:
        lines.append(f"- Licence of the corpus: {corpus.licence}")
    else:
        lines.append("- Licence of the corpus: not known to ser-pipeline; ask who gave it to you.")
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
        f"- Settings: in `config.json`, key `settings`; changed by the ablation row `{run['ablation']}`",
        f"- Segments of {about['segment'] / about['sampling_rate']:g} s"
        if about["segment"]
        else "- Utterances are heard whole",
        f"- Arithmetic: {run['precision']}; device: {run['device']}",
    ]
    if about["commit"]:
        lines.append(f"- Commit of ser-pipeline: {about['commit']}")
    return "\n".join(lines) + "\n"


def _scores(about: Mapping[str, Any], group: Group | None, result: Result | None) -> str:
    """The table of scores, of what, and what they do not say.

    Args:
        about: what `config.json` says.
        group: the runs that have the scores; None without any.
        result: their scores; None without any.
    """
    final = about["run"]["protocol"] == FINAL
    if group is None or result is None:
        return UNTESTED if final else UNREAD
    lines = ["| score | pooled, % | 95 % interval |", "|---|---|---|"]
    lines += [_score(name.upper() if len(name) == 2 else "macro F1", score) for name, score in result.scores.items()]
    unit = words.clusters(group.header.protocol, result.clusters, result.crossed)
    lines += [
        "",
        f"Chance is {100 * result.chance:.1f} % UA. The intervals are those of a jackknife over {unit}. They are of "
        "the run's folds, each tested on what it had not learned from.",
    ]
    if final:
        named = ", ".join(f"`{run.header.name}`" for run in group.runs)
        lines.append(
            f"They are not of this model, which was tested on nothing, but of {named}: models of the same settings, "
            "which learned from less of the corpus."
        )
    elif len(about["folds"]) > 1:
        lines.append(
            "The average of the folds' models has no score of its own: each recording of the corpus trained most of "
            "them. Other speakers' speech is where it is to be tested."
        )
    recalls = zip(about["id2label"].values(), result.recalls.tolist(), strict=True)
    lines += ["", "Recalls: " + ", ".join(f"{label} {100 * value:.0f} %" for label, value in recalls) + "."]
    return "\n".join(lines) + "\n"


def _rated(report: Report | None) -> str:
    """The table of the first model's scores against raters; "" without any."""
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
    """What the audit and the report found: leaks between folds among them."""
    if report is None:
        return "The run has no report.\n"
    lines = [
        f"- {finding.severity}: {finding.message}" + (f" ({finding.cost})" if finding.cost else "")
        for finding in report.findings[:MOST_FINDINGS]
    ]
    more = len(report.findings) - MOST_FINDINGS
    lines += [f"- and {more} more, in the run's report"] if more > 0 else []
    if not any(finding.name == "leak" for finding in report.findings):
        lines.append("- The check of the folds found no utterance, speaker or dialogue where it must not be.")
    return "\n".join(lines) + "\n"

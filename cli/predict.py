"""`ser-pipeline predict`: predict the emotions of recordings with a run's models."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ser_pipeline.runs.layout import CONTENTS
from ser_pipeline.text import plural

from . import completion, options
from .terminal import bar, printing, say, start_log

if TYPE_CHECKING:
    from ser_pipeline.predict.answers import Answer, Unanswered
    from ser_pipeline.predict.drawing import Pictures
    from ser_pipeline.predict.excerpts import Question
    from ser_pipeline.predict.heard import Heard
    from ser_pipeline.predict.predictor import Predictor

    from .answers import Writer


class ChannelsType(click.ParamType[str | int]):
    """`mix`, `split` or the number of a channel."""

    name = "mix|split|N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """Return the word, or the channel's number, counted from 1."""
        if isinstance(value, int) or value in ("mix", "split"):
            return value
        if str(value).isdecimal() and int(str(value)) > 0:
            return int(str(value))
        return self.fail(f"'{value}' is not mix, split or the number of a channel, counted from 1", param, ctx)


@click.command()
@click.argument("names", metavar="[RUN] AUDIO…", nargs=-1, required=True, shell_complete=completion.RUNS_OR_FILES)
@click.option(
    "--fold", "folds", multiple=True, help="Use only this fold's model; may be repeated.  [default: all, averaged]"
)
@options.runs
@options.device("cuda, mps or cpu; auto: the first available.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of the models; auto: that of training, if the device is faster in it.",
)
@click.option("--json", is_flag=True, help="Print one JSON array instead of a table.")
@click.option("--jsonl", is_flag=True, help="Print one JSON object per line.")
@click.option("--csv", is_flag=True, help="Print CSV with a header.")
@click.option("--timeline", is_flag=True, help="Print one line per window of a recording.")
@click.option(
    "--window",
    type=options.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Length of a window.  [default: the model's segment]",
)
@click.option(
    "--stride",
    type=options.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Time between the starts of two windows.  [default: the window's length]",
)
@click.option(
    "--channels",
    type=ChannelsType(),
    default="mix",
    show_default=True,
    help="Mean of the channels, each channel, or one, counted from 1.",
)
@click.option(
    "--turns",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Who spoke when, as RTTM or CSV; prints one line per turn.",
)
@click.option(
    "--unsure",
    type=options.FloatRange(0, 1),
    metavar="SHARE",
    help="Give an answer only at a confidence from which this share of answers was right on validation speakers.",
)
@click.option(
    "--plot", type=options.FOLDER, help="Folder for plots of the probabilities over the waveform of each recording."
)
@click.option(
    "--near-copies",
    is_flag=True,
    help="Compare the sound of the files with the run's corpus, which must be decoded.",
)
@options.quiet
def predict(
    names: tuple[str, ...],
    folds: tuple[str, ...],
    runs_root: Path,
    device: str,
    precision: str,
    json: bool,
    jsonl: bool,
    csv: bool,
    timeline: bool,
    window: float | None,
    stride: float | None,
    channels: str | int,
    turns: Path | None,
    unsure: float | None,
    plot: Path | None,
    near_copies: bool,
    quiet: bool,
) -> None:
    """Predict the emotions of recordings.

    The models are those of RUN, or of the newest run. AUDIO are files of any format, sampling rate, length and number
    of channels, folders of such files, or - for standard input. The predictions of all folds' models are averaged;
    `spread` is the standard deviation of the probability over these models. For a speaker of the corpus, choose the
    fold that held the speaker out with --fold. The command warns about a file that models were trained on, which it
    recognises by its content, and with --near-copies about modified copies. An unreadable recording gets an error line,
    and the others are predicted. docs/predict.md describes the formats.

    \b
    Examples:
      ser-pipeline predict call.wav
      ser-pipeline predict runs/emodb-speaker-full-s0-0a1b2c3d4e5f calls/ --csv
      ser-pipeline predict call.wav --timeline --window 3 --stride 1 --plot out
      ser-pipeline predict call.wav --turns call.rttm --channels split
    """
    forms = [name for name, asked in (("json", json), ("jsonl", jsonl), ("csv", csv)) if asked]
    if len(forms) > 1:
        raise click.UsageError(f"choose one of {' and '.join(f'--{name}' for name in forms)}")
    if not timeline and (window or stride):
        raise click.UsageError("--window and --stride need --timeline")
    from ser_pipeline.export.names import is_graph

    start_log(quiet)
    run, named = _run(names, folds, runs_root, quiet)
    if is_graph(run) and (folds or precision != "auto"):
        raise click.UsageError(f"--fold and --precision need a run or a model folder; {run.name} is an ONNX graph")
    from ser_pipeline.predict.excerpts import Question
    from ser_pipeline.predict.opening import load
    from ser_pipeline.predict.recordings import listed
    from ser_pipeline.predict.turns import read_turns

    said = read_turns(turns) if turns else ()
    sources = listed(named)
    predictor = load(run, device, folds, precision)
    if not predictor.learned.kept:
        _say(
            f"{run} has no {CONTENTS}: an earlier version trained it, so files of its training set are not recognised",
            quiet,
        )
    least = 0.0
    if unsure is not None:
        threshold = predictor.threshold(unsure)
        least = threshold.confidence
        _say(str(threshold), quiet)
    size = (window or predictor.window) if timeline else None
    question = Question(size, stride, channels, said, least)  # type: ignore[arg-type]
    copies = _compare(run, predictor, sources, quiet) if near_copies else {}
    writer = _writer(forms, predictor, sources, question)
    failed = _print(predictor, sources, question, writer, plot, copies, quiet)
    if failed:
        say(f"error: no prediction for {failed} of {plural(len(sources), 'recording')}")
        raise click.exceptions.Exit(1)


def _compare(run: Path, predictor: Predictor, sources: Sequence[str], quiet: bool) -> dict[str, Heard]:
    """Return the files that are near-copies of training utterances, by name, and print a warning for each."""
    from ser_pipeline.predict.heard import heard_before
    from ser_pipeline.predict.recordings import STDIN
    from ser_pipeline.runs import layout

    if not (run / layout.RUN).is_file():
        raise click.UsageError(f"--near-copies needs a run; {run.name} does not list its training set")
    files = [name for name in sources if name != STDIN]
    with bar("compare", "recordings", quiet) as progress:
        found = heard_before(run, files, predictor.folds, progress=progress)
    for one in found:
        held_out = f"; --fold {shlex.quote(one.left_out_by)} uses one that was not" if one.left_out_by else ""
        click.echo(
            f"warning: {one.file} contains the sound of {one.utterance} (correlation {one.correlation:.3f}), which "
            f"models of this run were trained on{held_out}",
            err=True,
        )
    _say(f"{len(found)} of {len(files)} files are near-copies of utterances that the models were trained on", quiet)
    return {one.file: one for one in found}


def _run(names: Sequence[str], folds: Sequence[str], root: Path, quiet: bool) -> tuple[Path, Sequence[str]]:
    """Return the run, the newest one with `folds` if none is named, and the names of the recordings."""
    from ser_pipeline.export.names import is_graph, is_model_folder
    from ser_pipeline.predict.recordings import AUDIO, STDIN
    from ser_pipeline.runs import layout

    first = Path(names[0])
    missing = len(names) > 1 and not first.exists() and names[0] != STDIN and first.suffix.lower() not in AUDIO
    if missing or is_graph(first) or (first / layout.RUN).is_file() or is_model_folder(first):
        if len(names) == 1:
            raise click.UsageError("name the recordings after the run: files, folders, or -")
        return first, names[1:]
    from ser_pipeline.runs.reading import newest

    run, count = newest(root, folds)
    which = f" with fold {', '.join(folds)}" if folds else ""
    _say(f"{run}" + (f", the newest of {count} runs{which}" if count > 1 else ""), quiet)
    return run, names


def _writer(forms: Sequence[str], predictor: Predictor, sources: Sequence[str], question: Question) -> Writer:
    from ser_pipeline.corpora.ratings import DIMENSIONS

    from .answers import CsvWriter, JsonLinesWriter, JsonWriter, TableWriter

    attributes = DIMENSIONS if predictor.scale else ()
    if forms == ["json"]:
        return JsonWriter(sys.stdout)
    if forms == ["jsonl"]:
        return JsonLinesWriter(sys.stdout)
    if forms == ["csv"]:
        return CsvWriter(sys.stdout, predictor.labels, attributes)
    shown = {
        "channel": question.channels != "mix",
        "speaker": bool(question.turns),
        "time": bool(question.turns or question.window),
        "spread": len(predictor.folds) > 1 and bool(predictor.labels),
        "emotion": bool(predictor.labels),
    }
    return TableWriter(sys.stdout, predictor.labels, sources, shown, attributes)


def _print(
    predictor: Predictor,
    sources: Sequence[str],
    question: Question,
    writer: Writer,
    plot: Path | None,
    copies: Mapping[str, Heard],
    quiet: bool,
) -> int:
    """Print every answer, with a note if its file is in `copies`; return the number of files with an error."""
    pictures = _pictures(plot, predictor)
    failed: set[str] = set()
    learned: dict[str, str] = {}
    with bar("predict", "recordings", quiet) as progress:
        heard = pictures.hear if pictures else lambda recording: None
        for answer in predictor.ask(sources, question, progress=progress, heard=heard):
            _enter(answer, failed, learned)
            with printing():
                writer.write(_noted(answer, copies))
            if pictures:
                pictures.add(answer)
    writer.close()
    if pictures:
        for file in pictures.draw():
            _say(str(file), quiet)
    if learned and not quiet:
        say(_warning(learned))
    return len(failed)


def _noted(answer: Answer | Unanswered, copies: Mapping[str, Heard]) -> Answer | Unanswered:
    """Return the answer, with its file's near-copy added to its note."""
    from ser_pipeline.predict.answers import Unanswered

    if isinstance(answer, Unanswered) or answer.file not in copies:
        return answer
    return replace(answer, note="; ".join(filter(None, [answer.note, copies[answer.file].note])))


def _pictures(folder: Path | None, predictor: Predictor) -> Pictures | None:
    if folder is None:
        return None
    from ser_pipeline.predict.drawing import Pictures

    if not predictor.labels:
        raise click.UsageError("--plot draws probabilities of classes, but these models predict only attributes")
    return Pictures(folder, predictor.labels, predictor.rate)


def _enter(answer: Answer | Unanswered, failed: set[str], learned: dict[str, str]) -> None:
    """Note an answer for the messages at the end: files with an error, and files of the training set."""
    from ser_pipeline.predict.answers import Unanswered

    if isinstance(answer, Unanswered):
        failed.add(answer.file)
    elif answer.left_out_by:
        learned[Path(answer.file).name] = answer.left_out_by


def _say(line: str, quiet: bool) -> None:
    if not quiet:
        say(line)


def _warning(learned: dict[str, str]) -> str:
    """Return the warning about files that models were trained on; `learned` has the fold that held out each file."""
    from ser_pipeline.text import few

    name, fold = next(iter(learned.items()))
    files = few(list(learned), 1) + (" are files" if len(learned) > 1 else " is a file")
    held_out = f"--fold {shlex.quote(fold)} uses the one that held {name} out"
    return f"warning: {files} that models of this run were trained on; {held_out}"

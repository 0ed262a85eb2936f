"""Every number for a setting leads to a result or one error line, in `features`, in `train` and in a training step.

Accepted settings must not need more than a gigabyte. A long alarm ends a hang, which is a failure.
"""

from __future__ import annotations

import itertools
import math
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as some
from ser_pipeline.cli import main

import ser_pipeline
from ser_pipeline import config
from ser_pipeline.config import Config
from ser_pipeline.data.batch import Batch
from ser_pipeline.device import autocasting
from ser_pipeline.errors import PipelineError
from ser_pipeline.inputs import FRAMES, INPUTS, VECTOR
from ser_pipeline.limits import declaration
from ser_pipeline.model import build_model
from ser_pipeline.model.needs import require_needs
from ser_pipeline.targets import TARGETS
from ser_pipeline.training.objective import Objective
from ser_pipeline.training.plan import require_followed
from ser_pipeline.training.step import Step
from support.sounds import tone, write_emodb

GIB = 2**30
HANG = 120  # seconds after which a case counts as a hang
CLASSES = 2

VALUES = (-1, 0, 1, 1e-9, 10**9, 10**308, math.nan, math.inf)

SMALL = (
    "audio.segment=16000",
    "model.small_width=4",
    "model.small_layers=1",
    "model.width=4",
    "train.batch=4",
    "model.lstm_width=4",
)
BASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "demo": ("demo", SMALL),
    "every input": ("scratch", (*SMALL, 'model.inputs=["mfcc","spectrogram","logmel","waveform"]', "augment.speed=0")),
    "paper": (
        "paper",
        (*SMALL, "model.spectrogram_weights=none", "model.speech_encoder=small", "augment.frame_masks=1"),
    ),
}
"""Name -> preset and settings of a small model, so that the cost of a number is visible."""


def items(table: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    for item in fields(table):
        value = getattr(table, item.name)
        yield from items(value, f"{prefix}{item.name}.") if is_dataclass(value) else [(f"{prefix}{item.name}", item)]


NUMBERS = [
    name
    for name, item in items(Config())
    if (found := declaration(item)) and (found.least is not None or isinstance((*found.choices, "")[0], int))
]
CASES = list(itertools.product(NUMBERS, VALUES))


def pair(name: str, value: float) -> str:
    """Format a value for `--set`: whole numbers as digits, even for float settings."""
    return f"{name}={value}"


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """Fail tests that hang or need more than a gigabyte of additional memory."""

    def end(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done within {HANG} s")

    before = signal.signal(signal.SIGALRM, end)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 < GIB


def loaded(base: str, *pairs: str) -> Config | None:
    """Return the config, or None if it is refused."""
    preset, small = BASES[base]
    try:
        return config.load(preset, None, [*small, *pairs])
    except PipelineError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400
        return None


def test_every_number_is_named_here() -> None:
    assert len(NUMBERS) >= 48
    assert {"audio.segment", "features.mfcc.deltas", "train.lr", "augment.gain", "seed"} <= set(NUMBERS)


@pytest.mark.parametrize("base", BASES)
def test_a_number_that_is_no_number_or_far_out_is_never_taken(base: str) -> None:
    assert loaded(base) is not None
    for name, value in CASES:
        if not math.isfinite(value) or value >= 10**308:
            assert loaded(base, pair(name, value)) is None, (name, value)
    taken = {name for name, value in CASES if value == 10**9 and loaded(base, pair(name, value))}
    assert taken == {"seed"}


@pytest.mark.slow(reason="runs some hundred training steps")
@pytest.mark.parametrize(
    ("base", "concerned", "least"),
    [
        ("demo", ("audio", "features", "model", "train", "augment", "seed"), 90),
        ("every input", ("audio", "features", "augment"), 30),
        ("paper", ("audio", "features.spectrogram", "model.lstm", "model.width", "augment.frame"), 12),
    ],
)
def test_a_step_with_any_number_is_a_result_or_one_line(base: str, concerned: tuple[str, ...], least: int) -> None:
    assert step(loaded(base))
    done = [name for name, value in CASES if name.startswith(concerned) and step(loaded(base, pair(name, value)))]
    assert len(done) >= least, "refused settings take no step"


@pytest.mark.parametrize("base", ["demo", "every input"])
@trials(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(chosen=some.dictionaries(some.sampled_from(NUMBERS), some.sampled_from(VALUES[:5]), max_size=4))
def test_a_step_with_several_numbers_is_a_result_or_one_line(base: str, chosen: dict[str, float]) -> None:
    step(loaded(base, *(pair(name, value) for name, value in chosen.items())))


def step(chosen: Config | None) -> bool:
    """Return whether a model of `chosen` takes a step and answers; False if it is refused with one line."""
    signal.alarm(HANG)
    if chosen is None:
        return False
    try:
        require_followed(chosen)
        require_needs(chosen)
        batch = segments(chosen)
        torch.manual_seed(chosen.seed)
        model = build_model(chosen.model, audio=chosen.model_audio, features=chosen.features, classes=CLASSES)
    except PipelineError as error:
        assert "\n" not in str(error)
        return False
    assert sum(parameter.nbytes for parameter in model.parameters()) < GIB
    model.fit_statistics([batch])
    device = torch.device("cpu")
    trained = Step(
        model,
        chosen,
        objective=Objective(TARGETS["class"], CLASSES, torch.eye(CLASSES)[batch.label], chosen.train.label_smoothing),
        steps=2 * chosen.train.epochs,
        weights=None,
        autocast=autocasting(chosen, device),
    )
    loss = trained(batch, len(batch), len(batch))
    with torch.inference_mode():
        logits = model.eval()(batch).logits
    assert logits.shape == (len(batch), CLASSES)
    assert loss.isfinite().all()
    assert logits.isfinite().all()
    return True


def segments(chosen: Config) -> Batch:
    """Return segments as from a store, of utterances that end within the first and within the third."""
    heard, rows = chosen.model_audio, []
    for number, length in enumerate((0.7, 2.3)):
        signal = tone(number, min(4.0, length * heard.seconds), 120.0).astype(np.float32)
        made = {
            name: INPUTS[name].rows(signal, heard, getattr(chosen.features, name, None))
            for name in chosen.model.reads
            if INPUTS[name].form not in (FRAMES, VECTOR)
        }
        assert sum(row.nbytes for row in made.values()) < GIB
        rows.append({name: torch.from_numpy(row[:1]) for name, row in made.items()})
    inputs = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return Batch(inputs, torch.tensor([heard.segment // 2, heard.segment]), torch.tensor([0, 1]), torch.arange(2))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_emodb(tmp_path_factory.mktemp("tiny"), speakers=3, takes=1, seconds=0.3)


@pytest.fixture
def command(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return the command in an empty folder; it ends with a result or one line that begins with Error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SER_PIPELINE_CACHE", raising=False)

    def run(*args: str) -> Result:
        signal.alarm(HANG)
        result = CliRunner().invoke(main, list(args))
        assert result.exception is None or isinstance(result.exception, SystemExit), (args, result.exception)
        if result.exit_code:
            said = result.stderr.strip().splitlines()
            assert [line.startswith("Error: ") for line in said].count(True) == 1, (args, said)
            assert said[-1].startswith("Error: "), (args, said)
        return result

    return run


@pytest.mark.slow(reason="runs some hundred commands")
def test_features_and_a_dry_run_with_any_number_are_a_result_or_one_line(
    command: Callable[..., Result], corpus: Path
) -> None:
    preset, small = BASES["demo"]
    layers = ("--preset", preset, *(word for one in small for word in ("--set", one)))

    def both(*pairs: str) -> list[int]:
        sets = [word for one in pairs for word in ("--set", one)]
        made = command("features", "emodb", str(corpus), "-q", "--jobs", "1", *layers, *sets)
        dry = (
            command("train", "--dry-run", "--accept", "counts", "-q", "--device", "cpu", *layers, *sets)
            if not made.exit_code
            else made
        )
        return [made.exit_code, dry.exit_code]

    assert both() == [0, 0]
    for name, value in CASES:
        if name.startswith(("audio", "features")):
            both(pair(name, value))
    assert both() == [0, 0]
    for name, value in CASES:
        if not name.startswith(("audio", "features")):
            command(
                "train", "--dry-run", "--accept", "counts", "-q", "--device", "cpu", *layers, "--set", pair(name, value)
            )


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("features", "demo"), "--jobs"),
        (("audit", "demo"), "--jobs"),
        (("train", "--dry-run"), "--jobs"),
        (("train", "--dry-run"), "--jobs-per-gpu"),
        (("train", "--dry-run"), "--seeds"),
        (("train", "--dry-run"), "--micro-batch"),
    ],
)
@pytest.mark.parametrize("value", [-1, 0, "1e-9", 10**9, 10**308, "nan", "inf"])
def test_a_number_of_the_command_far_out_is_refused_before_anything_is_done(
    words: tuple[str, ...], option: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [*words, option, str(value)])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
    assert not list(tmp_path.iterdir())


USAGE = ["0", "1", "-1", "1e9", str(10**9), str(10**308), "9" * 5000, "nan"]


@pytest.mark.parametrize(("number", "status"), [*((number, 2) for number in USAGE), ("999999", 1)])
def test_any_number_of_groups_is_a_result_or_one_line(
    command: Callable[..., Result], corpus: Path, number: str, status: int
) -> None:
    result = command("folds", "emodb", str(corpus), "--protocol", f"group-{number}")
    assert result.exit_code == status


@pytest.mark.parametrize("options", [{"seeds": 0}, {"seeds": 10**9}, {"jobs": -1}, {"jobs": 10**308}])
def test_a_number_from_python_far_out_is_refused_before_anything_is_done(options: dict[str, int]) -> None:
    with pytest.raises(PipelineError, match=rf"^{next(iter(options))} must be 1 to \d+, not "):
        ser_pipeline.train("demo", **options)  # type: ignore[arg-type]
    if "jobs" in options:
        with pytest.raises(PipelineError, match=r"^jobs must be 1 to 1024, not "):
            ser_pipeline.extract("demo", **options)  # type: ignore[arg-type]

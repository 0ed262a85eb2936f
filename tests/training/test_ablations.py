import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers
from click.testing import Result

from ser_pipeline import config as settings
from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech import FAMILIES
from ser_pipeline.training.ablations import ABLATIONS, BASELINES, ENCODERS_OF_SPEECH, ablated
from support.sounds import write_emodb

TABLE_2 = {name for name in ABLATIONS if name.split("-")[0] in ("full", "mfcc", "spectrogram", "w2e")}


def rows(preset: str, *overrides: str) -> set[str]:
    return set(ablated(settings.load(preset, None, overrides), list(ABLATIONS)))


def test_every_row_is_a_run_of_its_own_under_the_papers_settings() -> None:
    assert rows("paper") == set(ABLATIONS) - {"relu", *BASELINES}


def test_rows_about_pre_trained_weights_are_no_runs_where_everything_is_small(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ser_pipeline"):
        left = rows("scratch")
    assert left == set(ABLATIONS) - {"softmax", "no-pretraining", *ENCODERS_OF_SPEECH, *BASELINES}
    assert "ablation 'no-pretraining' is left out: with these settings it is the same as 'full'" in caplog.messages
    assert (
        "ablation 'wavlm' is left out: it names a pre-trained speech encoder, and these settings train a small one"
        in caplog.messages
    )


@pytest.mark.parametrize(
    ("overrides", "missing"),
    [
        (["model.speech_encoder=microsoft/wavlm-base"], {"wavlm", "relu"}),
        (["model.co_attention=false"], {"full-mean", "softmax", "relu"}),
        (["model.attention=softmax"], {"softmax"}),
        (["train.class_weights=true"], {"class-weights", "relu"}),
        (['model.inputs=["waveform"]', "model.spectrogram_weights=none"], {"w2e", "w2e-mean", "relu"}),
    ],
)
def test_a_row_that_changes_nothing_is_no_run(overrides: list[str], missing: set[str]) -> None:
    assert set(ABLATIONS) - rows("paper", *overrides) == missing | set(BASELINES)


def test_without_speech_no_row_about_the_speech_encoder_is_run_twice() -> None:
    left = rows("paper", 'model.inputs=["mfcc"]')
    assert left == TABLE_2 - {"mfcc", "full-mean"} | {"class-weights"}


def test_a_row_that_changes_nothing_cannot_be_asked_for_alone() -> None:
    with pytest.raises(
        PipelineError, match="'no-pretraining' is left out: with these settings it is the same as 'full'"
    ):
        ablated(settings.load("scratch"), ["no-pretraining"])


@pytest.mark.parametrize("name", ENCODERS_OF_SPEECH)
def test_a_speech_encoders_row_names_one_of_a_family_that_can_be_read(name: str) -> None:
    family = name.split("-")[0].replace("data2vec", "data2vec-audio").replace("w2v", "wav2vec2-bert")
    assert family in FAMILIES
    assert family in transformers.CONFIG_MAPPING
    assert name.split("-")[0] in str(ENCODERS_OF_SPEECH[name]["model"]["speech_encoder"])


def test_the_encoders_in_use_today_have_rows() -> None:
    named = {str(row["model"]["speech_encoder"]) for row in ENCODERS_OF_SPEECH.values()}
    whisper = {f"openai/whisper-{size}" for size in ("tiny", "base", "small", "medium", "large-v3")}
    large = {"wav2vec2-large-robust", "wav2vec2-xls-r-300m", "hubert-large-ll60k", "w2v-bert-2.0"}
    assert named >= whisper | {"microsoft/wavlm-base-plus", "microsoft/wavlm-large"}
    assert named >= {f"facebook/{name}" for name in large}


@pytest.mark.slow(reason="plans every row of the table")
def test_all_rows_of_a_preset_without_weights_are_listed_once(run: Callable[..., Result], tmp_path: Path) -> None:
    run("features", "emodb", write_emodb(tmp_path / "corpus", speakers=3, takes=1))
    said = run("train", "--accept", "counts", "--preset", "scratch", "--ablation", "all", "--dry-run")
    runs = [line.split("\t")[0] for line in said.stdout.splitlines()]
    missing = {"softmax", "no-pretraining", *ENCODERS_OF_SPEECH, *BASELINES}
    assert len(set(runs)) == len(ABLATIONS) - len(missing)
    assert "ablation 'hubert' is left out" in said.stderr

"""The default preset: chosen by corpus and machine, reported in a line, and the same for features and training."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import Result

from ser_pipeline.corpora import CORPORA
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.default_preset import COST, default_preset
from ser_pipeline.model.speech import hub
from support.sounds import write_emodb

SIZE = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "vocab_size": 60}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "pad_token_id": 1}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write a tiny random Whisper; returns the setting that names it."""
    folder = tmp_path_factory.mktemp("encoder")
    transformers.WhisperModel(transformers.WhisperConfig(**SIZE, **DECODER)).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return f"features.statistics.encoder={folder}"


@pytest.fixture(autouse=True)
def laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the machine has no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_without_a_gpu_it_is_frozen_where_its_encoder_can_be_had(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = default_preset(CORPORA["iemocap"], None, [encoder], "auto")
    assert (found.name, found.why) == ("frozen", f"no GPU, and its speech encoder {encoder.partition('=')[2]} is here")
    monkeypatch.setattr(hub, "locate", lambda name, setting: Path(name))
    assert (
        default_preset(CORPORA["emodb"], None, [], "cpu").why
        == "on cpu, and its speech encoder openai/whisper-tiny.en is here"
    )


def test_without_an_encoder_it_is_scratch_which_says_what_it_costs_and_how_to_have_one() -> None:
    found = default_preset(CORPORA["emodb"], None, [], "auto")
    assert found.name == "scratch"
    assert found.line.startswith("preset scratch: no GPU, and preset frozen has no encoder. ")
    assert (
        "hf download openai/whisper-tiny.en --local-dir DIR) and pass --set features.statistics.encoder=DIR"
        in found.why
    )
    assert COST in found.why
    assert found.line.endswith(" Another can be chosen with --preset.")


def test_an_encoder_that_was_named_and_cannot_be_had_is_an_error() -> None:
    with pytest.raises(PipelineError, match="no speech encoder in /none: there is no such folder"):
        default_preset(CORPORA["emodb"], None, ["features.statistics.encoder=/none"], "auto")


def test_a_gpu_a_model_of_ones_own_and_the_demo_keep_their_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[model]\ninputs = ["mfcc"]\n')
    for file, pairs in ((None, ["train.lr=1e-4", encoder]), (own, [encoder]), (None, ["features.mfcc.deltas=1"])):
        assert default_preset(CORPORA["emodb"], file, pairs, "auto").name == "paper"
    assert default_preset(CORPORA["demo"], None, [], "auto").name == "demo"
    monkeypatch.setattr("ser_pipeline.device.pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(hub, "locate", None)
    found = default_preset(CORPORA["emodb"], None, [encoder], "auto")
    assert (found.name, found.why) == ("paper", "there is a GPU")


def test_training_takes_what_the_features_were_made_with(
    run: Callable[..., Result], encoder: str, tmp_path: Path
) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=3, takes=1)
    said = run("features", "emodb", root, "--set", encoder, "--set", "features.statistics.draws=1").stderr
    assert said.count("preset frozen: no GPU, and its speech encoder") == 1
    said = run("train", "--accept", "counts", "--dry-run").stderr
    assert f"preset frozen with features.statistics.encoder={json.dumps(encoder.partition('=')[2])}" in said
    assert "features.statistics.draws=1, from the features of emodb; --preset chooses another" in said
    assert "emodb, 7 classes, preset frozen, 3 folds, on " in said
    run("features", "emodb", root, "--feature", "logmel", "--quiet")
    assert "preset frozen with" in run("train", "--accept", "counts", "--dry-run").stderr, (
        "an additional feature does not change the preset"
    )
    assert "lacks mfcc" in run("train", "--accept", "counts", "--preset", "scratch", "--dry-run", status=1).stderr
    said = run("features", "emodb", root, "--preset", "scratch").stderr
    assert "preset" not in said
    said = run("train", "--accept", "counts", "--dry-run").stderr
    assert "preset scratch, from the features of emodb; --preset chooses another" in said


def test_features_of_an_earlier_version_are_trained_as_they_were(run: Callable[..., Result], tmp_path: Path) -> None:
    run("features", "emodb", write_emodb(tmp_path / "corpus", speakers=3, takes=1), "--preset", "scratch", "--quiet")
    (file,) = Path("cache/features").glob("*.json")
    known = json.loads(file.read_text())
    file.write_text(json.dumps({name: known[name] for name in ("folder", "root")}))
    assert (
        "preset paper" in run("train", "--accept", "counts", "--set", "model.speech_encoder=small", "--dry-run").stderr
    )


def test_a_silent_network_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(hub, "PATIENCE", 0.01)
    never, asked = threading.Event(), list[tuple[str, int]]()

    def connect(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        never.wait()
        raise OSError

    monkeypatch.setattr("socket.create_connection", connect)
    assert not hub._reachable()
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy.example:3128"})
    assert not hub._reachable()
    assert asked == [("huggingface.co", 443), ("proxy.example", 3128)]
    never.set()

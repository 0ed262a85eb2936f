"""The weights that a run starts from are part of its key, wherever they are stored."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from safetensors.torch import load_file, save_file

from ser_pipeline.errors import PipelineError
from ser_pipeline.model.speech import hub
from ser_pipeline.training import plan as training_plan
from support.speech_models import write_encoder
from support.stores import registered

SMALL = ("model.spectrogram_encoder=small", "model.mfcc_encoder=small", "model.small_width=8", "train.epochs=1")
NAMED = {"content": "0" * 32, "revision": ""}

Plan = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the features of a small corpus."""
    return registered(tmp_path_factory.mktemp("pretrained"), speakers=3, takes=1)


@pytest.fixture
def plan(run: Callable[..., Result], features: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return the runs that `train` would create with these settings, each with the state of its first fold."""
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(features))

    def planned(*pairs: str, more: tuple[str, ...] = ()) -> dict[str, str]:
        words = [word for pair in (*SMALL, *pairs) for word in ("--set", pair)]
        said = run("train", "--accept", "counts", "--preset", "paper", "--device", "cpu", "--dry-run", *more, *words)
        lines = [line.split("\t") for line in said.stdout.splitlines()]
        return {name: state for name, _, state in reversed(lines)}

    return planned


def louder(folder: Path) -> None:
    """Multiply every weight by 1.5."""
    weights = load_file(folder / "model.safetensors")
    save_file({name: 1.5 * value for name, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.slow(reason="trains three folds of a pre-trained encoder")
def test_other_weights_at_the_same_path_are_another_run(run: Callable[..., Result], plan: Plan, tmp_path: Path) -> None:
    encoder = f"model.speech_encoder={write_encoder(tmp_path / 'encoder')}"
    words = [word for pair in (*SMALL, encoder) for word in ("--set", pair)]
    made = Path(
        run(
            "train", "--accept", "counts", "--preset", "paper", "--device", "cpu", "--jobs", "1", "-q", *words
        ).stdout.strip()
    )
    assert plan(encoder) == {made.name: "done"}
    about = json.loads((made / "run.json").read_text())
    assert about["pretrained"]["speech"] == hub.identity(str(tmp_path / "encoder"))
    assert about["encoders"] == about["pretrained"]
    assert json.loads((made / "index.json").read_text())["inputs"]["pretrained"] == about["pretrained"]
    louder(tmp_path / "encoder")
    (name,) = plan(encoder)
    assert name != made.name and plan(encoder)[name] == "to do"
    write_encoder(tmp_path / "encoder")
    assert plan(encoder) == {made.name: "done"}


def test_settings_of_the_encoder_are_a_part_of_the_key(plan: Plan, tmp_path: Path) -> None:
    encoder = f"model.speech_encoder={write_encoder(tmp_path / 'encoder')}"
    rows = ("model.mask_padding=true", "model.speech_window=30s", "model.layer_mix=true", "model.speech_weights=false")
    keys = [plan(encoder, *pairs) for pairs in ((), *((row,) for row in rows))]
    assert len({name for found in keys for name in found}) == 1 + len(rows)
    before = plan(encoder, "model.speech_weights=false")
    louder(tmp_path / "encoder")
    assert plan(encoder, "model.speech_weights=false") == before, "random weights do not depend on the file"


def test_weights_of_no_part_that_is_read_are_not_asked_for(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "locate", None)
    assert plan("model.speech_encoder=small", "model.speech_weights=false")
    assert plan('model.inputs=["mfcc"]', "model.co_attention=false")


def test_other_weights_of_alexnet_at_the_same_path_are_another_run(plan: Plan, tmp_path: Path) -> None:
    file, keys = tmp_path / "alexnet.pth", set()
    pairs = (f"model.spectrogram_weights={file}", 'model.inputs=["spectrogram"]', "model.co_attention=false")
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        keys |= set(plan(*pairs, "model.spectrogram_encoder=alexnet"))
    assert len(keys) == 2


def test_an_encoder_of_the_hub_is_fetched_before_its_run_has_a_key(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "cache"
    fetched: list[str] = []

    def download(name: str, weights: bool, setting: str) -> Path:
        fetched.append(name)
        return write_encoder(here)

    monkeypatch.setattr(hub, "_download", download)
    monkeypatch.setattr(hub, "_cached", lambda name, weights: here if here.is_dir() else None)
    before = plan("model.speech_encoder=some/encoder")
    assert plan("model.speech_encoder=some/encoder") == before and fetched == ["some/encoder"]


def test_a_row_whose_encoder_cannot_be_had_is_left_out_but_never_the_presets_own(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def identity(name: str, *, weights: bool) -> dict[str, str]:
        if name != "facebook/wav2vec2-base":
            raise PipelineError(f"cannot load speech encoder '{name}'")
        return NAMED

    monkeypatch.setattr(hub, "identity", identity)
    monkeypatch.setattr(training_plan.log, "warning", lambda text, *words: told.append(text % words))
    assert len(plan(more=("--ablation", "full,hubert,wavlm"))) == 1
    assert told[1] == "ablation 'wavlm' is left out: cannot load speech encoder 'microsoft/wavlm-base'"
    with pytest.raises(AssertionError, match="cannot load speech encoder 'facebook/hubert-base-ls960'"):
        plan(more=("--ablation", "hubert"))
    with pytest.raises(AssertionError, match="cannot load speech encoder 'gone'"):
        plan("model.speech_encoder=gone", more=("--ablation", "full,mfcc"))

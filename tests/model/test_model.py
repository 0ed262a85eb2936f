from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torchvision.models import alexnet
from transformers import Wav2Vec2Config, Wav2Vec2Model

from ser_pipeline import config as settings
from ser_pipeline.config import Audio, Config, Features, Model
from ser_pipeline.data.batch import Batch
from ser_pipeline.data.neighbours import JOIN
from ser_pipeline.errors import PipelineError
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.features.stores import FROZEN
from ser_pipeline.inputs import INPUTS, LEVELS, resolve
from ser_pipeline.model import build_model
from ser_pipeline.model.paper import BiLstm, build_alexnet
from ser_pipeline.model.registry import FINISH
from ser_pipeline.training.ablations import ABLATIONS
from support.models import SMALL, make_batch, small_model


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random weights with the real sizes: a folder of wav2vec 2.0 base, and a file of AlexNet."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(1)
    Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder)
    torch.save(alexnet().state_dict(), folder / "alexnet.pth")
    return folder


@pytest.mark.slow(reason="builds wav2vec 2.0 base and AlexNet at their real sizes")
def test_the_papers_model_builds_trains_saves_and_loads_at_its_real_size(weights: Path, tmp_path: Path) -> None:
    config = settings.load(
        "paper",
        overrides=[f"model.speech_encoder={weights}", f"model.spectrogram_weights={weights / 'alexnet.pth'}"],
    )
    model = build_model(config.model, audio=config.audio, features=config.features, classes=4)
    assert parameters(model.encoders["waveform"].model) == 94_371_712
    assert torch.equal(
        model.encoders["spectrogram"].features[0].weight, torch.load(weights / "alexnet.pth")["features.0.weight"]
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = make_batch(1)
    before = model.fusion[0][1].weight.detach().clone()
    output = model(batch)
    assert (output.logits.shape, output.attention.shape) == ((1, 4), (1, 149))
    F.cross_entropy(output.logits, batch.label).backward()
    optimiser.step()
    assert not torch.equal(model.fusion[0][1].weight, before)
    expected = model.eval()(batch).logits
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors"
    )
    again = build_model(
        config.model,
        audio=config.audio,
        features=config.features,
        classes=4,
        pretrained=False,
        speech_settings=model.speech_settings,
    )
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(again.eval()(batch).logits, expected)


def test_shapes_are_those_of_the_papers_equations(weights: Path) -> None:
    model = build_model(
        replace(Model(), speech_encoder=str(weights), spectrogram_weights="none"),
        audio=Audio(),
        features=Features(),
        classes=4,
    )
    read = model.finished(make_batch(1))
    assert {name: tuple(value.shape[1:]) for name, value in read.items()} == {
        "mfcc": (300, 40),
        "spectrogram": (200, 300),
        "waveform": (48_000,),
    }
    with torch.no_grad():
        assert model.encoders["mfcc"](read["mfcc"]).shape == (1, 153_600)  # eq. 1
        assert model.encoders["spectrogram"](read["spectrogram"]).shape == (1, 9_216)  # eq. 2
        assert model.encoders["waveform"](read["waveform"]).shape == (1, 149, 768)  # eq. 3
    assert model.projections["mfcc"][1].weight.shape == (128, 153_600)
    assert model.attention.linear.weight.shape == (149, 256)  # eq. 4
    assert model.projections["waveform"][1].weight.shape == (128, 768)  # eq. 5
    assert model.fusion[0][1].weight.shape == (128, 384) and model.fusion[1][1].weight.shape == (128, 128)  # eq. 6
    assert model.classifier.weight.shape == (4, 128)


def test_the_weighted_sum_is_equation_5() -> None:
    attention = small_model().attention.eval()
    acoustic, speech = torch.randn(2, 256), torch.randn(2, attention.linear.out_features, 16)
    summary, weights = attention(acoustic, speech)
    assert torch.equal(weights, F.relu(attention.linear(acoustic)))
    assert torch.allclose(summary, (weights[:, :, None] * speech).sum(1), atol=1e-5)


def test_softmax_weights_sum_to_one() -> None:
    weights = small_model(attention="softmax").eval()(make_batch(2)).attention
    assert torch.allclose(weights.sum(1), torch.ones(2)) and (weights > 0).all()


def test_without_co_attention_the_frames_are_averaged() -> None:
    tiny = Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16).to_dict()
    model = small_model(co_attention=False, speech_encoder="tiny", speech_settings=tiny).eval()
    batch = make_batch(2)
    frames = model.encoders["waveform"](model.finished(batch)["waveform"])
    output = model(batch)
    assert frames.shape == (2, 149, 16) and output.attention is None
    assert torch.allclose(output.w2e, model.projections["waveform"](frames.mean(1)), atol=1e-6)


@pytest.mark.parametrize("segment", [16_000, 32_000, 80_000])
def test_the_number_of_frames_follows_the_segment(segment: int) -> None:
    audio = Audio(segment=segment)
    model = build_model(SMALL, audio=audio, features=Features(), classes=4).eval()
    attention = model(make_batch(2, audio=audio)).attention
    assert attention.shape == (2, model.encoders["waveform"].frames(segment))


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_a_valid_change_of_the_settings(name: str) -> None:
    changed = settings.merge(Config(), ABLATIONS[name])
    assert (changed != Config()) == (name not in ("full", "relu"))  # the paper's model


EXPECTED = {  # ablation: inputs of the classifier, inputs of the weights
    "full": ({"mfcc", "spectrogram", "waveform"}, {"mfcc", "spectrogram"}),
    "full-mean": ({"mfcc", "spectrogram", "waveform"}, set()),
    "mfcc": ({"mfcc"}, set()),
    "spectrogram": ({"spectrogram"}, set()),
    "w2e": ({"waveform"}, {"mfcc", "spectrogram"}),
    "w2e-mean": ({"waveform"}, set()),
    "mfcc-w2e": ({"mfcc", "waveform"}, {"mfcc"}),
    "mfcc-w2e-mean": ({"mfcc", "waveform"}, set()),
    "spectrogram-w2e": ({"spectrogram", "waveform"}, {"spectrogram"}),
    "spectrogram-w2e-mean": ({"spectrogram", "waveform"}, set()),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_rows_of_table_2_read_their_inputs_and_no_others(name: str) -> None:
    config = settings.merge(Config(model=SMALL), ABLATIONS[name])
    model = build_model(config.model, audio=Audio(), features=Features(), classes=4).eval()
    batch = make_batch(2)
    output = model(batch)
    classified, weighing = EXPECTED[name]
    assert model.fusion[0][1].in_features == 128 * len(classified)
    assert (output.attention is not None) == bool(weighing)
    assert (output.w2e is not None) == ("waveform" in classified)
    if weighing:
        assert model.attention.linear.in_features == 128 * len(weighing)
    for field in ("mfcc", "spectrogram", "waveform"):
        changed = model(batch.changed({field: batch[field].flip(0)}))
        assert torch.equal(changed.logits, output.logits) == (field not in classified | weighing)
    read = Batch({name: batch[name] for name in classified | weighing}, batch.samples, batch.label, batch.utterance)
    assert torch.equal(model(read).logits, output.logits)


def test_a_prediction_does_not_depend_on_the_batch() -> None:
    model = small_model(mfcc_encoder="bilstm", spectrogram_encoder="alexnet", spectrogram_weights="none").eval()
    batch = make_batch(5)
    together = model(batch)
    for row in range(5):
        alone = model(batch.part(slice(row, row + 1)))
        assert torch.allclose(alone.logits[0], together.logits[row], atol=1e-5)


def test_the_same_seed_gives_the_same_step() -> None:
    losses = []
    for _ in range(2):
        model = small_model()
        output = model(make_batch(4))
        output.logits.square().sum().backward()
        losses.append((output.logits, model.encoders["waveform"].bank.grad))
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


def test_every_parameter_of_the_small_model_learns() -> None:
    model = small_model(layer_mix=True, dropout=0.0)
    F.cross_entropy(model(make_batch(4)).logits, make_batch(4).label).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_the_extremes_of_the_spectrogram_are_saved_with_the_model() -> None:
    model, other = small_model(), small_model()
    model.fit_scaler("spectrogram", torch.full((200,), 9, dtype=torch.uint8), torch.full((200,), 99, dtype=torch.uint8))
    other.load_state_dict(model.state_dict())
    batch = make_batch(2)
    assert torch.equal(other.finished(batch)["spectrogram"], model.finished(batch)["spectrogram"])
    assert not torch.equal(small_model().finished(batch)["spectrogram"], model.finished(batch)["spectrogram"])


def plant(module: torch.nn.Module) -> torch.nn.Module:
    """Set weights that do not depend on a random generator: a wave with the size of random weights."""
    with torch.no_grad():
        for parameter in module.parameters():
            wave = torch.sin(torch.arange(parameter.numel()).double() * 0.7).float().view_as(parameter)
            parameter.copy_(wave / max(parameter[0].numel(), 1) ** 0.5 if parameter.dim() > 1 else 1 + 0.1 * wave)
    return module.eval()


GOLDEN = {  # encoder: parameters, mean and deviation of its output
    "bilstm": (2_187_264, 0.878356, 0.0229792),
    "alexnet": (2_469_696, 1.32688, 0.680459),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers_of_the_encoders(name: str) -> None:
    time = torch.arange(300.0)
    mfcc = torch.sin(time[:, None] * torch.arange(1, 41) / 90)[None]
    level = (127.5 + 127.5 * torch.sin(time * torch.arange(1, 201)[:, None] / 900)).floor()[None]
    encoder, read = {
        "bilstm": (BiLstm(300, 40, Model()), mfcc),
        "alexnet": (build_alexnet(200, 300, "none"), level),
    }[name]
    with torch.no_grad():
        output = plant(encoder)(read)
    count, mean, deviation = GOLDEN[name]
    assert parameters(encoder) == count
    assert (float(output.mean()), float(output.std())) == pytest.approx((mean, deviation), rel=1e-3, abs=1e-5)


def test_every_input_is_a_feature_with_an_encoder() -> None:
    assert {*settings.INPUTS, *LEVELS} == {*FEATURES, *FROZEN}
    for row in INPUTS.values():
        assert row.form in FINISH and (row.form in JOIN or not row.joins)
        assert all(callable(row.encoder(name)) for name in (*row.encoders, *([""] if row.otherwise else [])))
        assert not row.function or callable(resolve(row.function))


def test_unknown_inputs_are_refused() -> None:
    with pytest.raises(PipelineError, match=r"'model.inputs' takes a list of mfcc, spectrogram, .* not"):
        small_model(inputs=("mfcc", "video"))
    with pytest.raises(PipelineError, match="takes a list of"):
        small_model(inputs=())
    with pytest.raises(PipelineError, match="only one of waveform and embedding"):
        small_model(inputs=("waveform", "embedding"))


def test_alexnets_weights_are_named_when_they_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    with pytest.raises(
        PipelineError, match=r"alexnet-owt-7be5be79.pth is not in .*--set model.spectrogram_weights=FILE"
    ):
        build_alexnet(200, 300, "imagenet")
    with pytest.raises(PipelineError, match="no such file"):
        build_alexnet(200, 300, str(tmp_path / "none.pth"))
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(PipelineError, match="are not those of torchvision's AlexNet"):
        build_alexnet(200, 300, str(tmp_path / "other.pth"))
    (tmp_path / "text.pth").write_text("nothing")
    with pytest.raises(PipelineError, match="cannot read weights from"):
        build_alexnet(200, 300, str(tmp_path / "text.pth"))


def test_alexnets_weights_are_taken_from_torchs_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    saved = alexnet().state_dict()
    torch.save(saved, tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert torch.equal(build_alexnet(200, 300, "imagenet").features[10].bias, saved["features.10.bias"])


def test_alexnets_layers_and_what_a_seed_draws_are_those_of_torchvision() -> None:
    torch.manual_seed(5)
    theirs, then = alexnet(), torch.rand(3)
    torch.manual_seed(5)
    ours, after = build_alexnet(200, 300, "none"), torch.rand(3)
    assert str(ours.features) == str(theirs.features) and torch.equal(after, then)
    wanted = theirs.features.state_dict()
    assert all(torch.equal(weights, wanted[name]) for name, weights in ours.features.state_dict().items())


@pytest.mark.parametrize("preset", ["scratch", "demo"])
def test_presets_without_weights_build_and_step(preset: str) -> None:
    config = settings.load(preset)
    model = build_model(config.model, audio=config.audio, features=config.features, classes=7)
    batch = make_batch(2)
    F.cross_entropy(model(batch).logits, batch.label).backward()
    assert config.model.spectrogram_weights == "none" and model.speech_settings is None


def test_the_reference_preset_has_every_departure() -> None:
    config = settings.load("reference")
    assert (config.model.pre_emphasis, config.features.mfcc.pre_emphasis) == (0.97, 0.97)
    assert config.features.spectrogram.pre_emphasis == 0.97
    assert config.model.pad_front and config.model.pad_loud and config.model.layer_drop
    assert (config.train.selection, config.train.monitor) == ("reference", "wa+ua")

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from safetensors.numpy import load_file
from torch import nn
from transformers import Wav2Vec2Model

from ser_pipeline import config as settings
from ser_pipeline.cache import manifest, shard_writing, shards
from ser_pipeline.cache.store import Store
from ser_pipeline.config import Config, Train
from ser_pipeline.data.batch import Batch
from ser_pipeline.device import fixed_threads
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import embeddings, utterances
from ser_pipeline.features.acoustic import FEATURES
from ser_pipeline.features.embeddings import Embedder, open_embedder
from ser_pipeline.features.frozen import embed
from ser_pipeline.features.stores import find, resolved
from ser_pipeline.model import build_model
from ser_pipeline.model.registry import Stored
from ser_pipeline.training.groups import parameter_groups
from support.sounds import tone, write_emodb, write_wav
from support.speech_models import write_encoder
from support.stores import contents, make

CPU = torch.device("cpu")
SMALL = ["model.spectrogram_encoder=small", "model.mfcc_encoder=small", "model.small_width=8", "model.small_layers=1"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_emodb(tmp_path_factory.mktemp("corpus"), speakers=3, takes=1)


@pytest.fixture
def folder(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store only the waveforms of a small corpus, in several shards."""
    monkeypatch.setattr(shards, "ROWS", 4)
    return make(corpus, tmp_path / "cache", names=["waveform"])


def using(encoder: Path, *overrides: str) -> Config:
    return settings.load("paper", None, [f"features.embedding.encoder={encoder}", *overrides])


def rows(store: Path) -> np.ndarray:
    opened = Store(store)
    return opened.read(np.arange(len(opened)))


@pytest.mark.parametrize("layers", ["[-1]", "[0, 2]", "[]"])
def test_rows_are_the_layers_that_transformers_gives(folder: Path, encoder: Path, layers: str) -> None:
    store = embed(folder, using(encoder, f"features.embedding.layers={layers}"), "embedding", device=CPU)
    model = Wav2Vec2Model.from_pretrained(encoder).eval()
    (waveforms,) = folder.glob("waveform-*")
    wave = torch.from_numpy(rows(waveforms)[:, 1:] / np.float32(32768))
    wave = (wave - wave.mean(1, keepdim=True)) / torch.sqrt(wave.var(1, correction=0, keepdim=True) + 1e-7)
    with torch.inference_mode():
        states = model(wave, output_hidden_states=True).hidden_states
    expected = torch.stack([states[layer] for layer in json.loads(layers) or range(3)], 1)
    found = rows(store)
    assert (found.dtype, found.shape) == (np.float16, tuple(expected.shape))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_model_that_reads_the_store_is_the_model_with_the_frozen_encoder(folder: Path, encoder: Path) -> None:
    small = [f"model.speech_encoder={encoder}", *SMALL]
    frozen = using(encoder, 'model.inputs=["mfcc", "waveform"]', "model.freeze_speech_encoder=true", *small)
    embed(folder, frozen, "embedding", device=CPU)
    stored = resolved(using(encoder, 'model.inputs=["mfcc", "embedding"]', *small), folder, "embedding")
    models = []
    for config in (frozen, stored):
        torch.manual_seed(0)
        models.append(build_model(config.model, audio=config.audio, features=config.features, classes=4).eval())
    ours = {name.replace("embedding", "waveform"): value for name, value in models[1].state_dict().items()}
    assert set(ours) < set(models[0].state_dict())
    models[0].load_state_dict(ours, strict=False)
    data = manifest.read(folder)
    (waveforms,) = folder.glob("waveform-*")
    samples = torch.from_numpy(data.segments[:, 2])
    mfcc = torch.randn(len(samples), 300, 40).half()
    embedding = torch.from_numpy(rows(find(folder, stored, "embedding").path))
    inputs = {"waveform": torch.from_numpy(rows(waveforms)), "mfcc": mfcc, "embedding": embedding}
    batch = Batch(inputs, samples, samples, samples)
    expected, found = (model(batch) for model in models)
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.attention, expected.attention, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.w2e, expected.w2e, atol=2e-3, rtol=2e-3)


def test_frames_of_padding_are_zeros_that_the_model_leaves_out(folder: Path, encoder: Path) -> None:
    masked = using(encoder, 'model.inputs=["embedding"]', "features.embedding.mask_padding=true", *SMALL)
    heard = using(encoder, 'model.inputs=["embedding"]', *SMALL)
    first, second = (embed(folder, config, "embedding", device=CPU) for config in (masked, heard))
    assert first != second, "another setting has another store"
    data, opened = manifest.read(folder), open_embedder(masked, CPU).encoder
    frames = torch.from_numpy(rows(first)).float()
    counts = [opened.frames(int(samples)) for samples in data.segments[:, 2]]
    for row, count in zip(frames[:, 0], counts, strict=True):
        assert row[:count].abs().amax(1).min() > 0
        assert not row[count:].any()
    assert max(counts) < 149 < 150 and rows(second).any(3).all()
    chosen = resolved(masked, folder, "embedding")
    model = build_model(chosen.model, audio=chosen.audio, features=chosen.features, classes=4).eval()
    speech = model.hear({"embedding": frames}, torch.tensor(data.segments[:, 2]))
    expected = torch.stack([row[:count].mean(0) for row, count in zip(frames[:, 0], counts, strict=True)])
    torch.testing.assert_close(speech.mean(), expected)
    nothing = model.hear({"embedding": torch.zeros_like(frames)}, torch.tensor(data.segments[:, 2]))
    assert nothing.real is not None and nothing.real.all(), "a silenced input is not padding"


def whole(encoder: Path, *overrides: str) -> Embedder:
    return open_embedder(using(encoder, "features.embedding.context=utterance", *overrides), CPU)


def made(embedder: Embedder, *signals: np.ndarray) -> list[np.ndarray]:
    """Return frames (S, L, T, D) of signals (N,), computed from their segments."""
    parts = [FEATURES["waveform"].rows(signal, Config().audio, None) for signal in signals]
    lengths = [
        np.clip(len(signal) - 48_000 * np.arange(len(part)), 0, 48_000)
        for signal, part in zip(signals, parts, strict=True)
    ]
    counts = np.array([len(part) for part in parts])
    return embedder(np.concatenate(parts), np.concatenate(lengths), counts, ["0" * 16] * len(signals))


def voices(*seconds: float) -> list[np.ndarray]:
    return [tone(number, length, 120 + 30 * number).astype(np.float32) for number, length in enumerate(seconds)]


def test_frames_of_whole_utterances_are_those_that_transformers_gives_of_them(encoder: Path) -> None:
    (signal,) = voices(7.3)
    (found,) = made(whole(encoder, "features.embedding.layers=[0, 2]"), signal)
    wave = np.round(signal * 32768) / 32768
    wave = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)).float()[None]
    with torch.inference_mode():
        states = Wav2Vec2Model.from_pretrained(encoder).eval()(wave, output_hidden_states=True).hidden_states
    expected = torch.cat([states[0], states[2]])
    assert (found.dtype, found.shape) == (np.float16, (3, 2, 150, 16)) and expected.shape[1] == 364
    joined = found.transpose(1, 0, 2, 3).reshape(2, 450, 16)
    np.testing.assert_allclose(joined[:, :364], expected, atol=3e-3)
    assert not joined[:, 364:].any()
    alone = made(open_embedder(using(encoder, "features.embedding.layers=[0, 2]"), CPU), signal)[0]
    assert np.abs(found[1, 1, :140].astype(np.float32) - alone[1, 1, :140]).max() > 0.01, "context changes the frames"


def test_whole_utterances_do_not_depend_on_what_else_is_in_the_batch(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, several = whole(encoder), voices(0.5, 4.1, 2.9, 3.0, 0.03)
    together = made(embedder, *several)
    assert [len(part) for part in together] == [1, 2, 1, 2, 1]
    monkeypatch.setattr(utterances, "BATCH_SECONDS", 0.0)
    for part, signal in zip(together, several, strict=True):
        np.testing.assert_allclose(part, made(embedder, signal)[0], atol=3e-3)


def test_an_utterance_beyond_the_encoders_length_goes_through_in_equal_pieces(
    encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utterances, "LONGEST", 2.0)
    embedder, (signal,) = whole(encoder), voices(5.0)
    pieces = np.array_split(signal, 3)
    expected = np.concatenate([made(embedder, piece)[0][0, 0] for piece in pieces])
    expected = expected[expected.any(1)]
    found = np.concatenate(list(made(embedder, signal)[0][:, 0]))
    np.testing.assert_allclose(found[found.any(1)], expected, atol=3e-3)


def test_stored_layers_are_averaged_or_weighted_by_learned_numbers() -> None:
    layers = torch.randn(2, 3, 5, 4)
    plain = Stored(3, 5, 4, mask_padding=False, layer_mix=False)
    torch.testing.assert_close(plain(layers), layers.mean(1))
    mixed = Stored(3, 5, 4, mask_padding=False, layer_mix=True)
    torch.testing.assert_close(mixed(layers), layers.mean(1))
    with torch.no_grad():
        mixed.mix.copy_(torch.tensor([0.0, 2.0, -1.0]))
    weights = np.exp([0.0, 2.0, -1.0]) / np.exp([0.0, 2.0, -1.0]).sum()
    torch.testing.assert_close(mixed(layers), torch.einsum("l,bltd->btd", torch.tensor(weights).float(), layers))


def test_weights_over_layers_learn_at_their_own_rate() -> None:
    model = nn.ModuleDict({"frames": Stored(3, 5, 4, mask_padding=False, layer_mix=True), "head": nn.Linear(4, 2)})
    groups = parameter_groups(model, Train(lr=1e-3, mix_lr=0.1))
    assert [(len(group.parameters), group.factor, group.speech) for group in groups] == [
        (1, pytest.approx(100), False),
        (2, 1.0, False),
    ]
    assert len(parameter_groups(model, Train(lr=1e-3))) == 1
    with pytest.raises(PipelineError, match=r"train.mix_lr needs a train.lr above 0"):
        settings.load("paper", None, ["train.lr=0", "train.mix_lr=0.1"])


def test_a_learned_mix_wants_several_layers(run: Callable[..., Result], encoder: Path, corpus: Path) -> None:
    words = ["--set", f"features.embedding.encoder={encoder}", "--set", 'model.inputs=["embedding"]']
    words += ["--set", "model.layer_mix=true", "--set", "model.co_attention=false"]
    run("features", "emodb", corpus, "--preset", "paper", *words, "--device", "cpu")
    said = run("train", "--accept", "counts", "--preset", "paper", *words, "--dry-run", status=1).stderr
    assert "model.layer_mix needs several layers, but one is stored" in said


def test_a_second_call_makes_nothing_and_a_killed_one_goes_on(
    folder: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = contents(embed(folder, using(encoder), "embedding", device=CPU))
    assert len(whole) > 2
    shutil.rmtree(find(folder, using(encoder), "embedding").path)
    written = []
    write = shard_writing.write_shard

    def dies(file: Path, *args: object, **more: object) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        write(file, *args, **more)  # type: ignore[arg-type]
        written.append(file.name)

    monkeypatch.setattr(shard_writing, "write_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        embed(folder, using(encoder), "embedding", device=CPU)
    assert not find(folder, using(encoder), "embedding").done
    monkeypatch.setattr(
        shard_writing,
        "write_shard",
        lambda file, *args, **more: (written.append(file.name), write(file, *args, **more)),
    )
    assert contents(embed(folder, using(encoder), "embedding", device=CPU)) == whole
    assert sorted(written) == sorted(whole)
    embed(folder, using(encoder), "embedding", device=CPU)
    assert len(written) == len(whole)


def test_a_changed_recording_costs_its_own_embedding_alone(
    folder: Path, encoder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(folder, using(encoder), "embedding", device=CPU)
    changed = tmp_path / "changed"
    shutil.copytree(corpus, changed)
    write_wav(changed / "wav" / "04a01Na.wav", tone(99, 1.3, 180))
    asked = []
    through = embeddings.Embedder.__call__

    def spy(self: embeddings.Embedder, waveforms: np.ndarray, *more: Any) -> list[np.ndarray]:
        asked.append(len(waveforms))
        return through(self, waveforms, *more)

    monkeypatch.setattr(embeddings.Embedder, "__call__", spy)
    again = make(changed, tmp_path / "cache", names=["waveform"])
    found = rows(embed(again, using(encoder), "embedding", device=CPU))
    assert again != folder and asked == [1]
    fresh = make(changed, tmp_path / "fresh", names=["waveform"])
    np.testing.assert_allclose(found, rows(embed(fresh, using(encoder), "embedding", device=CPU)), atol=2e-3)


def test_other_weights_or_layers_are_another_store_and_the_latest_weights_count(folder: Path, tmp_path: Path) -> None:
    place = write_encoder(tmp_path / "encoder")
    first = embed(folder, using(place), "embedding", device=CPU)
    assert find(folder, using(place, "features.embedding.layers=[0]"), "embedding").done is False
    write_encoder(place, seed=1)
    second = embed(folder, using(place), "embedding", device=CPU)
    assert first != second and find(folder, using(place), "embedding").path == second
    write_encoder(place, seed=0)
    assert embed(folder, using(place), "embedding", device=CPU) == first == find(folder, using(place), "embedding").path
    pinned = resolved(using(place, 'model.inputs=["embedding"]'), folder, "embedding")
    embedding = pinned.features.embedding
    assert (embedding.frames, embedding.width, len(embedding.content)) == (149, 16, 12)
    assert embedding.content == open_embedder(pinned, CPU).content
    write_encoder(place, seed=1)
    embed(folder, using(place), "embedding", device=CPU)
    assert find(folder, pinned, "embedding").path == first


def test_the_hubs_revision_is_a_part_of_the_key(folder: Path, tmp_path: Path) -> None:
    place = write_encoder(tmp_path / "encoder")
    first = embed(folder, using(place), "embedding", device=CPU)
    note = place / ".cache" / "huggingface" / "download" / "config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{'0' * 40}\netag\n1.0\n")
    second = embed(folder, using(place), "embedding", device=CPU)
    assert first != second == find(folder, using(place), "embedding").path
    assert json.loads((second / "index.json").read_text())["inputs"]["revision"] == "0" * 40


def test_what_is_missing_is_named(folder: Path, encoder: Path, tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(PipelineError, match=r"'features.embedding.layers' lists layers 0 to 2 of .*, not \[7\]"):
        embed(folder, using(encoder, "features.embedding.layers=[7]"), "embedding", device=CPU)
    with pytest.raises(PipelineError, match="has no waveforms"):
        embed(make(corpus, tmp_path / "other", names=["mfcc"]), using(encoder), "embedding", device=CPU)
    with pytest.raises(PipelineError, match=r"no speech encoder in .*/none"):
        embed(folder, using(tmp_path / "none"), "embedding", device=CPU)


def test_a_damaged_store_is_found_and_mended_by_the_command_that_is_named(
    run: Callable[..., Result], encoder: Path, corpus: Path
) -> None:
    words = ["--set", f"features.embedding.encoder={encoder}", "--set", "features.embedding.layers=[0]"]
    folder = Path(run("features", "emodb", corpus, "--feature", "embedding", *words, "--device", "cpu").stdout.strip())
    assert sorted(path.name.split("-")[0] for path in folder.glob("*-*")) == ["embedding", "waveform"]
    whole = contents(folder)
    (shard,) = folder.glob("embedding-*/000.h5")
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    said = run("cache", "verify", status=1).stdout
    assert f"damaged: {shard.relative_to(Path.cwd()) if shard.is_absolute() else shard}" in said
    run(*shlex.split(said.partition("repair: ser-pipeline ")[2]), "--device", "cpu", "--quiet")
    run("cache", "verify")
    assert contents(folder) == whole


def test_changes_of_audio_are_refused_with_embeddings_that_were_made_without_them(
    run: Callable[..., Result], encoder: Path, corpus: Path
) -> None:
    words = ["--set", f"features.embedding.encoder={encoder}", "--set", 'model.inputs=["embedding"]']
    run("features", "emodb", corpus, *words, "--device", "cpu")
    said = run("train", "--accept", "counts", "--preset", "scratch", *words, "--dry-run", status=1).stderr
    assert "augment.speed, augment.gain, augment.noise, augment.frame_masks cannot be applied to embedding" in said
    assert "--set augment.speed=0" in said
    still = [word for name in ("speed", "gain", "noise") for word in ("--set", f"augment.{name}=0.0")]
    still += ["--set", "augment.frame_masks=0"]
    assert "3 folds" in run("train", "--accept", "counts", "--preset", "scratch", *words, *still, "--dry-run").stderr


def test_from_features_to_a_prediction_by_the_command(
    run: Callable[..., Result], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    words = ["--preset", "demo", "--set", f"features.embedding.encoder={encoder}"]
    words += ["--set", 'model.inputs=["mfcc", "spectrogram", "embedding"]']
    train = [
        "train",
        "--accept",
        "counts",
        "--jobs",
        "1",
        *words,
        *(word for pair in [*SMALL, "train.epochs=1"] for word in ("--set", pair)),
    ]
    run("features", "emodb", corpus, "--quiet")
    said = run(*train, status=1).stderr
    assert "lacks embedding with these settings; run `ser-pipeline features emodb " in said
    run("features", "emodb", corpus, *words, "--device", "cpu", "--quiet")
    with monkeypatch.context() as without:
        without.setattr("ser_pipeline.model.speech.open_encoder", None)  # the encoder is not needed to train
        folder = Path(run(*train).stdout.strip())
    with np.load(folder / "03" / "segments.npz") as stored:
        assert {"w2e", "attention", "shuffled:embedding", "zeroed:embedding"} <= set(stored.files)
        assert stored["attention"].shape[1] == 149
    with (folder / "03" / "predictions.csv").open() as lines:
        row = next(csv.DictReader(lines))
    predict = ["predict", folder, corpus / row["file"], "--fold", "03", "--device", "cpu", "--json"]
    (found,) = json.loads(run(*predict).stdout)
    scores = np.array([float(row[f"log_p:{label}"]) for label in found["probabilities"]])
    np.testing.assert_allclose(list(found["probabilities"].values()), np.exp(scores) / np.exp(scores).sum(), atol=1e-4)
    write_encoder(encoder, seed=1)
    assert "differ from those that computed the run's embedding" in run(*predict, status=1).stderr


@pytest.mark.parametrize("feature", ["embedding", "statistics"])
def test_an_encoder_computes_on_one_thread_a_batch_whatever_the_cores(
    folder: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, feature: str
) -> None:
    seen: list[int] = []
    chosen = settings.load("paper", None, [f"features.{feature}.encoder={encoder}"])
    family = type(open_embedder(using(encoder), CPU).encoder)
    through = family.states

    def spy(*args: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return through(*args, **options)

    monkeypatch.setattr(family, "states", spy)
    with fixed_threads(2):
        embed(folder, chosen, feature, device=CPU)
        assert torch.get_num_threads() == 2, "the program's own number is restored"
    assert len(seen) > 1 and set(seen) == {1}


def test_whole_utterances_with_a_learned_mix_from_features_to_a_prediction(
    run: Callable[..., Result], encoder: Path, tmp_path: Path
) -> None:
    corpus = write_emodb(tmp_path / "corpus", speakers=3, takes=2)
    pairs = [f"features.embedding.encoder={encoder}", "features.embedding.context=utterance"]
    pairs += ["features.embedding.layers=[]", 'model.inputs=["embedding"]', "model.co_attention=false"]
    pairs += ["model.layer_mix=true", "train.mix_lr=0.1", "train.lr=1e-3", "train.epochs=2", "model.segments=2"]
    words = ["--preset", "demo", *(word for pair in pairs for word in ("--set", pair))]
    run("features", "emodb", corpus, *words, "--device", "cpu", "--quiet")
    folder = Path(run("train", "--accept", "counts", "--jobs", "1", *words, "--quiet").stdout.strip())
    weights = load_file(folder / "03" / "model.safetensors")["encoders.embedding.mix"]
    assert weights.shape == (3,) and np.abs(weights).max() > 0.02
    with (folder / "03" / "predictions.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert {row["segments"] for row in rows} == {"1"}, "segments have 6 s"
    files = [corpus / row["file"] for row in rows]
    said = run("predict", folder, *files, "--fold", "03", "--device", "cpu", "--jsonl").stdout.splitlines()
    for row, line in zip(rows, said, strict=True):
        found = json.loads(line)["probabilities"]
        scores = np.exp([float(row[f"log_p:{label}"]) for label in found])
        np.testing.assert_allclose(list(found.values()), scores / scores.sum(), atol=2e-3)

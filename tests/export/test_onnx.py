"""An ONNX graph gives the model's answers without torch, for every batch size and length."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result

from ser_pipeline import config
from ser_pipeline.errors import PipelineError
from ser_pipeline.export.folder import Members
from ser_pipeline.export.graph import Listener
from ser_pipeline.features.embeddings import open_embedder
from ser_pipeline.model import build_model
from ser_pipeline.predict.opening import load
from ser_pipeline.predict.runs import run_members
from support.places import ROOT
from support.reducing import TINY
from support.speech_models import write_encoder

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'ser-pipeline[onnx]'")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install 'ser-pipeline[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'ser-pipeline[onnx]'")

import onnx

from ser_pipeline.export import names, onnx_writing
from ser_pipeline.export.onnx_writing import OPSET, check_graph, write_graph, write_int8
from ser_pipeline.export.session import LONGEST, open_graph, open_session
from ser_pipeline.export.writing import describe, export

WITHOUT_TORCH = """
import sys
for name in ("torch", "transformers", "librosa", "numba", "scipy", "onnx"):
    sys.modules[name] = None
from ser_pipeline import load
from ser_pipeline.cli import main
assert load(sys.argv[2]).labels
main(sys.argv[1:])
"""
ALONE = """
import sys
for name in ("torch", "transformers", "librosa", "numba", "scipy", "onnx", "ser_pipeline", "soxr", "h5py"):
    sys.modules[name] = None
"""
PAPER = ["model.lstm_width=8", "model.width=8", "train.epochs=1", "train.batch=8", "model.spectrogram_weights=none"]


def graph_of(run: Path, folder: Path, folds: tuple[str, ...] = ()) -> Path:
    """Export the graph of a run into a folder."""
    members = run_members(run, torch.device("cpu"), folds)
    write_graph(folder / "model.onnx", members, describe(run, members))
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def small_graph(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph_of(small_run, tmp_path_factory.mktemp("small-graph"), ("03",))


@pytest.fixture(scope="module")
def frozen_graph(frozen_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graph_of(frozen_run, tmp_path_factory.mktemp("frozen-graph"))


def heard(graph: Path, *recordings: np.ndarray) -> np.ndarray:
    """Return probabilities (B, C) of recordings in one batch."""
    samples = np.array([len(one) for one in recordings])
    batch = np.stack([np.pad(one, (0, samples.max() - len(one)), constant_values=0.3) for one in recordings])
    return np.asarray(open_session(graph, 1)[0].run(None, {"waveform": batch, "samples": samples})[0])


def noises(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [(0.1 * random.standard_normal(length)).astype(np.float32) for length in lengths]


def test_large_weights_are_a_file_beside_the_graph_which_is_missed_by_its_name(
    small_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ser_pipeline.export.onnx_writing.APART", 1_000)
    onnx_writing._save(onnx.load(small_graph), tmp_path / "model.onnx")
    weights = tmp_path / "model.onnx.data"
    assert weights.stat().st_mode == (tmp_path / "model.onnx").stat().st_mode
    assert (tmp_path / "model.onnx").stat().st_size < small_graph.stat().st_size - 0.9 * weights.stat().st_size
    assert names.graph_size(tmp_path / "model.onnx") > 0.9 * small_graph.stat().st_size
    (noise,) = noises(70_000)
    found, wanted = (open_graph(file)(noise, 16_000).probabilities for file in (tmp_path / "model.onnx", small_graph))
    assert found == wanted
    write_int8(tmp_path / "small.onnx", tmp_path / "model.onnx")
    assert (tmp_path / "small.onnx.data").is_file() and open_graph(tmp_path / "small.onnx")(noise, 16_000).emotion
    monkeypatch.undo()
    onnx_writing._save(onnx.load(small_graph), tmp_path / "model.onnx")
    assert not weights.exists() and open_graph(tmp_path / "model.onnx")(noise, 16_000).probabilities == wanted


def test_a_graph_without_its_weights_says_which_file_is_missing(
    small_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ser_pipeline.export.onnx_writing.APART", 1_000)
    onnx_writing._save(onnx.load(small_graph), tmp_path / "model.onnx")
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(PipelineError, match=r"model.onnx needs its weights, model.onnx.data, beside it"):
        open_graph(tmp_path / "model.onnx")


@pytest.mark.slow(reason="trains and exports, once a module")
@pytest.mark.parametrize("kind", ["small", "frozen"])
def test_the_graph_answers_as_the_model_whatever_the_batch_and_the_length(
    kind: str, request: pytest.FixtureRequest
) -> None:
    graph, run = (request.getfixturevalue(f"{kind}_{what}") for what in ("graph", "run"))
    recordings = noises(800, 16_000, 48_000, 47_990, 100_123)
    model = load(run, "cpu", ["03"] if kind == "small" else [])
    wanted = np.array([list(model(one, 16_000).probabilities.values()) for one in recordings])
    np.testing.assert_allclose(heard(graph, *recordings), wanted, atol=1e-3)
    for one, alone in zip(recordings, wanted, strict=True):
        np.testing.assert_allclose(heard(graph, one)[0], alone, atol=1e-3)


@pytest.mark.slow(reason="trains and exports the paper's model in small sizes")
def test_the_papers_full_model_has_a_graph(trained: Callable[..., Path], tmp_path: Path) -> None:
    settings = [f"model.speech_encoder={write_encoder(tmp_path / 'random')}", *PAPER]
    run = trained("--preset", "paper", *(word for setting in settings for word in ("--set", setting)))
    members = run_members(run, torch.device("cpu"), ["03"])
    write_graph(tmp_path / "model.onnx", members, describe(run, members))
    found = check_graph(tmp_path / "model.onnx", members, noises(9_000, 48_000, 100_123))
    assert (found.count, found.same) == (3, 3)
    assert found.difference < 1e-3


def of_frames(encoder: Path, *more: str) -> Members:
    """Return a model with random weights on stored frames of an encoder."""
    pairs = [*TINY, f"features.embedding.encoder={encoder}", 'model.inputs=["mfcc", "embedding"]', *more]
    settings = config.load("demo", None, pairs)
    maker = open_embedder(settings, torch.device("cpu"))
    embedding = replace(settings.features.embedding, **maker.found())
    settings = replace(settings, features=replace(settings.features, embedding=embedding))
    torch.manual_seed(0)
    sizes = {"audio": settings.model_audio, "features": settings.features, "classes": 4, "pretrained": False}
    model = build_model(settings.model, speech_settings=None, **sizes).eval().requires_grad_(False)
    return Members(tuple("abcd"), settings, ("one",), (model,), {"embedding": maker})


@pytest.mark.slow(reason="exports with each encoder")
@pytest.mark.parametrize("kind", ["wav2vec2", "whisper"])
def test_stored_frames_have_a_graph(kind: str, whisper: Path, tmp_path: Path) -> None:
    encoder = whisper if kind == "whisper" else write_encoder(tmp_path / "random")
    masked = f"features.embedding.mask_padding={str(kind == 'whisper').lower()}"
    members = of_frames(encoder, "features.mfcc.deltas=1", masked)
    write_graph(tmp_path / "model.onnx", members, {"run": {"name": ""}, "commit": "", "ser_pipeline_version": ""})
    found = check_graph(tmp_path / "model.onnx", members, noises(9_000, 48_000, 100_123))
    assert found.same == 3 and found.difference < 1e-3


def test_stored_frames_that_hear_their_utterance_have_none(whisper: Path) -> None:
    with pytest.raises(PipelineError, match=r"features\.embedding\.context=utterance has no ONNX form yet"):
        Listener(of_frames(whisper, "features.embedding.context=utterance"))


def test_metadata_say_labels_rate_and_opset(small_graph: Path, small_run: Path) -> None:
    import onnx

    model = onnx.load(small_graph)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET
    axes = [axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", "length"]
    _, facts = open_session(small_graph)
    assert list(facts.labels) == json.loads((small_run / "run.json").read_text())["labels"]
    assert (facts.rate, facts.window, facts.folds) == (16_000, 3.0, ("03",))


@pytest.mark.parametrize(
    "said", ["[]", "{}", '{"labels": 3}', "[" * 9_000, '{"labels": [], "rate": 0, "window": 1, "longest": null}']
)
def test_metadata_of_another_shape_are_one_line(small_graph: Path, tmp_path: Path, said: str) -> None:
    import onnx

    model = onnx.load(small_graph)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"ser-pipeline": said})
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(PipelineError, match=r"other\.onnx is damaged \(.*export it again"):
        open_session(tmp_path / "other.onnx")


def test_products_of_8_bits_are_smaller_and_convolutions_stay(frozen_graph: Path, tmp_path: Path) -> None:
    import onnx

    write_int8(tmp_path / "model.int8.onnx", frozen_graph)
    before, after = onnx.load(frozen_graph), onnx.load(tmp_path / "model.int8.onnx")
    kinds = [node.op_type for node in after.graph.node]
    assert "MatMulInteger" in kinds and "ConvInteger" not in kinds
    assert kinds.count("Conv") == [node.op_type for node in before.graph.node].count("Conv")
    by_kind = {node.op_type for node in after.graph.node if any("classifier.weight" in name for name in node.input)}
    assert by_kind <= {"MatMul", "Gemm"}
    recordings = noises(16_000, 50_000)
    np.testing.assert_allclose(
        heard(tmp_path / "model.int8.onnx", *recordings), heard(frozen_graph, *recordings), atol=0.1
    )


def test_the_command_needs_no_torch(frozen_graph: Path, frozen_run: Path, corpus: Path) -> None:
    files = sorted(corpus.rglob("*.wav"))[:2]
    words = ["predict", str(frozen_graph), *map(str, files), "--jsonl"]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = load(frozen_run, "cpu")
    for file, line in zip(files, done.stdout.splitlines(), strict=True):
        said, wanted = json.loads(line), model(file)
        assert said["emotion"] == wanted.emotion
        np.testing.assert_allclose(list(said["probabilities"].values()), list(wanted.probabilities.values()), atol=1e-3)


def test_what_the_page_shows_runs_as_printed(small_run: Path, small_graph: Path, corpus: Path, tmp_path: Path) -> None:
    """The examples of docs/export.md with Python, transformers and onnxruntime give three answers that agree."""
    export(small_run, tmp_path / "emotions", ["03"])
    (tmp_path / "emotions" / "model.onnx").symlink_to(small_graph)
    (tmp_path / "speech.wav").symlink_to(sorted(corpus.rglob("*.wav"))[0])
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    given = 'import soundfile\n\nsamples = soundfile.read("speech.wav", dtype="float32")[0]\n'
    done = subprocess.run(
        [sys.executable, "-c", "\n".join((first, given, *others))],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    plain, listened, graph = done.stdout.splitlines()
    emotion = plain.partition(" ")[0]
    assert f"'label': '{emotion}'" in listened.split("}")[0]
    assert graph == emotion


def test_onnxruntime_alone_answers_as_the_page_shows(
    frozen_graph: Path, frozen_run: Path, corpus: Path, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import json.*?)```", page, flags=re.DOTALL)
    file = min(corpus.rglob("*.wav"))
    (tmp_path / "emotions").mkdir()
    shutil.copy(frozen_graph, tmp_path / "emotions" / "model.onnx")
    shutil.copy(file, tmp_path / "speech.wav")
    words = [sys.executable, "-c", ALONE + code]
    env = {"HOME": str(tmp_path / "none"), "PATH": ""}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == load(frozen_run, "cpu")(file).emotion, done.stderr


def test_longer_audio_is_heard_in_equal_parts(small_graph: Path) -> None:
    (samples,) = noises(round(1.5 * LONGEST * 16_000))
    half = len(samples) // 2
    parts = [
        list(open_graph(small_graph)(one, 16_000).probabilities.values()) for one in (samples[:half], samples[half:])
    ]
    mean = np.exp(np.log(parts).mean(0))
    found = list(open_graph(small_graph)(samples, 16_000).probabilities.values())
    np.testing.assert_allclose(found, mean / mean.sum(), atol=1e-5)


def test_the_check_asks_both_as_predict_does(small_graph: Path, small_run: Path) -> None:
    members = run_members(small_run, torch.device("cpu"), ["03"])
    graph, model, recordings = open_graph(small_graph), load(small_run, "cpu", ["03"]), noises(16_000, 50_000)
    found = check_graph(small_graph, members, recordings)
    assert (found.count, found.same, found.longest) == (2, 2, LONGEST) and found.difference < 1e-3
    long = np.resize(np.concatenate(recordings), round(1.5 * LONGEST * 16_000))
    whole, parted = (np.array(list(one(long, 16_000).probabilities.values())) for one in (model, graph))
    assert found.parted == pytest.approx(np.abs(whole - parted).max(), abs=1e-3)


def test_exported_by_the_command_it_is_checked_on_recordings_of_the_run(
    frozen_run: Path, run: Callable[..., Result], tmp_path: Path
) -> None:
    done = run("export", frozen_run, tmp_path / "emotions", "--fold", "03", "--onnx", "--int8")
    lines = done.stderr.strip().splitlines()
    agreed = next(line for line in lines if line.startswith("model.onnx: opset 20, "))
    assert "100 % of 12 labels as in torch" in agreed
    checking = next(line for line in lines if line.startswith("checking it against the models on "))
    assert lines.index("writing model.onnx") + 1 == lines.index(checking)
    assert re.search(
        "recordings over 30 s are split .*, so it is normal that theirs differ by up to [-.e0-9]+$", agreed
    )
    assert lines[-1].startswith("model.int8.onnx: ")
    text = (tmp_path / "emotions" / "README.md").read_text(encoding="utf-8")
    assert agreed in text and "Without torch" in text
    file = next(Path(json.loads((frozen_run / "run.json").read_text())["audio_root"]).rglob("*.wav"))
    said = [
        json.loads(run("predict", tmp_path / "emotions" / name, file, "--json").stdout)[0]["probabilities"]
        for name in ("", "model.onnx")
    ]
    np.testing.assert_allclose(*(list(one.values()) for one in said), atol=1e-3)


def test_a_graph_that_does_not_agree_is_not_kept(
    frozen_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ser_pipeline.export.onnx_writing.AGREEMENT", -1.0)
    with pytest.raises(PipelineError, match="the ONNX graph does not agree with the model"):
        export(frozen_run, tmp_path / "emotions", ["03"], onnx=True)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_one_line(small_graph: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noises(16_000)[0], 16_000)
    (tmp_path / "words.onnx").write_text("no graph")
    for graph, said in (("none.onnx", "there is no file"), ("words.onnx", "is not an ONNX graph")):
        assert said in run("predict", tmp_path / graph, tmp_path / "a.wav", status=1).stderr
    for option, value in (("--fold", "03"), ("--precision", "fp32")):
        wrong = run("predict", small_graph, tmp_path / "a.wav", option, value, status=2).stderr
        assert "--fold and --precision need a run" in wrong
    with pytest.raises(PipelineError, match="folds and a precision need a run"):
        load(small_graph, folds=["03"])
    assert "leave out" in run("export", "a", "b", "--encoder", "--onnx", status=2).stderr

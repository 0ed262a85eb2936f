"""A model folder gives its run's answers by itself, and contains nothing about the machine that wrote it."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result
from huggingface_hub import HfApi, ModelCard
from safetensors import safe_open

from ser_pipeline import SpeechEmotion, load
from ser_pipeline.errors import PipelineError
from ser_pipeline.export.encoder import export_encoder
from ser_pipeline.export.folder import read_members
from ser_pipeline.export.writing import export
from ser_pipeline.predict.runs import run_members
from ser_pipeline.report import Choice, make_report
from ser_pipeline.text import portable
from support.speech_models import write_encoder

RUNS = ("small_run", "frozen_run")
OFFLINE = """
import json, sys
import numpy, soundfile
from transformers import pipeline

class Absent:  # an environment without ser_pipeline
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ser_pipeline":
            raise ModuleNotFoundError(f"No module named '{name}'")

folder, *files = sys.argv[1:]
sys.meta_path.insert(0, Absent())
try:
    pipeline("audio-classification", folder, trust_remote_code=True, device="cpu")
except ImportError as error:
    print(" ".join(str(error).split()))
del sys.meta_path[0]

from ser_pipeline import SpeechEmotion

model = SpeechEmotion.from_pretrained(folder, device="cpu")
listen = pipeline("audio-classification", folder, trust_remote_code=True, device="cpu")
for file in files:
    samples, rate = soundfile.read(file, dtype="float32")
    heard = {one["label"]: one["score"] for one in listen({"raw": samples, "sampling_rate": rate}, top_k=None)}
    print(json.dumps([dict(model(file).probabilities), heard]))
"""


@pytest.fixture(params=RUNS)
def trained_run(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def stored(run: Path, fold: str) -> dict[str, dict[str, float]]:
    """Return the stored probabilities of a fold's test files."""
    with (run / fold / "predictions.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    found = {}
    for row in rows:
        scores = {name.removeprefix("log_p:"): np.exp(float(row[name])) for name in row if name.startswith("log_p:")}
        found[row["file"]] = {label: float(score / sum(scores.values())) for label, score in scores.items()}
    return found


@pytest.mark.slow(reason="starts a process that imports transformers' pipelines, twice")
def test_alone_and_offline_it_gives_the_stored_predictions(
    trained_run: Path, corpus: Path, whisper: Path, tmp_path: Path
) -> None:
    folder = export(trained_run, tmp_path / "away" / "emotions", ["03"])
    wanted = stored(trained_run, "03")
    hidden = whisper.rename(whisper.with_name("hidden"))
    (empty := tmp_path / "empty").mkdir()
    try:
        done = subprocess.run(
            [sys.executable, "-c", OFFLINE, folder, *(corpus / file for file in wanted)],
            cwd=empty,
            env={"HF_HUB_OFFLINE": "1", "HOME": str(empty), "PATH": "", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        hidden.rename(whisper)
    assert done.returncode == 0, done.stderr
    assert "not supported" not in done.stderr
    without, *lines = done.stdout.splitlines()
    assert "ser_pipeline. Run `pip install ser_pipeline`" in without
    for line, probabilities in zip(lines, wanted.values(), strict=True):
        for said in json.loads(line):
            np.testing.assert_allclose(
                [said[label] for label in probabilities], list(probabilities.values()), atol=2e-3
            )


def test_all_folds_are_averaged_as_the_run_averages_them(trained_run: Path, corpus: Path, tmp_path: Path) -> None:
    folder = export(trained_run, tmp_path / "emotions")
    file = sorted(corpus.rglob("*.wav"))[0]
    said, wanted = load(folder, "cpu")(file), load(trained_run, "cpu")(file)
    np.testing.assert_allclose(list(said.probabilities.values()), list(wanted.probabilities.values()), atol=1e-6)
    one = load(folder, "cpu", ["04"])(file), load(trained_run, "cpu", ["04"])(file)
    np.testing.assert_allclose(*(list(answer.probabilities.values()) for answer in one), atol=1e-6)
    with pytest.raises(PipelineError, match="has no fold 99; it has 03, 04, 05"):
        load(folder, "cpu", ["99"])


def test_what_folds_share_stands_there_once(frozen_run: Path, tmp_path: Path) -> None:
    folder = export(frozen_run, tmp_path / "emotions")
    with safe_open(folder / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
        assert weights.metadata() == {"format": "pt"}
    encoder = [name for name in names if "embed_positions" in name]
    assert encoder == ["made.statistics.encoder.embed_positions.weight"]
    heads = [name for name in names if name.endswith("classifier.weight")]
    assert heads == [f"members.{number}.classifier.weight" for number in range(3)]


def test_no_file_names_a_place_on_this_machine(frozen_run: Path, whisper: Path, corpus: Path, tmp_path: Path) -> None:
    folder = export(frozen_run, tmp_path / "emotions")
    places = [str(place).encode() for place in (whisper.parent, corpus, frozen_run.parent, tmp_path, Path.home())]
    for file in folder.iterdir():
        assert not [place for place in places if place in file.read_bytes()], file.name
    assert json.loads((folder / "config.json").read_text())["settings"]["features"]["statistics"]["encoder"] == (
        "tiny-whisper"
    )


def test_names_on_the_hub_stay_and_paths_of_any_system_go() -> None:
    given = ["facebook/wav2vec2-base", "~/w", "../x/y", "C:\\models\\z", "\\\\server\\share\\q", "/a/b/"]
    assert portable(given) == ["facebook/wav2vec2-base", "w", "y", "z", "q", "b"]


def test_the_card_says_what_the_report_says(trained_run: Path, tmp_path: Path) -> None:
    folder = export(trained_run, tmp_path / "emotions")
    report = make_report(trained_run.parent, Choice(corpus="emodb", patterns=(trained_run.name,)))
    assert report.experiments[0].main
    result = report.experiments[0].main[1]
    text = (folder / "README.md").read_text(encoding="utf-8")
    interval = result.scores["ua"].interval
    for said in (
        f"| UA | {100 * result.scores['ua'].pooled:.1f} | {100 * interval.low:.1f} to {100 * interval.high:.1f} |",
        "Licence of the corpus: free to use, cite the paper",
        "leave one speaker out (3 folds), seed 0",
        "Epoch of each fold: last",
        report.findings[0].message.split(":")[0],
    ):
        assert said in text
    data = ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.pipeline_tag) == ("ser-pipeline", "audio-classification")
    assert data.eval_results and data.eval_results[1].metric_value == round(result.scores["ua"].pooled, 4)


def test_the_card_says_what_the_model_costs(trained_run: Path, tmp_path: Path) -> None:
    folder = export(trained_run, tmp_path / "emotions", ["03"])
    (member,) = run_members(trained_run, torch.device("cpu"), ["03"]).models
    count = sum(one.numel() for one in member.parameters())
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert f"Parameters per model: {count:,}, of which " in text
    assert "GFLOPs for 1 model, of which" in text
    assert f"Weights: {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB" in text


def test_the_configuration_names_classes_and_audio(small_run: Path, tmp_path: Path) -> None:
    about = json.loads((export(small_run, tmp_path / "emotions") / "config.json").read_text())
    labels = json.loads((small_run / "run.json").read_text())["labels"]
    assert about["id2label"] == {str(number): label for number, label in enumerate(labels)}
    assert about["label2id"] == {label: number for number, label in enumerate(labels)}
    assert (about["sampling_rate"], about["segment"], about["folds"]) == (16_000, 48_000, ["03", "04", "05"])


def test_it_is_saved_and_published_with_its_card(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = export(small_run, tmp_path / "emotions")
    sent: dict[str, bytes] = {}

    def upload(self: HfApi, *, folder_path: Path, **_: object) -> str:
        sent.update({file.name: file.read_bytes() for file in Path(folder_path).iterdir()})
        return "done"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: type("Url", (), {"repo_id": repo_id}))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    model = SpeechEmotion.from_pretrained(folder, device="cpu")
    model.push_to_hub("me/emotions")
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sent == whole
    model.save_pretrained(folder)  # over itself
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


def test_a_mistake_is_one_line(small_run: Path, run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    for words, said in (
        (["export", small_run, tmp_path / "full"], "already exists"),
        (["export", tmp_path / "full", tmp_path / "new"], "is not a run"),
        (["export", small_run, tmp_path / "new", "--encoder"], "has no pre-trained speech encoder"),
        (["export", small_run, tmp_path / "new", "--fold", "99"], "has no finished fold 99"),
    ):
        assert said in run(*words, status=1).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
    folder = export(small_run, tmp_path / "cut")
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(PipelineError, match="is not a complete model folder"):
        read_members(folder, torch.device("cpu"))
    with pytest.raises(PipelineError, match="is not a model folder"):
        SpeechEmotion.from_pretrained(tmp_path / "full")


def test_a_frozen_encoder_alone_is_a_folder_of_transformers(frozen_run: Path, whisper: Path, tmp_path: Path) -> None:
    import transformers

    folder = export_encoder(frozen_run, tmp_path / "encoder")
    kept, given = (transformers.WhisperModel.from_pretrained(one).get_encoder() for one in (folder, whisper))
    for name, tensor in given.state_dict().items():
        torch.testing.assert_close(kept.state_dict()[name], tensor)
    assert transformers.AutoFeatureExtractor.from_pretrained(folder).sampling_rate == 16_000


def test_an_encoder_that_was_trained_is_that_of_a_fold(
    trained: Callable[..., Path], corpus: Path, tmp_path: Path
) -> None:
    import transformers

    settings = [f"model.speech_encoder={write_encoder(tmp_path / 'random')}", "model.speech_weights=true"]
    settings += ["train.epochs=1", "model.small_width=8"]
    made = trained("--preset", "demo", *(word for setting in settings for word in ("--set", setting)))
    with pytest.raises(PipelineError, match=r"every fold of .* fine-tuned its own encoder: choose one with --fold"):
        export_encoder(made, tmp_path / "encoder")
    folder = export_encoder(made, tmp_path / "encoder", ["04"])
    shutil.rmtree(tmp_path / "random")
    samples, rate = soundfile.read(sorted(corpus.rglob("*.wav"))[0], dtype="float32")
    read = transformers.AutoFeatureExtractor.from_pretrained(folder)(samples, sampling_rate=rate, return_tensors="pt")
    with torch.inference_mode():
        frames = transformers.AutoModel.from_pretrained(folder).eval()(**read).last_hidden_state
        (own,) = run_members(made, torch.device("cpu"), ["04"]).models
        heard = own.encoders["waveform"](read["input_values"])
    torch.testing.assert_close(frames, heard, atol=1e-4, rtol=1e-4)

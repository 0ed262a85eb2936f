import csv
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from click.testing import Result

from ser_pipeline import processes
from ser_pipeline.cache import manifest
from ser_pipeline.cache.catalogue import Sources
from ser_pipeline.claims import Claims
from ser_pipeline.config import Config, Train
from ser_pipeline.data.batch import Batch
from ser_pipeline.entry import Entry
from ser_pipeline.errors import PipelineError
from ser_pipeline.parts import Parts
from ser_pipeline.runs import layout
from ser_pipeline.splits.folds import Fold
from ser_pipeline.training import scoring as evaluate
from ser_pipeline.training import workers as jobs
from ser_pipeline.training.distributed import World
from ser_pipeline.training.fold import fit, shares
from ser_pipeline.training.step import factor
from support.places import ROOT, TESTS
from support.reducing import TINY
from support.sounds import write_emodb
from support.stores import registered

ARGS = [
    "train",
    "--accept",
    "counts",
    "--preset",
    "demo",
    "--jobs",
    "1",
    *(word for setting in TINY for word in ("--set", setting)),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the features of a small corpus."""
    return registered(tmp_path_factory.mktemp("train"), speakers=3, takes=2)


@pytest.fixture
def train(run: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that runs `train` with tiny settings and returns the run's folder."""
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))

    def invoke(*args: str) -> Path:
        return Path(run(*ARGS, *args).stdout.strip().splitlines()[-1]).absolute()

    return invoke


def arrays(fold: Path) -> dict[str, np.ndarray]:
    with np.load(fold / "segments.npz") as stored:
        return {name: stored[name] for name in stored.files}


def test_a_run_holds_a_whole_fold_for_every_speaker(train: Callable[..., Path], cache: Path) -> None:
    folder = train()
    about = json.loads((folder / "run.json").read_text())
    assert about["folds"] == ["03", "04", "05"]
    data = manifest.read(next((cache / "features").glob("emodb-*")))
    tested = []
    for name in about["folds"]:
        with (folder / name / "predictions.csv").open() as lines:
            rows = list(csv.DictReader(lines))
        assert {row["speaker"] for row in rows} == {name}
        tested += [row["id"] for row in rows]
        result = json.loads((folder / name / "result.json").read_text())
        right = sum(row["label"] == row["prediction"] for row in rows)
        assert result["wa"] == pytest.approx(right / len(rows))
        assert np.trace(result["counts"]) == right
        stored = arrays(folder / name)
        assert len(stored["log_prob"]) == len(stored["fused"]) == len(stored["shuffled:mfcc"])
        assert result["silent"] == pytest.approx((stored["attention"] == 0).all(1).mean(), abs=1e-4)
        np.testing.assert_allclose(np.exp(stored["log_prob"]).sum(1), 1, atol=1e-5)
        assert (folder / name / "model.safetensors").stat().st_size > 1000
        assert len((folder / name / "history.jsonl").read_text().splitlines()) == result["epochs"] == 2
        assert not list((folder / name).glob("*.pt"))
        with np.load(folder / name / "examples.npz") as examples:
            assert examples["spectrogram"].shape[1:] == (200, 300)
            assert len(examples["attention"]) == len(examples["utterance"]) == len(set(examples["utterance"])) <= 6
            right = [rows[place]["label"] == rows[place]["prediction"] for place in examples["utterance"]]
            assert sum(right) <= 3
    assert sorted(tested) == sorted(one.id for one in data.utterances)


def test_the_same_seed_gives_the_same_predictions_streamed_or_resident(
    train: Callable[..., Path], tmp_path: Path
) -> None:
    one = arrays(train("--data", "resident") / "03")
    other = arrays(train("--data", "stream", "--runs-root", str(tmp_path / "again")) / "03")
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_another_seed_gives_another_run(train: Callable[..., Path]) -> None:
    one, other = train(), train("--set", "seed=1")
    assert one != other
    assert not np.array_equal(arrays(one / "03")["log_prob"], arrays(other / "03")["log_prob"])


def test_epochs_that_wait_for_the_disk_end_in_the_same_fold(
    train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for every in (0.0, 1e9):
        monkeypatch.setattr("ser_pipeline.training.checkpoint.WRITE_SECONDS", every)
        settings = ("train.epochs=4", 'train.monitor="ua"', "train.lr=1e-2")
        folder = train(
            *(word for pair in settings for word in ("--set", pair)), "--runs-root", str(tmp_path / f"{every}")
        )
        best = [json.loads((folder / name / "result.json").read_text())["best_epoch"] for name in ("03", "04", "05")]
        found.append((best, *((folder / name / "model.safetensors").read_bytes() for name in ("03", "04", "05"))))
    assert found[0] == found[1]
    assert min(found[0][0]) < 4  # in some fold, the best epoch is not the last


def test_what_is_logged_is_what_the_run_holds(train: Callable[..., Path]) -> None:
    folder = train("--log", "csv")
    for name in ("03", "04", "05"):
        lines = list(csv.DictReader((folder / name / "log.csv").open(encoding="utf-8")))
        ua = [float(line["value"]) for line in lines if line["name"] == "validation/ua"]
        records = [json.loads(line) for line in (folder / name / "history.jsonl").read_text().splitlines()]
        assert ua == [record["ua"] for record in records]
        result = json.loads((folder / name / "result.json").read_text())
        (tested,) = (line for line in lines if line["name"] == "test/ua")
        assert (float(tested["value"]), int(tested["epoch"])) == (result["ua"], result["best_epoch"])
    whole = {line["name"]: float(line["value"]) for line in csv.DictReader((folder / "log.csv").open(encoding="utf-8"))}
    assert set(whole) == {"mean/wa", "mean/ua", "pooled/wa", "pooled/ua"}


def test_the_page_on_a_runs_folder_names_all_that_is_in_it(train: Callable[..., Path]) -> None:
    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(.+?)/?` \|", page, re.MULTILINE)
    folder = train()
    inside = {path.name for place in (folder, folder / "03") for path in place.iterdir()} - {"03", "04", "05", ".locks"}
    absent = {"error.txt", "speech.json", "log.csv", "tensorboard", "mlflow.txt", "undecided.csv"}
    absent |= {"frozen-DIGEST.safetensors"}
    stored = {re.sub(":.*", ":INPUT", name) for name in arrays(folder / "03")}
    assert set(named) == inside | absent | stored
    (code,) = re.findall(r"```python\n(.+?)```", page, re.DOTALL)
    found: dict[str, Any] = {"run": folder}
    exec(code, found)
    counts = sum(np.array(json.loads(file.read_text())["counts"]) for file in folder.glob("*/result.json"))
    assert found["wa"] == pytest.approx(np.trace(counts) / counts.sum())
    assert found["ua"] == pytest.approx((np.diag(counts) / counts.sum(1)).mean())


def test_a_finished_run_is_not_touched_again(train: Callable[..., Path]) -> None:
    folder = train()
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert train() == folder
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_seeds_and_ablations_are_runs_of_their_own(run: Callable[..., Result], train: Callable[..., Path]) -> None:
    train()
    said = run(*ARGS, "--ablation", "full,mfcc", "--seeds", "2", "--dry-run").stdout.splitlines()
    assert len(said) == 2 * 2 * 3
    assert sum(line.endswith("\tdone") for line in said) == 3
    assert "unknown ablation 'none'" in run(*ARGS, "--ablation", "none", status=2).stderr


def test_every_input_that_an_ablation_leaves_out_is_out(train: Callable[..., Path]) -> None:
    stored = arrays(train("--ablation", "mfcc") / "03")
    assert "w2e" not in stored
    assert "attention" not in stored
    assert {name for name in stored if ":" in name} == {"shuffled:mfcc", "zeroed:mfcc"}


def test_selection_on_test_is_said_and_validates_on_the_test_rows(train: Callable[..., Path]) -> None:
    folder = train("--selection", "test", "--set", "train.monitor=ua")
    assert json.loads((folder / "run.json").read_text())["selection"] == "test"
    for fold in json.loads((folder / "folds.json").read_text())["folds"]:
        assert fold["validation"] == fold["test"]
        assert not set(fold["train"]) & set(fold["test"])


def test_where_nothing_chooses_the_epoch_a_choice_on_test_is_refused(
    train: Callable[..., Path], run: Callable[..., Result]
) -> None:
    said = run(*ARGS, "--selection", "test", status=1).stderr
    assert "train.monitor='last', which always uses the last epoch" in said
    assert "the nearest is train.monitor='ua'" in said


def test_published_folds_are_read_back(train: Callable[..., Path], tmp_path: Path) -> None:
    folder = train()
    value = json.loads((folder / "folds.json").read_text())
    value["folds"] = value["folds"][:1]
    (tmp_path / "folds.json").write_text(json.dumps(value))
    again = train("--folds", str(tmp_path / "folds.json"))
    np.testing.assert_array_equal(arrays(again / "03")["log_prob"], arrays(folder / "03")["log_prob"])


def test_a_single_speaker_cannot_be_left_out(run: Callable[..., Result], tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "one", speakers=1, takes=1)
    run("features", "emodb", root)
    said = run(*ARGS, status=1).stderr
    assert "speaker" in said
    assert len(said.strip().splitlines()) == 1


def test_a_damaged_shard_stops_the_run_and_names_the_file(run: Callable[..., Result], tmp_path: Path) -> None:
    root = write_emodb(tmp_path / "corpus", speakers=3, takes=1)
    folder = Path(run("features", "emodb", root).stdout.strip())
    (shard,) = folder.glob("mfcc-*/000.h5")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    said = run(*ARGS, "--quiet", status=1).stderr
    assert "000.h5 is damaged" in said
    assert "ser-pipeline cache verify" in said


def test_a_loss_that_is_no_number_stops_the_fold_and_names_the_batch(
    run: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    said = run(*ARGS, "--set", "train.lr=1", "--set", "train.weight_decay=100", "--quiet", status=1).stderr
    assert "fold 03, epoch" in said
    assert "batch" in said
    assert "the loss is" in said


def test_a_fold_that_breaks_does_not_keep_the_others_from_their_turn(
    run: Callable[..., Result], train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(entry: Entry, fold: Fold, *rest: object, **named: object) -> Path:
        if fold.name == "04":
            raise RuntimeError("the device has had enough")
        return fit(entry, fold, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("ser_pipeline.training.workers.fit", broken)
    said = run(*ARGS, "--quiet", status=1).stderr
    assert "fold 04: RuntimeError: the device has had enough (see " in said
    assert "demo, 3 folds, 2 of them done before, on cpu" in run(*ARGS, "--dry-run").stderr
    (file,) = Path("runs").rglob("error.txt")
    assert "in broken" in file.read_text()
    assert f"(see {file})" in said
    states = run(*ARGS, "--dry-run").stdout
    assert states.count("\tdone") == 2
    monkeypatch.setattr("ser_pipeline.training.workers.fit", fit)
    train()  # resume after the failure


@pytest.mark.slow(reason="trains three folds for eight epochs")
def test_every_fold_that_ends_is_told_of_and_now_and_then_how_far_they_are(
    run: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    args = [*ARGS, "--set", "train.epochs=1"]
    said = run(*args).stderr
    assert re.findall(r"(\d\d): loss .* segments/s, (.*)\n", said) == [(name, "1 epoch") for name in ("03", "04", "05")]
    assert ": loss" not in run(*args).stderr  # the folds were complete before
    monkeypatch.setattr("ser_pipeline.cli.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr("ser_pipeline.training.statuses.POLL", 0.01)
    assert re.search(r"\d\.\d of 3 folds, .* left; .* epochs? of 8\n", run(*ARGS, "--set", "train.epochs=8").stderr)


@pytest.fixture
def lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> jobs.FoldJob:
    """Return a job on a device that fails during the job."""

    def broken(*rest: object, **named: object) -> None:
        raise RuntimeError("an illegal access\nand advice of many lines")

    monkeypatch.setattr(jobs, "train_job", broken)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    nothing = np.arange(0)
    fold = Fold("03", nothing, nothing, nothing)
    return jobs.FoldJob(
        Entry(tmp_path / "run" / "03", {}), fold, Config(), Sources(()), ("cuda:0", "cuda:1"), jobs.QueueOptions(jobs=1)
    )


def work(todo: Sequence[jobs.FoldJob]) -> None:
    """Train jobs as `train` does."""
    run = todo[0].entry.path.parent
    run.mkdir(exist_ok=True)
    jobs.work(Parts(Claims.beside(run), todo, lambda job: job.part, lambda job: job.whole), todo)


def test_a_process_whose_device_is_lost_ends(
    lost: jobs.FoldJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace())
    with pytest.raises(SystemExit, match=str(jobs.LOST)):
        jobs._attempt(lost)
    assert "advice of many lines" in (tmp_path / "run" / "03.partial" / "error.txt").read_text()


def test_a_command_without_workers_whose_device_is_lost_stops(lost: jobs.FoldJob) -> None:
    with pytest.raises(
        PipelineError, match=r"^fold 03: RuntimeError: an illegal access \(see .*\); the device no longer works"
    ):
        work([lost])


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), r"fewer folds in parallel \(--jobs\) or .* \(--micro-batch\)"),
        (MemoryError("no room"), r"fewer folds in parallel \(--jobs\) or .* \(--micro-batch\)"),
        (IndexError("an index"), "please report it with that file"),
    ],
)
def test_what_would_happen_again_comes_with_what_to_do_instead(
    lost: jobs.FoldJob, monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    def broken(_: jobs.FoldJob) -> None:
        raise error

    monkeypatch.setattr(jobs, "train_job", broken)
    with pytest.raises(PipelineError, match=rf"^fold 03: {type(error).__name__}: {error} \(see .*\); .*{advice}$"):
        work([replace(lost, devices=("cpu",))])


@pytest.fixture
def queue(lost: jobs.FoldJob, tmp_path: Path) -> list[jobs.FoldJob]:
    """Return four jobs; the first is `lost`."""
    return [lost, *(replace(lost, entry=Entry(tmp_path / "run" / name, {})) for name in ("08", "09", "10"))]


def test_a_queue_whose_processes_are_killed_again_and_again_gives_up(
    queue: list[jobs.FoldJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def tried_in_vain(todo: Iterator[jobs.FoldJob | None], _: object) -> Iterator[tuple[jobs.FoldJob, str | None]]:
        first, *more = [job for job in islice(todo, 4) if job]
        tried.append(1 + len(more))
        if len(tried) == 1:
            yield first, "a fold that fails"
        raise BrokenProcessPool

    monkeypatch.setattr(jobs, "_tried", tried_in_vain)
    with pytest.raises(PipelineError, match="a training process was killed repeatedly"):
        work(queue)
    assert tried == [4, 3, 3, 3]


@pytest.mark.parametrize("tells", [True, False])
def test_a_fold_that_kills_its_process_does_not_keep_the_others_from_their_turn(
    queue: list[jobs.FoldJob], monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    bad = queue[0].entry.path

    def tried(todo: Iterator[jobs.FoldJob | None], _: object) -> Iterator[tuple[jobs.FoldJob, str | None]]:
        for job in filter(None, todo):
            if job.entry.path == bad:
                if tells:
                    job.entry.begin()
                    jobs.write_text(job.entry.partial / layout.ERROR, "an illegal access")
                raise BrokenProcessPool
            job.entry.begin()
            job.entry.publish()
            yield job, None

    monkeypatch.setattr(jobs, "_tried", tried)
    with pytest.raises(PipelineError, match="fold 03 lost its device twice" if tells else "killed repeatedly"):
        work(queue)
    assert [job.entry.done for job in queue] == [False, True, True, True]


@pytest.mark.slow(reason="trains in a process that loads torch itself")
def test_training_does_not_import_the_compiler(cache: Path, tmp_path: Path) -> None:
    words = [*ARGS, "--cache", str(cache), "--runs-root", str(tmp_path), "--quiet"]
    code = f"import sys\nfrom ser_pipeline.cli import main\nmain({words!r}, standalone_mode=False)\n"
    code += (
        "assert 'ser_pipeline.training.step' in sys.modules\nassert not {'torch._dynamo', 'sympy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("fails", [False, True])
def test_an_audit_that_breaks_is_told_of_and_loses_no_fold(
    run: Callable[..., Result], train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    def audit(*_: object) -> None:
        raise PipelineError("the corpus is gone")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("so is the device")

    with monkeypatch.context() as changed:
        changed.setattr("ser_pipeline.training.queue.findings_of", audit)
        if fails:
            changed.setattr("ser_pipeline.training.workers.fit", broken)
        said = run(*ARGS, "--quiet", status=1).stderr
    assert "the corpus is gone" in said
    assert ("so is the device" in said) == fails
    assert run(*ARGS, "--dry-run").stdout.count("\tdone") == (0 if fails else 3)
    folder = train()
    assert (folder / "audit.json").exists()


def test_every_process_keeps_to_a_device_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[torch.device] = []
    monkeypatch.setattr(jobs, "data_of", lambda job, device: (None, None))
    monkeypatch.setattr(jobs, "fit", lambda entry, fold, data, source, config, device, **_: trained.append(device))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    fold, nothing = Entry(tmp_path / "run" / "03", {}), np.arange(0)
    job = jobs.FoldJob(
        fold, Fold("03", nothing, nothing, nothing), Config(), Sources(()), ("cuda:0", "cuda:1"), jobs.QueueOptions()
    )
    for number in range(3):
        monkeypatch.setattr(processes, "_number", number)
        jobs.train_job(job)
    assert [str(device) for device in trained] == ["cuda:0", "cuda:1", "cuda:0"]


def test_missing_features_of_other_settings_are_named(
    run: Callable[..., Result], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(cache))
    said = run(*ARGS, "--set", "features.mfcc.n_mfcc=13", status=1).stderr
    assert "lacks mfcc with these settings" in said


def test_small_steps_add_up_to_the_whole_batch(train: Callable[..., Path], tmp_path: Path) -> None:
    quiet = ("model.dropout=0.0", "model.small_drop=0.0", "augment.mixup=0.0", "train.epochs=1")  # no random draws
    still = [word for pair in quiet for word in ("--set", pair)]
    whole = arrays(train(*still) / "03")
    parts = arrays(train(*still, "--micro-batch", "2", "--runs-root", str(tmp_path / "parts")) / "03")
    np.testing.assert_allclose(whole["log_prob"], parts["log_prob"], atol=2e-3)


@pytest.mark.parametrize("segments", [1, 2])
def test_a_prediction_of_a_file_is_what_its_fold_said(
    run: Callable[..., Result], train: Callable[..., Path], segments: int
) -> None:
    folder = train("--set", f"model.segments={segments}")
    about = json.loads((folder / "run.json").read_text())
    with (folder / "03" / "predictions.csv").open() as lines:
        row = next(csv.DictReader(lines))
    said = run("predict", folder, Path(about["audio_root"]) / row["file"], "--fold", "03", "--json")
    assert said.stderr == ""
    (found,) = json.loads(said.stdout)
    assert found["emotion"] == row["prediction"]
    scores = np.array([float(row[f"log_p:{label}"]) for label in about["labels"]])
    np.testing.assert_allclose(list(found["probabilities"].values()), np.exp(scores) / np.exp(scores).sum(), atol=1e-4)


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_predicted(
    run: Callable[..., Result], train: Callable[..., Path], tmp_path: Path
) -> None:
    folder = train()
    about = json.loads((folder / "run.json").read_text())
    good = next(Path(about["audio_root"]).rglob("*.wav"))
    (tmp_path / "words.wav").write_text("no sound")
    said = run("predict", folder, tmp_path / "words.wav", good, "--json", status=1)
    words, answer = json.loads(said.stdout)
    assert words.keys() == {"file", "error"} and words["file"] == str(tmp_path / "words.wav")
    assert words["error"].startswith(f"{tmp_path / 'words.wav'} is not readable audio")
    assert answer["file"] == str(good) and answer["note"] == f"seen in training, except by fold {good.name[:2]}"
    warning, error = said.stderr.splitlines()
    assert error == "error: no prediction for 1 of 2 recordings"
    fold = good.name[:2]
    assert warning.startswith(
        f"warning: {good.name} is a file that models of this run were trained on; --fold {fold} uses"
    )
    assert run("predict", folder, good, "--fold", fold).stderr == ""


def test_files_that_a_run_learned_from_are_known_by_their_content(
    run: Callable[..., Result], train: Callable[..., Path], tmp_path: Path
) -> None:
    folder = train()
    known = sorted(Path(json.loads((folder / "run.json").read_text())["audio_root"]).rglob("*.wav"))
    shutil.copy(known[0], tmp_path / "another.wav")
    samples, rate = soundfile.read(known[1])
    soundfile.write(tmp_path / known[1].name, samples[: -rate // 100], rate)
    told = run("predict", folder, tmp_path / "another.wav", tmp_path / known[1].name).stderr
    assert told.startswith("warning: another.wav is a file that models of this run were trained on; --fold ")
    soundfile.write(tmp_path / "silent.wav", np.zeros(rate), rate)
    soundfile.write(tmp_path / "short.wav", samples[: rate // 100], rate)
    told = json.loads(run("predict", folder, tmp_path / "silent.wav", tmp_path / "short.wav", "--json").stdout)
    assert [answer["note"] for answer in told] == ["silent", "only 0.010 s long"]
    several = run("predict", folder, *known[:3]).stderr
    assert several.startswith(f"warning: {known[0].name} and 2 more are files that models of this run were trained on")


@pytest.mark.parametrize(("processes", "size"), [(1, 6), (2, 3), (3, 2), (4, 2)])
def test_shares_of_ranks_are_disjoint_and_cover_every_row(processes: int, size: int) -> None:
    rows = np.arange(100, 121)
    steps: list[list[int]] = [[] for _ in range(4)]
    for rank in range(processes):
        mine, counts = shares(rows, 6, World(rank, processes, rank))
        assert len(mine) == size * len(counts)
        for step, (real, total) in enumerate(counts):
            steps[step] += mine[size * step : size * step + real].tolist()
            assert total == min(6, 21 - 6 * step)
    assert steps == [rows[first : first + 6].tolist() for first in range(0, 21, 6)]


def test_rates_rise_and_fall_as_their_schedule_says() -> None:
    cosine = [factor(Train(warmup=0.1, schedule="cosine"), step, 100) for step in range(100)]
    assert cosine[0] == pytest.approx(0.1)
    assert max(cosine) == cosine[10] == 1.0
    assert cosine == cosine[:10] + sorted(cosine[10:], reverse=True)
    assert factor(Train(), 50, 100) == 1.0


def test_every_utterance_is_given_the_input_of_another_one(cache: Path) -> None:
    data = manifest.read(next((cache / "features").glob("emodb-*")))
    test = np.flatnonzero([one.speaker == "03" for one in data.utterances])
    own, given = data.rows(test), evaluate.shuffled(data, test, 0)
    owner = np.searchsorted(data.firsts, np.stack([own, given]), side="right")
    assert (owner[0] != owner[1]).all()
    assert set(given) <= set(own)


def losses(cache: Path, processes: int, micro: int = 0) -> np.ndarray:
    script = [str(TESTS / "support" / "reducing.py"), str(cache), str(micro)]
    command = [sys.executable, *script]
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *launcher, *script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return np.array([float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("loss")])


@pytest.mark.slow(reason="four processes load torch")
def test_two_processes_take_the_same_steps_as_one(cache: Path) -> None:
    one, two, parts = losses(cache, 1), losses(cache, 2), losses(cache, 1, micro=4)
    assert len(one) > 5
    np.testing.assert_allclose(two, one, rtol=1e-4)
    assert two.tolist() == parts.tolist()  # identical if one process computes the same parts in sequence


def test_a_batch_is_cut_the_same_way_in_every_column() -> None:
    batch = Batch({"mfcc": torch.arange(6).view(6, 1, 1)}, torch.arange(6), torch.arange(6), torch.arange(6))
    part = batch.part(slice(2, 4))
    assert part["mfcc"].flatten().tolist() == part.label.tolist() == [2, 3]

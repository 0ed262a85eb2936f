"""openSMILE's functionals as an input of whole utterances, the field's usual baseline."""

import builtins
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

from ser_pipeline.cache import manifest
from ser_pipeline.cache.store import Store
from ser_pipeline.config import Audio, load
from ser_pipeline.errors import PipelineError
from ser_pipeline.features import functionals
from ser_pipeline.features.functionals import functional_rows
from ser_pipeline.inputs import FUNCTIONALS, INPUTS
from ser_pipeline.model.contours import Standard
from ser_pipeline.training.ablations import BASELINES, ablation_names
from support.sounds import tone, write_emodb


def settings(name: str) -> Any:
    return load("frozen", None, [f"features.functionals.set={name}"]).features.functionals  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", FUNCTIONALS)
def test_rows_are_those_of_opensmile(name: str) -> None:
    opensmile = pytest.importorskip("opensmile", reason="the extra opensmile is not installed")
    signal = tone(0, 1.2, 150).astype(np.float32)
    found = functional_rows(signal, Audio(), settings(name))
    smile = opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals)
    assert found.shape == (1, *INPUTS["functionals"].shape(Audio(), settings(name)))
    np.testing.assert_array_equal(found[0], smile.process_signal(signal, 16_000).to_numpy(np.float32))
    for samples in (0, 1, 900):
        short = functional_rows(signal[:samples], Audio(), settings(name))
        assert short.dtype == np.float32 and np.isfinite(short).all()


def test_without_the_package_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "opensmile":
            raise ImportError
        return usual(name, *rest)

    functionals._smile.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PipelineError, match=r"need the package opensmile: pip install 'ser-pipeline\[opensmile\]'"):
        functional_rows(np.zeros(100, np.float32), Audio(), settings("eGeMAPSv02"))


def test_numbers_of_any_size_are_standardised_and_constant_ones_are_no_noise() -> None:
    random = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([random * torch.tensor([1e10, 1.0, 1e-9]), torch.full((50, 1), 123_456.7)], 1)
    standard = Standard(4, scaled=True)
    standard.fit(rows.split(20))
    found = standard(rows)
    torch.testing.assert_close(found[:, :3].std(0, correction=0), torch.ones(3), atol=0.02, rtol=0)
    assert float(found[:, 3].abs().max()) < 0.1


def test_rows_of_opensmile_are_asked_for_by_name_alone() -> None:
    apart = {name for name in BASELINES if "-" in name}
    assert len(apart) == 4 and not apart & set(ablation_names("all"))
    assert ablation_names("compare-svm") == ["compare-svm"]


@pytest.mark.slow(reason="extracts and trains two baselines")
def test_baselines_on_functionals_from_features_to_a_prediction(run: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("opensmile", reason="the extra opensmile is not installed")
    root = write_emodb(tmp_path / "corpus", speakers=4, takes=2)
    words = ["features", "emodb", root, "--preset", "frozen", "--feature", "functionals", "-q"]
    folder = Path(run(*words, "--jobs", "2").stdout.strip())
    run(*words, "--set", "features.functionals.set=eGeMAPSv02")
    data = manifest.read(folder)
    stores = [Store(path) for path in folder.glob("functionals-*")]
    assert sorted((len(store), *store.shape) for store in stores) == [
        (len(data.utterances), 1, size) for size in sorted(FUNCTIONALS.values())
    ]
    assert "everything is as written" in run("cache", "verify").stdout
    train = ["train", "--preset", "frozen", "--jobs", "1", "--device", "cpu", "-q", "--accept", "counts"]
    said = run(*train, "--ablation", "compare-svm,egemaps-logistic").stdout.splitlines()
    names = [Path(line).name.partition("-s0-")[0] for line in said]
    assert names == ["emodb-speaker-compare-svm", "emodb-speaker-egemaps-logistic"]
    made = Path(said[0])
    with (made / "03" / "predictions.csv").open() as lines:
        row = next(csv.DictReader(lines))
    (found,) = json.loads(run("predict", made, root / row["file"], "--fold", "03", "--device", "cpu", "--json").stdout)
    scores = np.exp([float(row[f"log_p:{label}"]) for label in found["probabilities"]])
    np.testing.assert_allclose(list(found["probabilities"].values()), scores / scores.sum(), atol=1e-3)

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ser_pipeline import config
from ser_pipeline.config import Config
from ser_pipeline.errors import PipelineError
from ser_pipeline.limits import RANGES


def test_the_paper_preset_is_the_defaults() -> None:
    assert config.load("paper") == Config()


def test_layers_go_over_one_another(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nlr = 0.5\nbatch = 8\n")
    made = config.load("demo", file, ["train.batch=4", "seed=7"])
    assert (made.train.lr, made.train.batch, made.seed) == (0.5, 4, 7)
    assert made.model.spectrogram_encoder == config.load("demo").model.spectrogram_encoder != "alexnet"


@pytest.mark.parametrize("preset", config.presets())
def test_every_preset_loads_and_survives_the_round_trip(preset: str) -> None:
    made = config.load(preset)
    assert config.loads(config.dumps(made), "test") == made


@pytest.mark.parametrize("one", config.presets())
@pytest.mark.parametrize("other", config.presets())
def test_pairs_turn_one_config_into_another(one: str, other: str) -> None:
    wanted = config.load(one, None, ["model.spectrogram_weights=/home/é/a b.pth"])
    pairs = config.pairs(wanted, config.load(other))
    assert config.load(other, None, pairs) == wanted
    assert [pair.partition("=")[0] for pair in pairs] == [
        line.partition(":")[0] for line in config.differences(config.load(other), wanted)
    ]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("train.rl=1", "did you mean 'train.lr'"),
        ("nonsense.x=1", "valid: audio"),
        ("train.lr=fast", "'train.lr' must be a number"),
        ("train.batch=1.5", "'train.batch' must be a whole number"),
        ("train.batch=true", "'train.batch' must be a whole number"),
        ("train.monitor=luck", "one of ua, wa"),
        ("train=3", "'train' is a table"),
        ("train.lr", "not KEY=VALUE"),
        ("model.inputs=3", "'model.inputs' must be a list"),
        (
            'model.inputs=["video"]',
            "'model.inputs' is a list of mfcc, spectrogram, .* statistics, not",
        ),
        ('model.inputs=["waveform", "embedding"]', "one of waveform and embedding at most"),
        ("features.mfcc.deltas=3", "'features.mfcc.deltas' is one of 0, 1, 2"),
    ],
)
def test_a_wrong_setting_is_named(pair: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        config.load("paper", None, [pair])


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(PipelineError, match=r"unknown preset 'best'; there are demo, frozen, paper"):
        config.load("best")


def test_a_broken_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("train = [")
    with pytest.raises(PipelineError, match=r"mine\.toml is not valid TOML"):
        config.load("paper", tmp_path / "mine.toml")
    with pytest.raises(PipelineError, match=r"cannot read the settings in .*none\.toml"):
        config.load("paper", tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("pair", "allowed"),
    [("train.epochs=-1", "1 or more"), ("train.lr=-1", "0 or more"), ("model.dropout=1.5", "0 to 1")],
)
def test_a_number_out_of_range_is_refused_with_what_is_allowed(pair: str, allowed: str) -> None:
    name, _, value = pair.partition("=")
    with pytest.raises(PipelineError, match=rf"^setting '{name}' is {allowed}, not {value}$"):
        config.load("paper", None, [pair])


def test_every_range_is_of_a_setting_whose_default_is_in_it() -> None:
    names = dict(_values(asdict(Config())))
    assert set(RANGES) <= set(names)
    assert all(low <= names[name] <= high for name, (low, high) in RANGES.items())


def _values(table: dict[str, object], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        yield from _values(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]


def test_a_setting_without_its_table_is_found() -> None:
    with pytest.raises(PipelineError, match=r"unknown setting 'epochs'; did you mean 'train.epochs'\?"):
        config.load("paper", None, ["epochs=3"])

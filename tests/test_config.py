from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from ser_pipeline import config
from ser_pipeline.config import Audio, Config, Train
from ser_pipeline.errors import PipelineError
from ser_pipeline.limits import declaration


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
        ("nonsense.x=1", "known: audio"),
        ("train.lr=fast", "'train.lr' must be a number"),
        ("train.batch=1.5", "'train.batch' must be a whole number"),
        ("features.embedding.layers=[true]", "'features.embedding.layers' must be a list"),
        ("train.batch=true", "'train.batch' must be a whole number"),
        ("train.monitor=luck", "one of ua, wa"),
        ("train=3", "'train' is a table"),
        ("train.lr", "not KEY=VALUE"),
        ("model.inputs=3", "'model.inputs' must be a list"),
        ('model.inputs=["video"]', r"'model\.inputs' takes a list of mfcc, spectrogram, .* functionals, not"),
        ('model.inputs=["mfcc", "mfcc"]', r"'model\.inputs' names an input twice: .*; use \['mfcc'\]"),
        ('model.inputs=["waveform", "embedding"]', "only one of waveform and embedding"),
        ("features.mfcc.deltas=3", "'features.mfcc.deltas' must be one of 0, 1, 2"),
    ],
)
def test_a_wrong_setting_is_named(pair: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        config.load("paper", None, [pair])


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(PipelineError, match=r"unknown preset 'best'; known: demo, finetune, frozen, paper"):
        config.load("best")


def test_a_broken_settings_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("train = [")
    with pytest.raises(PipelineError, match=r"mine\.toml is not valid TOML"):
        config.load("paper", tmp_path / "mine.toml")
    with pytest.raises(PipelineError, match=r"cannot read the settings in .*none\.toml"):
        config.load("paper", tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("pair", "allowed"),
    [
        ("train.epochs=-1", "1 to 100000 epochs, not -1$"),
        ("train.lr=-1", "0 to 1, not -1$"),
        ("model.dropout=1.5", "0 to 1, not 1.5$"),
        ("model.dropout=nan", "0 to 1, not nan"),
        (f"train.lr=1{400 * '0'}", "0 to 1, not inf$"),
        (f"seed=1{400 * '0'}", "0 to 4294967295, not a number of 401 digits$"),
    ],
)
def test_a_number_out_of_range_is_refused_with_what_is_allowed(pair: str, allowed: str) -> None:
    name = pair.partition("=")[0]
    with pytest.raises(PipelineError, match=rf"^setting '{name}' must be {allowed}$"):
        config.load("paper", None, [pair])


def test_every_setting_is_declared_and_every_number_has_limits_that_hold_its_default() -> None:
    for name, item, value in _items(Config()):
        declared = declaration(item)
        assert declared is not None and declared.about, name
        if declared.choices:
            assert value in declared.choices, name
        elif isinstance(value, int | float) and not isinstance(value, bool):
            assert declared.least is not None and declared.most is not None, name
            assert declared.least <= value <= declared.most, name


def _items(table: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    for item in fields(table):
        value = getattr(table, item.name)
        if is_dataclass(value):
            yield from _items(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", item, value


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ("audio.segment=48001", "not a whole number of frames of audio.hop=160 samples; the nearest is .*=48000$"),
        ("audio.segment=1", "the nearest is audio.segment=160$"),
        ("audio.segment=9600000", "is 600 s, over 60 s; the nearest is audio.segment=960000$"),
        ("model.segments=21", "is 63 s, over 60 s; the nearest is audio.segment=45600$"),
        ("audio.hop=1", "gives 48000 frames .* over 6000; the nearest is audio.hop=8$"),
        ("features.mfcc.n_mels=30", "features.mfcc.n_mfcc=40 is over .*n_mels=30; the nearest is .*n_mfcc=30$"),
        ("features.logmel.n_fft=64", "features.logmel.n_mels=64 is over half of features.logmel.n_fft=64"),
        ("features.spectrogram.bins=402", "over the 401 bins of features.spectrogram.n_fft=800; .*bins=401$"),
        ("features.spectrogram.window=801", "over features.spectrogram.n_fft=800; the nearest is .*window=800$"),
        ("features.mfcc.n_fft=1009", "has a prime factor over 61, .* the nearest is features.mfcc.n_fft=1008$"),
        ("augment.frame_masks=1 augment.frame_mask=301", "over the 300 frames of a segment; the nearest is .*=300$"),
        ("augment.bin_masks=1 augment.bin_mask=201", "over the 200 bands of spectrogram; the nearest is .*=200$"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_the_nearest_that_would(pairs: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said) as caught:
        config.load("paper", None, pairs.split())
    nearest = str(caught.value).rpartition("the nearest is ")[2]
    assert config.load("paper", None, [*pairs.split(), nearest]), "the suggestion is accepted"


def test_a_config_made_in_code_is_held_to_the_same_limits() -> None:
    config.require_valid(Config())
    with pytest.raises(PipelineError, match=r"'train\.lr' must be 0 to 1"):
        config.require_valid(Config(train=Train(lr=2.0)))
    with pytest.raises(PipelineError, match=r"audio\.segment=100 is not a whole number of frames"):
        config.require_valid(Config(audio=Audio(segment=100)))


def test_settings_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match=r"mine\.toml: it is not UTF-8 text"):
        config.load("paper", tmp_path / "mine.toml")
    (tmp_path / "long.toml").write_text(f"seed = {5000 * '9'}")
    with pytest.raises(PipelineError, match=r"long\.toml is not valid TOML"):
        config.load("paper", tmp_path / "long.toml")


def test_a_setting_without_its_table_is_found() -> None:
    with pytest.raises(PipelineError, match=r"unknown setting 'epochs'; did you mean 'train.epochs'\?"):
        config.load("paper", None, ["epochs=3"])

"""What a command shows on a terminal of 80 columns, and how it is stopped."""

import io
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.shell_completion import ShellComplete
from click.testing import Result
from numba import njit
from numba.core import event
from ser_pipeline.cli import main, terminal
from ser_pipeline.cli.columns import WIDEST, aligned
from ser_pipeline.cli.progress import bar_line, shown
from ser_pipeline.cli.terminal import bar, printing, say, start_log

from ser_pipeline import config
from ser_pipeline.features.fourier import _Compiling
from ser_pipeline.training import estimate
from ser_pipeline.training.estimate import LINEAR, PRETRAINED, SMALL, Estimate, advice, kind_of
from ser_pipeline.training.statuses import Status
from ser_pipeline.training.workers import QueueOptions
from support.killed import TINY
from support.sounds import write_emodb
from support.terminal import COLUMNS, COMMAND, on_terminal

TRAIN = ["train", "--accept", "counts", "--preset", "demo", "--protocol", "group-2"]
TRAIN += [word for setting in TINY for word in ("--set", setting)]
RUN = "emodb-speaker-full-s0-0123456789ab"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the features of a small corpus."""
    folder = tmp_path_factory.mktemp("terminal")
    root = write_emodb(folder / "corpus", speakers=3, takes=5)
    subprocess.run([*COMMAND, "features", "emodb", root, "--jobs", "1", "-q"], cwd=folder, check=True)
    return folder


def statuses(epoch: int, done: int = 3, title: tuple[str, str, str] = ("speaker", "full", "s0")) -> list[Status]:
    last, run = {"loss": 0.9341, "ua": 0.6124, "segments_per_second": 90.0}, "-".join(("emodb", *title, "0123456789ab"))
    folds = [Status(run, f"{number:02d}", 60, True, last, title) for number in range(done)]
    begun = [Status(run, f"{number:02d}", epoch, False, last, title) for number in (7, 8)]
    return [*folds, *begun, *(Status(run, f"{number:02d}", 0, False, {}, title) for number in range(9, 420))]


def test_the_bar_shows_fold_epoch_loss_ua_and_the_time_left_in_80_columns() -> None:
    line = bar_line(statuses(12), 60, 100.0, 28_800.0, COLUMNS)
    assert len(line) < COLUMNS
    for part in ("3/416 folds", "07 +1", "epoch 12/60", "loss 0.934", "UA 61.2 %", "8 h 0 min left"):
        assert part in line


@pytest.mark.parametrize("width", [20, 40, 60, 80, 132, 300])
def test_the_bar_fits_every_width(width: int) -> None:
    long = statuses(59, title=("speaker", "spectrogram-w2e-mean", "s12"))
    for some in (long, statuses(0, done=0), statuses(12), [*long, *statuses(3)]):
        for left in (None, 5.0, 1e6):
            assert 0 < len(bar_line(some, 60, 9.0, left, width)) < width


def test_the_bar_and_whole_names_are_there_with_many_folds_of_several_runs() -> None:
    runs = [("speaker", row, seed) for row in ("full", "full-mean") for seed in ("s0", "s1")]
    last = {"loss": 0.9341, "ua": 0.6124}
    some = [
        Status("-".join(title), f"{number}M", 4, number < 3, last, title) for title in runs for number in range(1, 11)
    ]
    line = bar_line(some, 60, 100.0, 2700.0, COLUMNS)
    assert re.match(r"8/40 folds  [█░]{4,}  full s0 3M \+31  epoch 4/60 .* 45 min left$", line)
    line = bar_line([*some[:20], *(replace(one, epoch=5) for one in some[20:])], 60, 100.0, 2700.0, COLUMNS)
    assert re.search(r"[█░]{4,}  full-mean s0 3M \+31  ", line)
    seeds = [one for one in some if one.title[1] == "full"]
    assert " s0 3M +" in bar_line(seeds, 60, 100.0, 2700.0, COLUMNS)


def test_something_is_shown_before_the_first_epoch_ends() -> None:
    begun = statuses(0, done=0)
    assert re.search(r"0/413 folds .* first epoch  12 s so far", bar_line(begun, 60, 12.0, None, COLUMNS))
    assert re.search(r"first epoch  2 min left", bar_line(begun, 60, 12.0, 130.0, COLUMNS))


def test_the_line_of_a_fold_that_has_ended_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    others = statuses(1, done=1, title=("speaker", "full-mean", "s11"))
    with shown(others, 100, False, None) as update:
        update([*statuses(100, done=2), *others])
        update(statuses(100, done=3))
    told = capsys.readouterr().err.strip().split("\n")
    assert told[-1] == "02: loss 0.934, validation UA 61.2 %, 90 segments/s, 60 epochs"
    assert told[0] == "full s0 00: loss 0.934, validation UA 61.2 %, 90 segments/s, 60 epochs"
    assert max(map(len, told)) < COLUMNS


def test_the_bar_marks_its_length_in_ascii_where_nothing_else_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert "---" in bar_line(statuses(12), 60, 9.0, None, 120)


class Terminal(io.StringIO):
    """What a terminal was sent."""

    def isatty(self) -> bool:
        return True


class Due:
    """A timer whose time is up at once, or never."""

    def __init__(self, seconds: float, then: Callable[[], None], *, up: bool = True) -> None:
        self.then, self.up = then, up
        self.cancelled = False

    def start(self) -> None:
        if self.up:
            self.then()

    def cancel(self) -> None:
        self.cancelled = True


def test_an_answer_does_not_land_in_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(terminal, "Timer", Due)
    with bar("predict", "recordings", False) as progress:
        assert shown.getvalue() == "", "a bar without anything to count"
        progress(0.0, 2)
        with printing():
            print("call.wav  happy")
    states = re.split(r"[\r\n]+", shown.getvalue())
    assert "call.wav  happy" in states
    assert any("0/2" in state for state in states)
    assert not any("0.0/2" in state for state in states)


def test_what_takes_no_time_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, timers = Terminal(), list[Due]()

    def never(seconds: float, then: Callable[[], None]) -> Due:
        timers.append(Due(seconds, then, up=False))
        return timers[-1]

    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(terminal, "Timer", never)
    with bar("report", "runs", False) as progress:
        for done in range(3):
            progress(done, 2)
    assert timers[0].cancelled
    timers[0].then()  # even if its time is up just now
    assert shown.getvalue() == ""


def test_a_bar_that_becomes_due_shows_what_was_done_before(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, timers = Terminal(), list[Due]()

    def later(seconds: float, then: Callable[[], None]) -> Due:
        timers.append(Due(seconds, then, up=False))
        return timers[-1]

    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(terminal, "Timer", later)
    with bar("pull", "files", False) as progress:
        progress(3, 9)
        assert shown.getvalue() == ""
        timers[0].then()
        assert "3/9" in shown.getvalue()


def test_numbers_of_a_table_are_not_broken() -> None:
    rows = [("Model", "95 % interval", "Protocol"), ("full", "85.2 to 94.2", "speaker, preset frozen")]
    lines = list(aligned(rows, [1], room=30))
    assert any("85.2 to 94.2" in line for line in lines)
    assert max(map(len, lines)) <= 30


def test_status_is_in_columns_on_a_terminal(made: Path) -> None:
    status, lines = on_terminal(made, "status")
    assert status == 0
    assert len(lines) == 3
    assert not any("\t" in line for line in lines)
    assert len({line.rindex("  whole") for line in lines}) == 1


@pytest.mark.parametrize("args", [("train", "--corpus", "emodbb"), ("trian",), ("train", "--target", "clas")])
def test_errors_are_broken_between_words(made: Path, args: tuple[str, ...]) -> None:
    _, lines = on_terminal(made, *args)
    plain = subprocess.run([*COMMAND, *args], cwd=made, capture_output=True, text=True).stderr
    told = next(line for line in plain.splitlines() if line.startswith("Error: "))
    assert max(map(len, lines)) < COLUMNS
    assert told.split() == " ".join(lines[[line.startswith("Error: ") for line in lines].index(True) :]).split()


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_the_width_of_the_bar_is_taken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    with shown(statuses(1), 60, False, None) as update:
        update(statuses(2))
        wide = screen.getvalue().split("\r")[-1]
        monkeypatch.setenv("COLUMNS", "70")
        update(statuses(3))
        narrow = screen.getvalue().split("\r")[-1].rstrip()
    assert 100 < len(wide.rstrip()) < 120
    assert 50 < len(narrow) < 70


def test_a_line_on_a_terminal_is_broken_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "30")
    text = "about an hour of training, by rates that were measured elsewhere"
    say(text)
    lines = screen.getvalue().strip().split("\n")
    assert max(map(len, lines)) < 30
    assert " ".join(lines) == text
    start_log(quiet=False)
    logging.getLogger("ser_pipeline.some").warning(text)
    logged = screen.getvalue().strip().split("\n")[len(lines) :]
    assert max(map(len, logged)) < 30
    assert " ".join(logged) == f"warning: {text}"


ROWS = [
    ("corpus", "title", "utterances"),
    ("emodb", "Berlin Database of Emotional Speech", "535"),
    ("x", "a self-made one", "7"),
]


@pytest.mark.parametrize("room", [36, 40, 60, 200])
def test_tables_fold_between_words_and_lose_none(room: int) -> None:
    lines = list(aligned(ROWS, right=[2], room=room))
    assert max(map(len, lines)) <= room
    words = [word for row in ROWS for cell in row for word in cell.split()]
    assert sorted(" ".join(lines).split()) == sorted(words)
    assert (len(lines) == 3) == (room >= 60)


def test_a_table_that_cannot_fold_enough_is_a_block_a_row() -> None:
    lines = list(aligned(ROWS, right=[2], room=24))
    assert lines[:5] == [
        "corpus      emodb",
        "title       Berlin",
        "            Database of",
        "            Emotional",
        "            Speech",
    ]
    assert "utterances  535" in lines
    assert max(map(len, lines)) <= 24


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tain"], "unknown command 'tain'; did you mean 'train'?"),
        (["cache", "lss"], "unknown command 'lss'; did you mean 'ls'?"),
        (["train", "--preset", "papr"], "unknown preset 'papr'; did you mean 'paper'?"),
        (["features", "emo_db"], "unknown corpus 'emo_db'; did you mean 'emodb'?"),
        (["features", "--feature", "mffc"], "unknown feature 'mffc'; did you mean 'mfcc'?"),
        (["features", "--set", "train.btach=1"], "unknown setting 'train.btach'; did you mean 'train.batch'?"),
        (["audit", "demo", ".", "--protocol", "speeker"], "'speeker'; did you mean 'speaker'?"),
    ],
)
def test_a_name_that_is_nearly_right_is_asked_back(run: Callable[..., Result], args: list[str], said: str) -> None:
    if args[0] == "audit":
        write_emodb(Path("corpus"))
        args = ["audit", "emodb", "corpus", *args[3:]]
    assert said in run(*args, status=2).stderr


def test_an_ablation_or_a_corpus_without_features_is_asked_back(run: Callable[..., Result], made: Path) -> None:
    cache = ["--cache", made / "cache"]
    assert "unknown ablation 'ful'; did you mean 'full'?" in run("train", "--ablation", "ful", *cache, status=2).stderr
    assert "; did you mean 'emodb'? known: emodb" in run("train", "--corpus", "emdb", *cache, status=1).stderr


def completions(*args: str, begun: str = "") -> set[str]:
    return {item.value for item in ShellComplete(main, {}, "ser-pipeline", "").get_completions([*args], begun)}


def test_the_shell_completes_corpora_runs_presets_and_settings(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / RUN
    run.mkdir(parents=True)
    (run / "run.json").touch()
    assert completions("features", begun="em") == {"emodb", "emotale"}
    assert completions("verify", begun="ru") == completions("predict", begun="ru") == {f"runs/{RUN}"}
    assert completions("train", "--preset", begun="f") == {"finetune", "frozen"}
    assert completions("train", "--set", begun="train.lr") == {"train.lr="}
    assert completions("train", "--ablation", begun="full") == {"full", "full-mean"}
    assert completions("train", "--protocol", begun="off") == {"official", "official-shared"}
    assert completions("train", "--corpus") == set()  # no corpus has features here, which must not end in a traceback
    monkeypatch.setenv("SER_PIPELINE_CACHE", str(made / "cache"))
    assert completions("train", "--corpus") == {"emodb"}


def test_what_kind_of_model_presets_train() -> None:
    kinds = {name: kind_of(config.load(name)) for name in config.presets()}
    assert kinds == {
        "demo": SMALL,
        "finetune": PRETRAINED,
        "frozen": LINEAR,
        "paper": PRETRAINED,
        "reference": PRETRAINED,
        "scratch": SMALL,
    }


@pytest.mark.parametrize(
    ("device", "jobs", "folds", "at_once"),
    [
        ("cpu", 1, 9, 1),
        ("cpu", None, 9, 4),
        ("cpu", 8, 9, 4),
        ("cpu", None, 3, 3),
        ("cuda", None, 9, 2),
        ("cuda", 1, 9, 1),
        ("cuda", 6, 9, 2),
        ("cuda:1", None, 9, 1),
    ],
)
def test_the_estimate_counts_the_folds_that_get_on_at_the_same_time(
    monkeypatch: pytest.MonkeyPatch, device: str, jobs: int | None, folds: int, at_once: int
) -> None:
    monkeypatch.setattr(estimate, "cores", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert estimate._at_once(folds, torch.device(device), QueueOptions(jobs)) == at_once


def test_the_paper_on_a_processor_is_warned_of_with_the_time_that_it_takes() -> None:
    def said(preset: str, device: str) -> str:
        prepared = SimpleNamespace(preset=preset, config=config.load(preset), device=torch.device(device))
        return "\n".join(advice(prepared, Estimate(500_000.0, "estimated from rates on other machines")))  # type: ignore[arg-type]

    assert "warning: preset paper trains large pre-trained networks, which needs a GPU" in said("paper", "cpu")
    assert "about 6 days" in said("paper", "cpu")
    assert "warning" not in said("scratch", "cpu") + said("paper", "cuda")


@pytest.mark.slow(reason="trains two folds twice on a terminal")
def test_training_on_a_terminal_fits_it_and_is_estimated_before_it_starts(made: Path) -> None:
    status, states = on_terminal(made, *TRAIN, "--jobs", "1", "--runs-root", "shown")
    assert status == 0
    assert all(len(state) <= COLUMNS for state in states)
    assert any("of training, estimated from rates on other machines" in state for state in states)
    bars = [state for state in states if re.match(r"\d/2 folds ", state)]
    assert "first epoch" in bars[0]
    assert any(re.search(r"group-\d  epoch \d/3  loss \d\.\d+  UA [\d.]+ %  \d+ s left", state) for state in bars)
    _, states = on_terminal(made, *TRAIN, "--set", "seed=1", "--jobs", "1", "--runs-root", "shown", "--dry-run")
    assert any("of training, estimated from earlier folds" in state for state in states)
    (run,), file = (made / "shown").glob("emodb-*"), next((made / "corpus").rglob("*.wav"))
    _, states = on_terminal(made, "predict", run, file)
    assert not any(state.startswith("predict: 0 recordings") for state in states), "a bar without anything to count"
    header = next(place for place, state in enumerate(states) if state.startswith("file "))
    assert states[header + 1].split(maxsplit=1)[0].endswith(file.name), "the table is split, or runs into the bar"
    assert all(len(state) <= COLUMNS for state in states)


@pytest.mark.parametrize(
    "args", [["corpora"], ["corpora", "iemocap"], ["audit", "emodb", "corpus", "-q"], ["cache", "ls"], ["doctor"]]
)
def test_what_is_listed_fits_a_terminal(made: Path, args: list[str]) -> None:
    status, states = on_terminal(made, *args)
    assert status in (0, 1)
    assert max(map(len, states)) <= COLUMNS
    words = " ".join(subprocess.run([*COMMAND, *args], cwd=made, capture_output=True, text=True).stdout.split())
    seen = {word for state in states for word in state.split() if not word.isdecimal()}  # except ages
    assert seen <= {*words.split()}  # none was cut


@pytest.mark.parametrize("columns", [50, 80, 200])
@pytest.mark.parametrize("args", [["corpora", "iemocap"], ["corpora", "demo"], ["corpora", "folder"]])
def test_text_is_wrapped_at_the_width_of_a_terminal(made: Path, args: list[str], columns: int) -> None:
    _, states = on_terminal(made, *args, columns=columns)
    assert 0.8 * min(columns, WIDEST) < max(map(len, states)) <= min(columns, WIDEST)


@pytest.mark.parametrize(
    "args", [["corpora", "iemocap"], ["audit", "emodb", "corpus", "-q"], ["doctor"], ["corpora"], ["status"]]
)
def test_nothing_is_wrapped_in_a_pipe(made: Path, args: list[str]) -> None:
    narrow, wide = (
        subprocess.run(
            [*COMMAND, *args], cwd=made, capture_output=True, text=True, env={**os.environ, "COLUMNS": columns}
        ).stdout
        for columns in ("40", "400")
    )
    assert re.sub(r"\d+", "0", narrow) == re.sub(r"\d+", "0", wide)  # except for the free space of the disk
    if args not in (["corpora"], ["status"]):
        assert max(map(len, narrow.splitlines())) > WIDEST


INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    @staticmethod
    def find_spec(name, *rest):
        if name == {module!r}:
            sys.meta_path.remove(Finder)
            os.kill(os.getpid(), signal.{signal})

sys.meta_path.insert(0, Finder)
sys.argv = ["ser-pipeline", *{args!r}]
runpy.run_module("ser_pipeline", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "name", "status"),
    [
        ("click", "SIGINT", 130),
        ("ser_pipeline.cli.train", "SIGINT", 130),
        ("numpy", "SIGINT", 130),
        ("torch", "SIGINT", 130),
        ("torch", "SIGTERM", 143),
        ("ser_pipeline.training.queue", "SIGINT", 130),
    ],
)
def test_a_signal_while_the_command_is_still_starting_leaves_no_traceback(
    made: Path, module: str, name: str, status: int
) -> None:
    code = INTERRUPTED.format(module=module, signal=name, args=[*TRAIN, "--dry-run"])
    said = subprocess.run([sys.executable, "-c", code], cwd=made, capture_output=True, text=True)
    assert said.returncode == status
    assert said.stderr.strip().startswith("Stopped" if name == "SIGINT" else name)
    assert "Traceback" not in said.stderr


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Yield a folder whose path is short enough for a socket's name, as some `tmp_path` are too long."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield folder


@pytest.mark.slow(reason="stops training three times and lets it finish once")
def test_a_stopped_command_says_what_is_kept_and_leaves_no_temporary_files(
    made: Path, tmp_path: Path, short_folder: str
) -> None:
    rooms = Path(short_folder)
    environment = {**os.environ, "TMPDIR": str(rooms)}
    command = [*COMMAND, *TRAIN, "--jobs", "2", "--set", "train.epochs=3000", "--runs-root"]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        runs = tmp_path / number.name
        with subprocess.Popen(
            [*command, str(runs)], cwd=made, env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            while process.poll() is None and not list(runs.rglob("history.jsonl")):
                time.sleep(0.05)
            process.send_signal(number)
            said = process.communicate()[1]
        if number != signal.SIGKILL:
            assert process.returncode == 128 + number
            assert said.strip().endswith("finished work is kept. Run the same command again to resume.")
        assert "Traceback" not in said
        for _ in range(1_200):  # the process that forks the workers ends after the command
            if not list(rooms.glob("pymp-*")):
                break
            time.sleep(0.05)
        assert not list(rooms.glob("pymp-*"))


def test_only_what_is_compiled_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "made.py"
    file.write_text("def double(x):\n    return x * 2\n")
    source: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    exec(compile(file.read_text(), str(file), "exec"), source)

    def said() -> list[str]:
        caplog.clear()
        with caplog.at_level("INFO"), event.install_listener("numba:compile", _Compiling()):
            njit(cache=True)(source["double"])(np.ones(2))
        return [record.message for record in caplog.records]

    assert said() == ["compiling the transforms, once per installation"]
    assert said() == []  # the disk has it

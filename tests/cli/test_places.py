"""A full disk, a cache of two users, a file system without locks: none of them loses data."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.killed import SHARED_GROUP, TINY, held
from support.results import predictions, shards
from support.sounds import write_emodb

TRAIN = ["train", "--accept", "counts", "--preset", "demo", "--protocol", "group-2", "--jobs", "1", "--quiet"]
TRAIN += [word for setting in TINY for word in ("--set", setting)]
FEATURES = ("--jobs", "1", "--quiet")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_emodb(tmp_path_factory.mktemp("places") / "corpus", speakers=3, takes=5)


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features and a finished run."""
    folder = tmp_path_factory.mktemp("calm")
    assert held(folder, "features", "emodb", corpus, *FEATURES) == (0, [])
    assert held(folder, *TRAIN) == (0, [])
    return folder


def test_commands_have_the_environment_of_their_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        monkeypatch.setenv("SER_PIPELINE_CACHE", str(tmp_path / name))
        status, (said,) = held(tmp_path, "cache", "ls")
        assert (status, said.partition(";")[0]) == (0, f"nothing in {tmp_path / name}")


@pytest.mark.slow(reason="trains two folds for each limit")
@pytest.mark.parametrize("limit", [200, 3_000, 40_000])
def test_a_full_disk_in_train_is_one_line_and_the_same_command_goes_on(
    trained: Path, tmp_path: Path, limit: int
) -> None:
    (tmp_path / "cache").symlink_to(trained / "cache")
    status, said = held(tmp_path, *TRAIN, limit=limit)
    assert status == 1
    assert len(said) in (1, 3)  # one where no fold could start, otherwise one for each fold and the count
    assert all("no space left on the disk" in line for line in said), said
    assert not list(tmp_path.rglob("*.tmp"))
    assert held(tmp_path, *TRAIN) == (0, [])
    assert predictions(tmp_path) == predictions(trained)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("limit", [200, 30_000])
def test_a_full_disk_in_report_is_one_line_and_the_last_report_stays(trained: Path, tmp_path: Path, limit: int) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    report = ("report", "--quiet")
    assert held(tmp_path, *report) == (0, [])
    before = files(tmp_path / "reports")
    next(tmp_path.glob("runs/*/run.json")).touch()  # otherwise the report is up to date
    status, said = held(tmp_path, *report, limit=limit)
    assert (status, len(said)) == (1, 1), said
    assert "no space left on the disk" in said[0]
    assert (
        files(tmp_path / "reports").items()
        >= {name: before[name] for name in before if "index.json" not in name}.items()
    )
    assert not list(tmp_path.rglob("*.tmp"))
    assert held(tmp_path, *report) == (0, [])
    assert files(tmp_path / "reports").keys() == before.keys()


@pytest.mark.parametrize("limit", [200, 3_000])
def test_a_full_disk_in_export_is_one_line_and_leaves_nothing(trained: Path, tmp_path: Path, limit: int) -> None:
    (run,) = trained.glob("runs/*-*")
    status, said = held(tmp_path, "export", run, "model", "--quiet", limit=limit)
    assert (status, len(said)) == (1, 1), said
    assert "no space left on the disk" in said[0]
    assert [path.name for path in tmp_path.iterdir() if path.name != "said.txt"] == []
    assert held(tmp_path, "export", run, "model", "--quiet") == (0, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_disk_behind_predict_is_one_line(trained: Path, corpus: Path, tmp_path: Path, form: list[str]) -> None:
    (run,) = trained.glob("runs/*-*")
    command = [sys.executable, "-m", "ser_pipeline.cli", "predict", run, min(corpus.rglob("*.wav")), *form]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*command, "--device", "cpu", "--quiet"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: no space left on the disk of the output file or pipe; finished work")


def test_a_full_disk_under_a_plot_is_one_line(trained: Path, corpus: Path, tmp_path: Path) -> None:
    (run,) = trained.glob("runs/*-*")
    words = ("predict", run, min(corpus.rglob("*.wav")), "--device", "cpu", "--quiet", "--plot", "plots")
    status, said = held(tmp_path, *words, limit=1_000)
    assert (status, len(said)) == (1, 1), said
    assert "no space left on the disk" in said[0]
    assert not list(tmp_path.rglob("*.tmp"))


needs_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux can become another user"
)
ONE, TWO = 60_001, 60_002


@pytest.fixture
def users(corpus: Path) -> Iterator[Path]:
    """Return a folder that two users can access, with a folder for each and an empty one for their cache."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(corpus, folder / "corpus")
        for user in (ONE, TWO):
            (folder / str(user)).mkdir()
            os.chown(folder / str(user), user, user)
        (folder / "cache").mkdir()
        yield folder


@needs_root
def test_two_users_of_one_group_share_a_cache(users: Path) -> None:
    os.chown(users / "cache", 0, SHARED_GROUP)
    (users / "cache").chmod(0o2775)

    def run(user: int, *args: object) -> tuple[int | None, list[str]]:
        return held(users / str(user), *args, "--cache", users / "cache", user=user, mask=0o002)

    features = ("features", "emodb", users / "corpus", *FEATURES, "--feature")
    assert run(ONE, *features, "mfcc") == (0, [])
    before = shards(users)
    assert run(TWO, *features, "waveform") == (0, [])
    assert run(ONE, "cache", "verify") == (0, [])
    assert shards(users).items() > before.items()
    next(users.rglob("mfcc-*/000.h5")).write_bytes(b"damaged")
    assert run(TWO, "cache", "verify")[0] == 1
    assert run(TWO, *features, "mfcc") == (0, [])
    assert shards(users).items() > before.items()


@needs_root
def test_a_cache_of_another_user_is_read_and_where_it_cannot_be_written_named(users: Path) -> None:
    (users / "cache").chmod(0o1777)

    def run(user: int, *args: object) -> tuple[int | None, list[str]]:
        return held(users / str(user), *args, "--cache", users / "cache", user=user)

    features = ("features", "emodb", users / "corpus", *FEATURES, "--feature")
    assert run(ONE, *features, "mfcc") == (0, [])
    before = files(users / "cache")
    assert run(TWO, *features, "mfcc") == (0, [])
    assert run(TWO, "cache", "verify") == (0, [])
    status, said = run(TWO, *features, "waveform")
    assert (status, len(said)) == (1, 1)
    assert f"cannot write to {next(users.glob('cache/features/emodb-*'))}: Permission denied" in said[0]
    (users / "cache/features/emodb.json").unlink()
    status, said = run(TWO, "cache", "prune", "--yes")
    (folder,) = users.glob("cache/features/emodb-*")
    assert (status, said) == (1, [f"Error: cannot remove {folder}: Permission denied"])
    assert run(ONE, *features, "mfcc") == (0, [])
    assert files(users / "cache").items() >= {name: before[name] for name in before if ".locks" not in name}.items()


WITHOUT_LOCKS = """
#include <errno.h>
int flock(int descriptor, int operation) { errno = ENOLCK; return -1; }
"""


@pytest.mark.slow(reason="runs four commands in processes of their own")
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="replaces a C function of the system")
def test_a_cache_on_a_file_system_without_locks_is_made_read_and_left_as_it_is(
    corpus: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "stub.c").write_text(WITHOUT_LOCKS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "stub.so", "stub.c"], cwd=tmp_path, check=True)

    def run(*args: object) -> None:
        command = [sys.executable, "-m", "ser_pipeline.cli", *map(str, args)]
        without = os.environ | {"LD_PRELOAD": str(tmp_path / "stub.so")}
        done = subprocess.run(command, cwd=tmp_path, env=without, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("without locks") <= 1

    run("features", "emodb", corpus, *FEATURES)
    before = shards(tmp_path)
    assert len(before) == 3
    run(*TRAIN)
    run("cache", "verify")
    run("cache", "prune", "--yes")
    assert shards(tmp_path) == before
    assert predictions(tmp_path).keys() == predictions(trained).keys()


def files(folder: Path) -> dict[str, bytes]:
    """Return path -> contents of the files in `folder`."""
    found = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}

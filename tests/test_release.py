"""The release: wheel and sdist contain every file of the package and the right metadata."""

import email
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from ser_pipeline import __version__
from support.places import ROOT

PACKAGE = ("ser_pipeline", "cli")


def tracked(*folders: str) -> set[str]:
    """Return the checkout's tracked files below `folders`."""
    listed = subprocess.run(["git", "ls-files", "--", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.split("\n")) - {""}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel and an sdist from git's files; returns their folder."""
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a checkout of git, or no git")
    room = tmp_path_factory.mktemp("release")
    source = room / "source"
    for name in tracked("."):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, source / name)
    code = "import setuptools.build_meta as b; print(b.build_sdist('../made')); print(b.build_wheel('../made'))"
    (room / "made").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    return room / "made"


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(built: Path) -> None:
    (file,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(file).namelist() if ".dist-info/" not in name}
    files = {re.sub("^cli/", "ser_pipeline/cli/", name) for name in tracked(*PACKAGE)}
    assert names == files


def test_the_sdist_holds_what_builds_and_tests_it(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked(*PACKAGE, "tests", "docs", "benchmarks") <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "SECURITY.md", "constraints.txt"} <= names
    assert "cache/README.md" in names
    assert not [name for name in names if re.match(r"cache/[^R]|runs/|\.venv", name)]


def test_the_wheel_says_what_it_is(built: Path) -> None:
    (file,) = built.glob("*.whl")
    archive = zipfile.ZipFile(file)
    (place,) = [name for name in archive.namelist() if name.endswith("METADATA")]
    said = email.message_from_bytes(archive.read(place))
    assert said["Name"] == "ser-pipeline"
    assert said["Version"] == __version__
    assert said["Description-Content-Type"] == "text/markdown"
    (place,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    assert "ser-pipeline = ser_pipeline.__main__:main" in archive.read(place).decode()


def test_versions_and_the_least_python_are_told_alike() -> None:
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in cited
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    least = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["target-version"]
    assert least == "py311"
    assert "python_requires = >= 3.11" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_the_constraints_allow_what_the_package_asks_for() -> None:
    requirements = pytest.importorskip("packaging.requirements", reason="packaging is not installed")
    fixed = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n") if "==" in line
    )
    listed = re.search(r"install_requires =\n((?: +.*\n)+)", (ROOT / "setup.cfg").read_text(encoding="utf-8"))
    assert listed is not None
    for line in listed[1].split("\n"):
        if line.strip():
            asked = requirements.Requirement(line.strip())
            assert asked.specifier.contains(fixed[asked.name.lower()]), line

"""The package from Python: docs/python.md runs as printed, in a script without a main guard and from stdin."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ser_pipeline
from support.places import ROOT

PAGE = ROOT / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


def said(arguments: list[str], folder: Path, code: str | None = None) -> list[str]:
    """Return the lines that Python prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SER_PIPELINE_CACHE": ""}
    done = subprocess.run(
        [sys.executable, *arguments],
        input=code,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow(reason="trains on the demo as in the page")
def test_the_page_runs_as_a_script_without_a_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("\n".join(blocks()), encoding="utf-8")
    lines = said(["script.py"], tmp_path)
    features, run, answer, *parts, first, missing, again, settings, corpora, error = lines
    assert features.startswith("cache/features/demo-")
    assert run.startswith("runs/demo-group-2-full-s0-") and run.endswith("reports/demo/index.html")
    assert re.match(r"\w+ \{'\w+': 0\.\d+", answer)
    assert [part.partition(":")[0] for part in parts] == ["0.0 to 2.0 s", "1.0 to 3.0 s"]
    assert missing == "cannot read missing.wav: No such file or directory"
    assert first == again == answer.partition(" ")[0]
    assert settings.startswith("0.001 (")
    assert "iemocap, " in corpora
    assert error == "runs/none is not a run; `ser-pipeline train` prints the folders of runs"
    # The second time, all results exist already, also for an interactive interpreter.
    told = said(["-i", "-q"], tmp_path, "\n".join(blocks()[:1]) + "\n")
    assert [line for line in told if line.startswith(("cache", "runs"))] == [features, run]


def test_what_the_package_offers_can_be_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ser_pipeline.__all__:
        assert name in dir(ser_pipeline)
        assert getattr(ser_pipeline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ser_pipeline.nonsense  # noqa: B018


def test_the_page_names_every_function_and_its_options() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ser_pipeline.__all__:
        assert f"ser_pipeline.{name}" in page or f"`{name}(" in page


def test_the_package_runs_as_a_module() -> None:
    lines = said(["-m", "ser_pipeline", "--version"], ROOT)
    assert lines == [f"ser-pipeline, version {ser_pipeline.__version__}"]

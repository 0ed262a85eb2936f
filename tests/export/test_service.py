"""docs/service.md: the service answers uploads and streams, and what the container is built from exists."""

import configparser
import re
import types
from pathlib import Path

import numpy as np
import pytest

import ser_pipeline
from support.places import ROOT
from support.sounds import tone

PAGE = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]
CONTAINER = re.findall(r"```dockerfile\n(.*?)```", PAGE, flags=re.DOTALL)[0]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def test_uploads_and_windows_are_answered(small_run: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'ser-pipeline[service]'")
    pytest.importorskip("httpx", reason="httpx is not installed: pip install httpx")
    pytest.importorskip("multipart", reason="python-multipart is not installed: pip install 'ser-pipeline[service]'")
    from fastapi.testclient import TestClient

    monkeypatch.setenv("SER_MODEL", str(small_run))
    service = types.ModuleType("service")
    exec(compile(CODE, "service.py", "exec"), service.__dict__)
    client, model = TestClient(service.app), ser_pipeline.load(small_run)
    file = sorted(corpus.rglob("*.wav"))[0]
    found = client.post("/answer", files={"audio": file.read_bytes()}).json()
    np.testing.assert_allclose(
        list(found["probabilities"].values()), list(model(file).probabilities.values()), atol=1e-6
    )
    wrong = client.post("/answer", files={"audio": b"no audio"})
    assert wrong.status_code == 422 and "\n" not in wrong.json()["detail"]
    window = tone(1, 3.0, 150).astype(np.float32)
    with client.websocket_connect("/listen") as socket:
        for part in (window, window[:16_000]):
            socket.send_bytes(part.tobytes())
            assert socket.receive_json()["emotion"] == model(part, 16_000).emotion


def test_the_example_is_short() -> None:
    assert len([line for line in CODE.splitlines() if line]) <= 30


def test_what_the_container_is_built_from_exists() -> None:
    copied = [name for line in re.findall(r"^COPY (.*)$", CONTAINER, flags=re.MULTILINE) for name in line.split()[:-1]]
    own = {"service.py", "emotions"}  # what the page says to put there
    assert set(copied) > own
    assert [name for name in copied if name not in own and not (ROOT / name).exists()] == []
    (extras,) = re.findall(r'"\.\[(.*?)\]"', CONTAINER)
    assert set(extras.split(",")) <= set(SETUP["options.extras_require"])
    assert set(re.findall(r"ser-pipeline\[(.*?)\]", PAGE)) == {extras}
    assert "uvicorn" in SETUP["options.extras_require"]["service"]
    least = SETUP["options"]["python_requires"].removeprefix(">= ")
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim$", CONTAINER, flags=re.MULTILINE)
    assert tuple(map(int, python.split("."))) >= tuple(map(int, least.split(".")))

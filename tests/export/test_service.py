"""docs/service.md: the service answers uploads and streams, and the container's sources exist."""

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
CODE, CLIENT = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
CONTAINER = re.findall(r"```dockerfile\n(.*?)```", PAGE, flags=re.DOTALL)[0]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def test_uploads_and_windows_are_answered(small_run: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'ser-pipeline[service]'")
    pytest.importorskip("httpx", reason="httpx is not installed: pip install httpx")
    pytest.importorskip("multipart", reason="python-multipart is not installed: pip install 'ser-pipeline[service]'")
    from fastapi import WebSocketDisconnect
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
    assert client.get("/").json() == {"labels": list(model.labels), "rate": model.rate, "window": model.window}
    window = tone(1, 3.0, 150).astype(np.float32)
    for wrong_window, why in ((b"", "no samples"), (b"odd", "multiple"), ((window[:9] * np.nan).tobytes(), "NaN")):
        with client.websocket_connect("/listen") as socket:
            for part in (window, window[:16_000]):
                socket.send_bytes(part.tobytes())
                assert socket.receive_json()["emotion"] == model(part, 16_000).emotion
            socket.send_bytes(wrong_window)
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_json()
            assert closed.value.code == 1003 and why in closed.value.reason


def test_the_example_is_short() -> None:
    assert len([line for line in CODE.splitlines() if line]) <= 30
    compile(CLIENT, "client.py", "exec")


def test_what_the_container_is_built_from_exists() -> None:
    lines = [line.split() for line in re.findall(r"^COPY (.*)$", CONTAINER, flags=re.MULTILINE)]
    copied = [name for line in lines for name in line[:-1]]
    own = {"service.py", "emotions"}  # the files that the page says to add
    assert set(copied) > own
    assert [name for name in copied if name not in own and not (ROOT / name).exists()] == []
    ((source, extras),) = re.findall(r'"(/\S+)\[(.*?)\]"', CONTAINER)
    assert {f"{source}/", f"{source}/cli", f"{source}/ser_pipeline"} == {line[-1] for line in lines[:3]}
    assert f"--constraint {source}/constraints.txt" in CONTAINER
    assert CONTAINER.index("pip install") < CONTAINER.index("USER ") < CONTAINER.index('CMD ["uvicorn')
    assert set(extras.split(",")) <= set(SETUP["options.extras_require"])
    assert set(re.findall(r"ser-pipeline\[(.*?)\]", PAGE)) == {extras}
    needed = SETUP["options.extras_require"]["service"]
    assert "uvicorn" in needed and "websockets" in needed  # uvicorn needs it for streams
    least = SETUP["options"]["python_requires"].removeprefix(">= ")
    (python,) = re.findall(r"^FROM python:([\d.]+)-slim$", CONTAINER, flags=re.MULTILINE)
    assert tuple(map(int, python.split("."))) >= tuple(map(int, least.split(".")))

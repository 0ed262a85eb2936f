"""Fixtures for tests of caches at URLs."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from support.places import S3_KEYS
from support.stores import registered


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return a folder of each kind of URL; S3 is moto's server on the loopback interface."""
    name = uuid.uuid4().hex
    if request.param == "s3":
        pytest.importorskip("s3fs", reason="s3fs is not installed")
        server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", 0)
        server.start()
        host, port = server.get_host_and_port()
        for key, value in {**S3_KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            monkeypatch.setenv(key, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield f"s3://{name}/own"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        server.stop()
    else:
        yield f"file://{tmp_path / 'far'}" if request.param == "file" else f"memory://{name}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with features."""
    return registered(tmp_path_factory.mktemp("made"), speakers=2, takes=1)

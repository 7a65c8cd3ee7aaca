"""The stores under test: a folder, an object store in a folder, and one on a real S3 server."""

import pytest
import skips
from cluster.kube.build import Unavailable
from worker.checkpoint.backends import Backend
from worker.checkpoint.s3_server import BUCKET, S3Server, server_binary


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    try:
        binary = server_binary()
    except Unavailable as why:
        skips.unavailable("s3 server", why)
    server = S3Server(binary, tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server, request, monkeypatch, tmp_path):
    """A place of its own on the S3 server."""
    for name, value in s3_server.environ.items():
        monkeypatch.setenv(name, value)
    prefix = f"{tmp_path.parent.name}/{tmp_path.name}"
    return Backend(s3_server.files / prefix, f"s3://{BUCKET}/{prefix}", s3_server.environ)


@pytest.fixture(params=["file", "s3"])
def objects(request, tmp_path):
    """A place in an object store."""
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return Backend(tmp_path / "objects", f"file://{tmp_path}/objects")


@pytest.fixture(params=["folder", "file", "s3"])
def backend(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return Backend(tmp_path / "store", f"file://{tmp_path}/store" if request.param == "file" else None)


@pytest.fixture
def store(backend):
    return backend.open()

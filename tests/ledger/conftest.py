import tempfile
from pathlib import Path

import pytest
from ledger import postgres
from skips import unavailable

from windward.ledger import open_ledger


@pytest.fixture(scope="session")
def postgres_url():
    bin_dir = postgres.binaries()
    if bin_dir is None:
        unavailable("postgresql", "the ledger is not tested on it")
    # Not pytest's own folder: its parents are closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="windward-pg-") as folder, postgres.server(bin_dir, Path(folder)) as url:
        yield url


DATABASES = ["file", "memory", pytest.param("postgres", marks=pytest.mark.postgres)]


def empty(kind, request, tmp_path):
    """URL of an empty database."""
    if kind == "memory":
        return "sqlite://"
    if kind == "file":
        return f"sqlite:///{tmp_path}/book 100%.db"
    return postgres.fresh_database(request.getfixturevalue("postgres_url"))


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    return empty(request.param, request, tmp_path)


@pytest.fixture
def book(url):
    ledger = open_ledger(url)
    yield ledger
    ledger.close()

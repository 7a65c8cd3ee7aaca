import tempfile
from pathlib import Path

import pytest
from ledger import postgres

from windward.ledger import open_ledger


@pytest.fixture(scope="session")
def postgres_url():
    bin_dir = postgres.binaries()
    if bin_dir is None:
        if postgres.MUST:
            pytest.fail("PostgreSQL is absent (Debian: apt-get install postgresql) and skipping is forbidden")
        pytest.skip("PostgreSQL is absent (Debian: apt-get install postgresql): the book was not tested on it")
    # Not pytest's own folder: its parents are closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="windward-pg-") as folder, postgres.server(bin_dir, Path(folder)) as url:
        yield url


@pytest.fixture(params=["file", "memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    """An empty database."""
    if request.param == "memory":
        return "sqlite://"
    if request.param == "file":
        return f"sqlite:///{tmp_path}/book 100%.db"
    return postgres.fresh_database(request.getfixturevalue("postgres_url"))


@pytest.fixture
def book(url):
    ledger = open_ledger(url)
    yield ledger
    ledger.close()

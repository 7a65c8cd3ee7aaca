"""Servers for the tests of a module."""

import pytest
from worker.serve.process import NAME, Server, save_small


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    return save_small(tmp_path_factory.mktemp("model") / NAME)


@pytest.fixture(scope="module")
def start(small):
    """Start servers on the small model; they end with the module."""
    started = []

    def make(*flags, **options):
        started.append(Server(options.pop("model", small), *flags, **options))
        return started[-1]

    yield make
    for server in started:
        server.close()


@pytest.fixture(scope="module")
def server(start):
    return start("--sequences", 8, "--step-tokens", 256, "--max-tokens", 3000, "--max-prompt", 2000)


@pytest.fixture
def client(server):
    with server.client() as made:
        yield made

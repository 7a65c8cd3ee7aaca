import logging

import pytest
from service.world import World


@pytest.fixture
def quiet():
    """Faults that a test plants are not logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world(quiet):
    made = World()
    yield made
    made.close()

"""The long run, see profiles.py."""

import pytest
from planning.profiles import LONG

from windward import planning


@pytest.fixture(autouse=True)
def compiled_loops_in_the_long_run():
    if LONG:
        planning.prefer_compiled()
    yield
    planning.prefer_compiled(False)

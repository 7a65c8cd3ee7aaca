"""How many examples: few by default, 10,000 each with WINDWARD_LONG=1, n with WINDWARD_LONG=n."""

import os

import pytest
from hypothesis import HealthCheck, settings

LONG = int(os.environ.get("WINDWARD_LONG", "0"))


def thorough(examples):
    """So many examples of a test; those of the long run take their time, which may be an hour.

    The long run prefers the compiled loops (conftest.py), which are ten times as fast. That they plan what numpy's do,
    to the byte, is a property of its own.
    """
    profile = settings(
        max_examples=(10_000 if LONG == 1 else LONG) if LONG else examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return (lambda test: pytest.mark.timeout(0)(profile(test))) if LONG else profile

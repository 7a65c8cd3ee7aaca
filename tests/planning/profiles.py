"""How many examples: few by default, 10,000 each with WINDWARD_LONG=1."""

import os

from hypothesis import HealthCheck, settings

LONG = os.environ.get("WINDWARD_LONG") == "1"


def thorough(examples):
    return settings(
        max_examples=10_000 if LONG else examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

"""How many examples: few by default, 10,000 each with WINDWARD_LONG=1, n with WINDWARD_LONG=n."""

import os

from hypothesis import HealthCheck, settings

LONG = int(os.environ.get("WINDWARD_LONG", "0"))


def thorough(examples):
    return settings(
        max_examples=(10_000 if LONG == 1 else LONG) if LONG else examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )

"""How long a zone's provider is left alone after it failed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from windward.grid.port import NotEntitled, ProviderError, RateLimited, UnknownZone

FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)
LONGEST_RETRY_AFTER = timedelta(hours=6)
LONGEST = LONGEST_RETRY_AFTER * 1.5  # of all pauses, jitter included


@dataclass(frozen=True, slots=True)
class BackOff:
    """Growing, jittered pauses.

    Attributes:
        dice: the jitter.
    """

    dice: random.Random

    def pause(self, error: ProviderError, failures: int) -> timedelta:
        """Returns how long to wait after so many failures in a row: doubling from 30 s to 15 min, times 0.5 to 1.5.

        What asking again does not help gets the longest at once; a provider's own wish is honoured, up to six hours.
        """
        pause = LONGEST_PAUSE
        if not isinstance(error, NotEntitled | UnknownZone):
            pause = min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE)
        pause *= self.dice.uniform(0.5, 1.5)
        if isinstance(error, RateLimited) and error.retry_after is not None:
            wish = min(error.retry_after, LONGEST_RETRY_AFTER)
            pause = max(pause, wish * self.dice.uniform(1.0, 1.1))
        return pause

"""The only place that reads the machine's clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class WarpedClock:
    """A clock that runs `speed` times as fast as the real one, from any start, and can leap ahead.

    now = sim + (real now - since) x speed. The pair (sim, since) can be stored and restored.
    """

    def __init__(self, real: SystemClock, start: datetime, speed: float, since: datetime | None = None) -> None:
        if speed <= 0:
            raise ValueError(f"a clock runs forwards: speed must be above 0, not {speed:g}")
        self.speed = speed
        self._real = real
        self._sim = start
        self._since = since or real.now()
        self._held = False

    def now(self) -> datetime:
        return self._sim if self._held else self._sim + (self._real.now() - self._since) * self.speed

    def restart(self) -> None:
        """Start running now, at the planned start time, so that setup takes no planned time."""
        self._since = self._real.now()

    def hold(self, at: datetime | None = None) -> None:
        """Stop, now or at the earlier planned time `at`, so that a cycle takes no planned time."""
        now = self.now()
        self._sim, self._held = min(now, at or now), True

    def go_on(self, since: datetime | None = None) -> None:
        """Continue from where it stopped, as of the real time `since`; default: now."""
        if self._held:
            self._held, self._since = False, since or self._real.now()

    def leap(self, to: datetime) -> None:
        """Go to `to` at once; a time in the past changes nothing."""
        if to > self.now():
            self._sim, self._since = to, self._real.now()

    def real_seconds(self, span: timedelta) -> float:
        """Returns how long `span` takes in real seconds."""
        return span.total_seconds() / self.speed

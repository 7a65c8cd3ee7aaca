"""The one place of the worker that asks what time it is. Durations are taken from `time.monotonic` instead."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path


def now() -> datetime:
    """The present, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """To the millisecond, with a Z: under a warped clock a second is minutes."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def process_age_s() -> float:
    """Seconds since this process was created, interpreter start included; since boot time is unknown: CPU seconds.

    Linux: field 22 of /proc/self/stat (proc_pid_stat(5)), ticks after boot.
    """
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.process_time()

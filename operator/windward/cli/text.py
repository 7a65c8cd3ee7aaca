"""Text for terminals: strips, times, grams. Words for every state; colour only where it is wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from windward.domain.series import Series, distinct
from windward_api.scalars import format_duration

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = " .:-=+*#"

# What two equal sums of grams differ by when added in another order, with room to spare.
_ROUNDING_G = 1e-9


def unicode_wanted() -> bool:
    """Whether the terminal can be expected to show block characters."""
    encoding = (sys.stdout.encoding or "").lower()
    return os.environ.get("TERM") != "dumb" and "utf" in encoding


def colour_wanted() -> bool:
    """https://no-color.org: NO_COLOR wins; then FORCE_COLOR; then whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def strip(values: Sequence[float], low: float, high: float) -> str:
    """One character a value, its height between `low` and `high`."""
    marks = BLOCKS if unicode_wanted() else ASCII
    span = max(high - low, 1e-9)
    cells = [marks[min(len(marks) - 1, int((v - low) / span * len(marks)))] for v in values]
    if not colour_wanted():
        return "".join(cells)
    return "".join(f"\x1b[38;5;{_shade((v - low) / span)}m{c}" for v, c in zip(values, cells, strict=True)) + "\x1b[0m"


def _shade(share: float) -> int:
    """Blue to yellow, as in cividis: told apart without red and green."""
    return (24, 25, 60, 102, 144, 179, 214, 220)[min(7, max(0, int(share * 8)))]


def hourly(series: Series, start: datetime, hours: int) -> list[float]:
    """Mean intensity of each hour from `start`, as far as the series knows."""
    out = []
    for h in range(hours):
        a = max(start + timedelta(hours=h), series.start)
        b = start + timedelta(hours=h + 1)
        if b > series.end or b <= a:
            break
        out.append(series.mean(a, b))
    return out


def grams(value: float | None, mark: str = "") -> str:
    """Grams with three digits, kilograms from 10 kg."""
    if value is None:
        return "unknown"
    if abs(value) < _ROUNDING_G:
        return f"{mark}0 g"
    if abs(value) >= 10_000:
        return f"{mark}{value / 1000:.3g} kg"
    return f"{mark}{value:.0f} g" if abs(value) >= 100 else f"{mark}{value:.3g} g"


def percent(share: float | None) -> str:
    """A change in per cent, with its sign."""
    return "" if share is None else f"{100 * share:+.0f} %".replace("-0 %", "0 %").replace("+0 %", "0 %")


def until(moment: datetime, now: datetime) -> str:
    """`in 4h30m`, `5m ago`, `now`."""
    span = moment - now
    if abs(span) < timedelta(minutes=1):
        return "now"
    whole = timedelta(minutes=round(abs(span) / timedelta(minutes=1)))
    return f"in {format_duration(whole)}" if span > timedelta(0) else f"{format_duration(whole)} ago"


def day_time(moment: datetime) -> str:
    """`Thu 12 May 11:00Z`."""
    return moment.strftime("%a %d %b %H:%MZ")


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns two spaces apart, as kubectl prints them; `right` names those with figures."""
    widths = [max(len(plain(r[i])) for r in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            pad = " " * (widths[i] - len(plain(cell)))
            cells.append(pad + cell if i in right else cell + pad)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def plain(text: str) -> str:
    """`text` without colour codes."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def best_start(series: Series, now: datetime, until_: datetime, length: timedelta) -> tuple[datetime, float] | None:
    """The cleanest window of `length` in [now, until_]: start and mean intensity."""
    from datetime import UTC

    last = min(until_, series.end) - length
    if last < max(now, series.start):
        return None
    d = length.total_seconds()
    starts = np.concatenate([[now.timestamp(), last.timestamp()], series.edges, series.edges - d])
    starts = distinct(starts[(starts >= now.timestamp()) & (starts <= last.timestamp())])
    area = (series.integral(starts + d) - series.integral(starts)) / (d / 3600)
    i = int(np.argmin(area))
    return datetime.fromtimestamp(float(starts[i]), UTC), float(area[i])

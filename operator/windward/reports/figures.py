"""How grams, shares and times are written: in one form in every table, page and card."""

from __future__ import annotations

from datetime import datetime, timedelta

from windward_api.scalars import format_duration

# What two equal sums of grams differ by when added in another order, with room to spare.
_ROUNDING_G = 1e-9
_MOST_SHARE = 10.0  # times the baseline: beyond it a per cent says how small the baseline is, not what was lost


def grams(value: float | None, mark: str = "") -> str:
    """Grams with three digits, kilograms from 10 kg; no minus before a zero."""
    if value is None:
        return "unknown"
    if abs(value) < _ROUNDING_G:
        return f"{mark}0 g"
    if abs(value) >= 10_000:
        return f"{mark}{value / 1000:.3g} kg"
    return f"{mark}{value:.0f} g" if abs(value) >= 100 else f"{mark}{value:.3g} g"


def signed_grams(value: float) -> str:
    """A difference of grams with its sign; what rounds to nothing has none."""
    return "0 g" if abs(value) < 0.5 else f"{value:+.0f} g"


def percent(share: float | None) -> str:
    """A change in per cent, with its sign; what rounds to nothing has none."""
    if share is None:
        return ""
    whole = round(100 * share)
    return f"{whole:+d} %" if whole else "0 %"


def saved(saved_g: float | None, run_now_g: float | None, mark: str = "") -> str:
    """A saving in one form everywhere: `124 g (24 %)`; more than running now is negative; of nothing, or next to
    nothing, no per cent."""
    if saved_g is None:
        return "unknown"
    nothing = not run_now_g or run_now_g < _ROUNDING_G or abs(saved_g) > _MOST_SHARE * run_now_g
    share = "" if nothing or not run_now_g else f" ({saved_percent(saved_g / run_now_g)})"
    return f"{grams(saved_g, mark)}{share}"


def saved_percent(share: float) -> str:
    """A saved share: positive where less was emitted than by running now."""
    return f"{round(100 * share) + 0} %"


def until(moment: datetime, now: datetime) -> str:
    """`in 4h30m`, `5m ago`, `now`."""
    span = moment - now
    if abs(span) < timedelta(minutes=1):
        return "now"
    whole = timedelta(minutes=round(abs(span) / timedelta(minutes=1)))
    return f"in {format_duration(whole)}" if span > timedelta(0) else f"{format_duration(whole)} ago"


def day_time(moment: datetime, now: datetime | None = None) -> str:
    """`Thu 12 May 11:00Z`; with the year where it is not that of `now`."""
    year = f" {moment.year}" if now is not None and moment.year != now.year else ""
    return f"{moment:%a %d %b}{year} {moment:%H:%MZ}"

"""From parsed points to a `Series`, or a refusal that names its reason. Pure.

What is decided here, once for all providers:

- Null, NaN-free and `-1` are *absent*. Absent values at either end are cut off (a partial horizon is a horizon);
  an absent value between two others is refused, because a filled hour is an invented one.
- Exactly 0 g is legal for a marginal signal. For an average it is refused where it is the whole answer, where
  life-cycle factors make it impossible, and where a neighbour is above `ZERO_NEIGHBOUR`: a missing hour read as 0.
- More than `MAX_G_PER_KWH` is refused: the dirtiest lignite plant stays near 1500.
- An average whose every value is below 1 g is refused as another unit (kg/kWh, t/MWh). Refusing a truly carbon-free
  zone costs it nothing that a fallback would not give; believing 0.3 kg as 0.3 g would draw all work there.
- Periods are in order, once each, without gaps. Where the provider states their ends, steps may change along the way;
  where it does not, a longer step cannot be told from a gap and is refused as one.
- A constant answer is true for some zones and is accepted: `is_flat` tells, so that people can be told that waiting
  gains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from windward.domain.clock import utc
from windward.domain.series import Floats, Kind, Quality, Scope, Series, Signal
from windward.grid.port import ForecastInvalid, InvalidReason

MAX_G_PER_KWH = 2000.0
ZERO_NEIGHBOUR_G_PER_KWH = 50.0
_DAY_S = 86_400.0

# Factor to g/kWh. lb: international avoirdupois pound, exactly 0.45359237 kg.
UNITS: dict[str, float] = {
    "gco2/kwh": 1.0,
    "gco2eq/kwh": 1.0,
    "gco2e/kwh": 1.0,
    "g/kwh": 1.0,
    "kg/mwh": 1.0,
    "kgco2/mwh": 1.0,
    "kg/kwh": 1000.0,
    "kgco2/kwh": 1000.0,
    "t/mwh": 1000.0,
    "lbs_co2_per_mwh": 0.45359237,
    "lb/mwh": 0.45359237,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider's answer says, before anything of it is believed.

    Attributes:
        zone: the zone that the answer names, or None where the format names none.
        unit: the unit that the answer or the provider's documentation names.
        starts: period starts, epoch seconds UTC.
        values: one a period; None is absent.
        quality: one for all, or one a period.
        ends: period ends where the provider states them, else None.
        step_s: the period length where it is known but ends are not; else it is taken from the starts.
    """

    zone: str | None
    unit: str
    starts: Sequence[float] | Floats
    values: Sequence[object] | Floats
    quality: Quality | Sequence[Quality]
    ends: Sequence[float] | Floats | None = None
    step_s: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who says it: what `validate` writes on the series."""

    kind: Kind
    source: str
    issued_at: datetime
    fetched_at: datetime
    attribution: str = ""
    demo: bool = False


def validate(zone: str, answer: Answer, origin: Origin, *, now: datetime | None = None) -> Series:
    """The answer as a series.

    Args:
        zone: what was asked for.
        now: given for a forecast, which must reach beyond it and begin no later than the next period;
            None for history.

    Raises:
        ForecastInvalid: with the first reason found, in the order envelope, values, times.
    """
    if answer.zone is not None and answer.zone != zone:
        raise _refused(zone, InvalidReason.WRONG_ZONE, f"the answer is for {answer.zone[:64]!r}")
    if not (len(answer.starts) == len(answer.values)):
        raise _refused(zone, InvalidReason.MALFORMED, f"{len(answer.starts)} times for {len(answer.values)} values")
    keep, values = _values(zone, answer)
    _check_magnitudes(zone, values, origin.kind)
    edges = _edges(zone, answer, keep)
    _check_zeros(zone, values, edges, origin.kind)
    if now is not None:
        _check_reach(zone, edges, utc(now).timestamp())
    quality = (answer.quality,) * len(values) if isinstance(answer.quality, Quality) else tuple(answer.quality)[keep]
    return Series(
        zone,
        origin.kind,
        edges,
        values,
        quality,
        origin.source,
        utc(origin.issued_at),
        utc(origin.fetched_at),
        origin.attribution,
        origin.demo,
    )


def is_flat(series: Series) -> bool:
    """Whether the intensity does not change (within 0.1 %): waiting gains nothing here. False for a single period."""
    values = series.intensity_g_per_kwh
    return len(values) > 1 and float(np.ptp(values)) <= 1e-3 * float(np.max(values))


def _refused(zone: str, reason: InvalidReason, cause: str, fix: str = "") -> ForecastInvalid:
    return ForecastInvalid(zone, reason, cause, fix)


def _values(zone: str, answer: Answer) -> tuple[slice, Floats]:
    """The span between the first and last present value, and its values in g/kWh."""
    factor = UNITS.get(answer.unit.strip().lower())
    if factor is None:
        known = ", ".join(sorted(UNITS))
        raise _refused(zone, InvalidReason.WRONG_UNIT, f"unit {answer.unit[:32]!r} is unknown", f"Known: {known}.")
    raw = _numbers(zone, answer.values)
    present = np.flatnonzero(~np.isnan(raw) & (raw != -1.0))
    if len(present) == 0:
        raise _refused(zone, InvalidReason.EMPTY, "the answer holds no value")
    keep = slice(int(present[0]), int(present[-1]) + 1)
    values = raw[keep]
    if np.isnan(values).any():
        raise _refused(zone, InvalidReason.NULL, "a value is missing between two others")
    if (values == -1.0).any():
        raise _refused(zone, InvalidReason.SENTINEL, "-1 stands between two values, which means unknown")
    return keep, values * factor


def _numbers(zone: str, values: Sequence[object] | Floats) -> Floats:
    """Values as floats with NaN for an absent one; anything that is no finite number is refused."""
    if isinstance(values, np.ndarray):
        raw = values.astype(np.float64)
        bad = ~np.isfinite(raw)
    else:
        try:
            # bool is an int to Python, and no intensity
            raw = np.array([float(v) if type(v) in (int, float) else np.nan for v in values])  # type: ignore[arg-type]
        except OverflowError:
            raise _refused(zone, InvalidReason.IMPLAUSIBLE, "a value is beyond any float") from None
        bad = np.array([v is not None for v in values], dtype=bool) & ~np.isfinite(raw)
    if bad.any():
        raise _refused(zone, InvalidReason.NOT_A_NUMBER, f"value {int(np.argmax(bad)) + 1} is not a finite number")
    return raw


def _check_magnitudes(zone: str, values: Floats, kind: Kind) -> None:
    if values.min() < 0:
        raise _refused(zone, InvalidReason.NEGATIVE, f"{values.min():g} g/kWh is negative")
    if values.max() > MAX_G_PER_KWH:
        raise _refused(zone, InvalidReason.IMPLAUSIBLE, f"{values.max():g} g/kWh is more than any plant emits")
    if kind.signal is Signal.AVERAGE and 0 < values.max() < 1.0:
        cause = f"every value is below 1 (largest {values.max():g}), which reads like kg/kWh"
        raise _refused(zone, InvalidReason.WRONG_UNIT, cause)


def _check_zeros(zone: str, values: Floats, edges: Floats, kind: Kind) -> None:
    """Tell the legal 0 g from the missing hour and from the broken exporter's default."""
    zero = values == 0.0
    if not zero.any():
        return
    average = kind.signal is Signal.AVERAGE
    if zero.all() and (average or edges[-1] - edges[0] >= _DAY_S):
        raise _refused(zone, InvalidReason.ZERO, "every value is 0 g/kWh")
    if average and kind.scope is Scope.LIFE_CYCLE:
        raise _refused(zone, InvalidReason.ZERO, "0 g/kWh is impossible with life-cycle factors")
    if average:
        neighbour = np.maximum(np.concatenate([[0.0], values[:-1]]), np.concatenate([values[1:], [0.0]]))
        if (zero & (neighbour > ZERO_NEIGHBOUR_G_PER_KWH)).any():
            raise _refused(zone, InvalidReason.ZERO, "0 g/kWh beside a high value reads like a missing hour")


def _edges(zone: str, answer: Answer, keep: slice) -> Floats:
    """Period boundaries; refuses what is out of order, doubled or torn."""
    starts = np.asarray(answer.starts, dtype=np.float64)[keep]
    if not np.isfinite(starts).all():
        raise _refused(zone, InvalidReason.BAD_TIME, "a period has no start")
    steps = np.diff(starts)
    if (steps == 0).any():
        raise _refused(zone, InvalidReason.DOUBLED, "one period stands there twice")
    if (steps < 0).any():
        # A doubled hour can also come back a few rows later (local clocks going back)
        doubled = len(np.unique(starts)) < len(starts)
        reason = InvalidReason.DOUBLED if doubled else InvalidReason.UNSORTED
        raise _refused(zone, reason, "periods are not in order of time")
    if answer.ends is not None:
        return _stated_edges(zone, starts, np.asarray(answer.ends, dtype=np.float64)[keep])
    return _inferred_edges(zone, starts, steps, answer.step_s)


def _stated_edges(zone: str, starts: Floats, ends: Floats) -> Floats:
    if len(ends) != len(starts) or not np.isfinite(ends).all() or (ends <= starts).any():
        raise _refused(zone, InvalidReason.BAD_TIME, "a period does not end after it starts")
    if (ends[:-1] < starts[1:]).any():
        raise _refused(zone, InvalidReason.GAP, "there is a gap between two periods")
    if (ends[:-1] > starts[1:]).any():
        raise _refused(zone, InvalidReason.DOUBLED, "two periods overlap")
    return np.append(starts, ends[-1])


def _inferred_edges(zone: str, starts: Floats, steps: Floats, step_s: float | None) -> Floats:
    if step_s is None:
        if len(steps) == 0:
            raise _refused(zone, InvalidReason.MALFORMED, "a single point of unknown length")
        lengths, counts = np.unique(steps, return_counts=True)
        step_s = float(lengths[np.argmax(counts)])
    if (steps > step_s).any():
        raise _refused(zone, InvalidReason.GAP, f"a step is longer than {step_s:g} s, so a period is missing")
    if (steps < step_s).any():
        raise _refused(zone, InvalidReason.MIXED_STEPS, f"a step is shorter than {step_s:g} s")
    return np.append(starts, starts[-1] + step_s)


def _check_reach(zone: str, edges: Floats, now_s: float) -> None:
    if edges[-1] <= now_s:
        raise _refused(zone, InvalidReason.PAST_ONLY, f"it ends {(now_s - edges[-1]) / 3600:.1f} h before now")
    if edges[0] > now_s + (edges[1] - edges[0]):
        raise _refused(zone, InvalidReason.STARTS_LATE, f"it begins {(edges[0] - now_s) / 3600:.1f} h after now")

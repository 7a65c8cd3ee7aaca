"""From parsed points to a `Series`, or a refusal that names its reason. Pure.

What is decided here, once for all providers:

- Null, NaN and `-1` are *absent*. Absent values at either end are cut off (a partial horizon is a horizon); an absent
  value or a missing period between two others is a hole (`Series.after_gap`): it is not filled, because a filled hour
  is an invented one, and it costs nothing else.
- Exactly 0 g is legal for a marginal signal. For an average it is refused where it is the whole answer. It is absent
  where life-cycle factors make it impossible and where a neighbour is above `ZERO_NEIGHBOUR`: a missing hour read as 0.
- More than `MAX_G_PER_KWH` is refused: the dirtiest lignite plant stays near 1500.
- An average whose every value is below 1 g is refused as another unit (kg/kWh, t/MWh). Refusing a truly carbon-free
  zone costs it nothing that a fallback would not give; believing 0.3 kg as 0.3 g would draw all work there.
- Periods are in order, once each. Where the provider states their ends, steps may change along the way; where it does
  not, a longer step cannot be told from a hole, and one with more missing rows than one in ten is refused: its steps
  changed, or most of it is missing.
- A constant answer is true for some zones and is accepted: `is_flat` tells, so that people can be told that waiting
  gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from windward.domain.clock import utc
from windward.domain.series import Floats, Kind, Quality, Scope, Series, Signal
from windward.grid.port import ForecastInvalid, InvalidReason

MAX_G_PER_KWH = 2000.0
ZERO_NEIGHBOUR_G_PER_KWH = 50.0
_DAY_S = 86_400.0
_LATEST_START_S = 7200.0

# Factor to g/kWh. lb: international avoirdupois pound, exactly 0.45359237 kg.
UNITS: dict[str, float] = {
    "g/kwh": 1.0,
    "kg/mwh": 1.0,
    "t/gwh": 1.0,
    "kg/kwh": 1000.0,
    "t/mwh": 1000.0,
    "g/mwh": 0.001,
    "lb/mwh": 0.45359237,
    "lb/kwh": 453.59237,
}
_GAS = re.compile(r"co2(eq|e)?")


def g_per_kwh(unit: str) -> float | None:
    """The factor from `unit` to g/kWh, or None for an unknown one. `lbs_co2_per_mwh`, `gCO₂eq/kWh` and `kg CO2e / MWh`
    are spellings of the same few units."""
    plain = unit.lower().replace("₂", "2").replace("_per_", "/").replace(" per ", "/")
    plain = re.sub(r"[\s_\-]", "", _GAS.sub("", plain))
    plain = re.sub(r"^(lbs|pounds?)/", "lb/", re.sub(r"^(tonnes?|tons?|metrictons?)/", "t/", plain))
    return UNITS.get(plain)


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
    _check_magnitudes(zone, values[~np.isnan(values)], origin.kind)
    starts, ends = _periods(zone, answer, keep)
    if answer.ends is None:
        _check_rows_missing(zone, starts, ends)
    present = ~np.isnan(values) & ~_no_zeros(zone, values, float(ends[-1] - starts[0]), origin.kind)
    starts, ends, values = starts[present], ends[present], values[present]
    quality = (
        (answer.quality,) * len(values) if isinstance(answer.quality, Quality) else _kept(answer.quality, keep, present)
    )
    cuts = np.flatnonzero(ends[:-1] < starts[1:]) + 1
    bounds = [0, *cuts.tolist(), len(values)]
    stretches = [
        _series(zone, origin, np.append(starts[i:j], ends[j - 1]), values[i:j], quality[i:j])
        for i, j in pairwise(bounds)
    ]
    if now is not None:
        stretches = _reaching(zone, stretches, utc(now).timestamp())
    return Series.of_stretches(stretches)


def _check_rows_missing(zone: str, starts: Floats, ends: Floats) -> None:
    """Where ends are not stated, many missing rows are another step."""
    torn = int((ends[:-1] < starts[1:]).sum())
    if torn > max(1, len(starts) // 10):
        cause = f"{torn} holes in {len(starts)} periods, so the steps changed or most of it is missing"
        raise _refused(zone, InvalidReason.GAP, cause)


def _kept(quality: Sequence[Quality], keep: slice, present: npt.NDArray[np.bool_]) -> tuple[Quality, ...]:
    return tuple(q for q, there in zip(tuple(quality)[keep], present, strict=True) if there)


def _series(zone: str, origin: Origin, edges: Floats, values: Floats, quality: tuple[Quality, ...]) -> Series:
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
    """The span between the first and last present value, and its values in g/kWh, NaN where absent."""
    factor = g_per_kwh(answer.unit)
    if factor is None:
        known = ", ".join(sorted(UNITS))
        raise _refused(zone, InvalidReason.WRONG_UNIT, f"unit {answer.unit[:32]!r} is unknown", f"Known: {known}.")
    raw = _numbers(zone, answer.values)
    raw[raw == -1.0] = np.nan  # somebody's "unknown"
    present = np.flatnonzero(~np.isnan(raw))
    if len(present) == 0:
        raise _refused(zone, InvalidReason.EMPTY, "the answer holds no value")
    keep = slice(int(present[0]), int(present[-1]) + 1)
    return keep, raw[keep] * factor


def _numbers(zone: str, values: Sequence[object] | Floats) -> Floats:
    """Values as floats with NaN for an absent one; anything else that is no finite number is refused."""
    if isinstance(values, np.ndarray):
        raw = values.astype(np.float64)
        bad = np.isinf(raw)
    else:
        try:
            # bool is an int to Python, and no intensity
            raw = np.array([float(v) if type(v) in (int, float) else np.nan for v in values])  # type: ignore[arg-type]
        except OverflowError:
            raise _refused(zone, InvalidReason.IMPLAUSIBLE, "a value is beyond any float") from None
        absent = np.array([v is None or (type(v) is float and v != v) for v in values], dtype=bool)
        bad = ~absent & ~np.isfinite(raw)
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


def _no_zeros(zone: str, values: Floats, span_s: float, kind: Kind) -> npt.NDArray[np.bool_]:
    """Which 0 g are missing hours (n,); tells them from the legal 0 g and refuses the broken exporter's default."""
    zero = values == 0.0
    average = kind.signal is Signal.AVERAGE
    if zero[~np.isnan(values)].all() and (average or span_s >= _DAY_S):
        raise _refused(zone, InvalidReason.ZERO, "every value is 0 g/kWh")
    if not average:
        return np.zeros(len(values), bool)
    missing = zero  # 0 g is impossible with life-cycle factors
    if kind.scope is not Scope.LIFE_CYCLE:
        known = np.nan_to_num(values)
        neighbour = np.maximum(np.concatenate([[0.0], known[:-1]]), np.concatenate([known[1:], [0.0]]))
        missing = zero & (neighbour > ZERO_NEIGHBOUR_G_PER_KWH)
    if missing.sum() > max(1, len(values) // 10):
        cause = f"{missing.sum()} of {len(values)} values are 0 g/kWh beside others that are not"
        raise _refused(zone, InvalidReason.ZERO, cause)
    return np.asarray(missing)


def _periods(zone: str, answer: Answer, keep: slice) -> tuple[Floats, Floats]:
    """Starts and ends of the periods; refuses what is out of order or doubled."""
    starts = np.asarray(answer.starts, dtype=np.float64)[keep]
    if not np.isfinite(starts).all():
        raise _refused(zone, InvalidReason.BAD_TIME, "a period has no start")
    steps = np.diff(starts)
    if (steps == 0).any():
        raise _refused(
            zone, InvalidReason.DOUBLED, f"the period from {_at(starts[:-1][steps == 0])} stands there twice"
        )
    if (steps < 0).any():
        # A doubled hour can also come back a few rows later (local clocks going back)
        doubled = len(np.unique(starts)) < len(starts)
        reason = InvalidReason.DOUBLED if doubled else InvalidReason.UNSORTED
        raise _refused(zone, reason, f"periods are not in order of time at {_at(starts[1:][steps < 0])}")
    if answer.ends is not None:
        ends = np.asarray(answer.ends, dtype=np.float64)[keep]
        if len(ends) != len(starts) or not np.isfinite(ends).all() or (ends <= starts).any():
            raise _refused(zone, InvalidReason.BAD_TIME, "a period does not end after it starts")
    else:
        ends = starts + _step_s(zone, steps, answer.step_s)
    if (ends[:-1] > starts[1:]).any():
        reason = InvalidReason.DOUBLED if answer.ends is not None else InvalidReason.MIXED_STEPS
        raise _refused(zone, reason, f"two periods overlap at {_at(starts[1:][ends[:-1] > starts[1:]])}")
    return starts, ends


def _step_s(zone: str, steps: Floats, step_s: float | None) -> float:
    """The length of a period where ends are not stated: the most frequent distance of two."""
    if step_s is not None:
        return step_s
    if len(steps) == 0:
        raise _refused(zone, InvalidReason.MALFORMED, "a single point of unknown length")
    lengths, counts = np.unique(steps, return_counts=True)
    return float(lengths[np.argmax(counts)])


def _at(moments_s: Floats) -> str:
    """The first of the moments, as people read it; a time beyond the calendar as the number it is."""
    try:
        return datetime.fromtimestamp(float(moments_s[0]), UTC).strftime("%Y-%m-%dT%H:%MZ")
    except (ValueError, OverflowError, OSError):
        return f"{moments_s[0]:g} s"


def _reaching(zone: str, stretches: list[Series], now_s: float) -> list[Series]:
    """The stretches from the one that contains `now` on; a hole of up to two hours at `now` costs nothing else."""
    ahead = [s for s in stretches if s.edges[-1] > now_s]
    if not ahead:
        late_h = (now_s - stretches[-1].edges[-1]) / 3600
        raise _refused(zone, InvalidReason.PAST_ONLY, f"it ends {late_h:.1f} h before now")
    first = ahead[0]
    if first.edges[0] > now_s + max(first.edges[1] - first.edges[0], _LATEST_START_S):
        raise _refused(zone, InvalidReason.STARTS_LATE, f"it begins {(first.edges[0] - now_s) / 3600:.1f} h after now")
    return ahead

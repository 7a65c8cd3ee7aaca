"""What a carbon answer must be; one row for every way in which a real service has been wrong."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from windward.domain.series import Basis, Kind, Quality, Scope, Signal
from windward.grid import ForecastInvalid, InvalidReason, is_flat
from windward.grid.validate import UNITS, Answer, Origin, g_per_kwh, validate

LIFE_CYCLE = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
DIRECT = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.CONSUMPTION)
MARGINAL = Kind(Signal.MARGINAL, Scope.DIRECT, Basis.PRODUCTION)
NOW = datetime(2026, 11, 21, 9, 20, tzinfo=UTC)
H = 3600.0
T0 = datetime(2026, 11, 21, 9, tzinfo=UTC).timestamp()
R = InvalidReason


def read(values, starts=None, *, kind=LIFE_CYCLE, zone="DE", unit="gCO2eq/kWh", ends=None, step_s=None, now=NOW):
    starts = [T0 + H * k for k in range(len(values))] if starts is None else starts
    answer = Answer(zone, unit, starts, values, Quality.FORECAST, ends, step_s)
    return validate("DE", answer, Origin(kind, "test", NOW, NOW), now=now)


def at(*hours):
    return [T0 + H * k for k in hours]


# (name, values, how the answer is given, reason)
REFUSED = [
    ("nothing", [], {}, R.EMPTY),
    ("only nulls", [None, None], {}, R.EMPTY),
    ("only -1", [-1, -1, -1], {}, R.EMPTY),
    ("infinity", [300, math.inf], {}, R.NOT_A_NUMBER),
    ("text", [300, "310"], {}, R.NOT_A_NUMBER),
    ("true", [300, True], {}, R.NOT_A_NUMBER),
    ("a list", [300, [1]], {}, R.NOT_A_NUMBER),
    ("negative", [300, -0.5], {}, R.NEGATIVE),
    ("a thousand million", [300, 1e9], {}, R.IMPLAUSIBLE),
    ("just above the limit", [300, 2000.01], {}, R.IMPLAUSIBLE),
    ("beyond any float", [300, 10**400], {}, R.IMPLAUSIBLE),
    ("a broken exporter's 0", [0] * 5, {"kind": DIRECT}, R.ZERO),
    ("a marginal day of nothing", [0] * 24, {"kind": MARGINAL}, R.ZERO),
    ("kg/kWh sold as g/kWh", [0.31, 0.29, 0.4], {}, R.WRONG_UNIT),
    ("an unknown unit", [300, 310], {"unit": "index"}, R.WRONG_UNIT),
    ("another zone (fallback to the caller)", [300, 310], {"zone": "FR"}, R.WRONG_ZONE),
    ("more times than values", [300], {"starts": at(0, 1)}, R.MALFORMED),
    ("one point of unknown length", [300], {}, R.MALFORMED),
    ("newest first", [300, 310, 320], {"starts": at(2, 1, 0)}, R.UNSORTED),
    ("a swapped pair", [300, 310, 320], {"starts": at(0, 2, 1)}, R.UNSORTED),
    ("an hour twice", [300, 310, 320], {"starts": at(0, 1, 1)}, R.DOUBLED),
    ("the day of 25 local hours", [1e2] * 5, {"starts": at(0, 1, 2, 1, 2)}, R.DOUBLED),
    ("a half hour among hours, ends unstated", [300, 310, 320, 330], {"starts": at(0, 1, 1.5, 2.5)}, R.MIXED_STEPS),
    ("not a time", [300, 310], {"starts": [T0, math.nan]}, R.BAD_TIME),
    ("ends before it starts", [300, 310], {"ends": at(1, 0.5)}, R.BAD_TIME),
    ("a stated overlap", [300, 310], {"ends": at(1.5, 2)}, R.DOUBLED),
    ("past only", [300, 310], {"starts": at(-3, -2)}, R.PAST_ONLY),
    ("it ends just now", [300, 310], {"starts": at(-2 + 1 / 3, -1 + 1 / 3)}, R.PAST_ONLY),
    ("begins after the next period", [300, 310], {"starts": at(3, 4)}, R.STARTS_LATE),
    ("hours between quarters of hours, ends unstated", [300] * 40,
     {"starts": [T0 + H * k / 4 for k in range(25)] + [T0 + H * (6 + k) for k in range(1, 16)]}, R.GAP),
    ("zeros half of the time", [300, 0] * 12, {"kind": DIRECT}, R.ZERO),
    ("zeros half of the time, life-cycle", [300, 0] * 12, {}, R.ZERO),
]  # fmt: skip


@pytest.mark.parametrize(("values", "given", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused(values, given, reason):
    with pytest.raises(ForecastInvalid) as refusal:
        read(values, **given)
    assert refusal.value.reason is reason
    assert refusal.value.zone == "DE"
    assert str(refusal.value).startswith(f"carbon data for DE refused ({reason.value}): ")


# (name, values, how the answer is given, what is taken)
TAKEN = [
    ("a plain answer", [300, 310.5], {}, [300, 310.5]),
    ("a horizon cut off by nulls", [300, 310, None, None], {}, [300, 310]),
    ("a horizon cut off by -1", [300, 310, -1], {}, [300, 310]),
    ("nulls where the actuals stand", [None, 300, 310], {"starts": at(-1, 0, 1)}, [300, 310]),
    ("the limit itself", [300, 2000], {}, [300, 2000]),
    ("a marginal 0", [300, 0, 0, 310], {"kind": MARGINAL}, [300, 0, 0, 310]),
    ("a direct 0 on an almost carbon-free grid", [3, 0, 2], {"kind": DIRECT}, [3, 0, 2]),
    ("a constant zone", [432] * 4, {}, [432] * 4),
    ("it begins with the next period", [300, 310], {"starts": at(1, 2)}, [300, 310]),
    ("it begins in the past", [290, 300, 310], {"starts": at(-1, 0, 1)}, [290, 300, 310]),
    ("history needs no future", [300, 310], {"starts": at(-9, -8), "now": None}, [300, 310]),
    ("mixed steps, stated ends", [300, 310, 320], {"starts": at(0, 1, 1.5), "ends": at(1, 1.5, 2)}, [300, 310, 320]),
    ("one point of known length", [300], {"step_s": H}, [300]),
    ("one point with a stated end", [300], {"ends": at(1)}, [300]),
    ("five minutes", [300, 310, 320], {"starts": at(0.25, 0.25 + 1 / 12, 0.25 + 2 / 12)}, [300, 310, 320]),
    ("pounds per megawatt-hour", [1000, 500], {"unit": "lbs_co2_per_mwh"}, [453.59237, 226.796185]),
    ("kilograms per kilowatt-hour, honestly", [0.3, 0.4], {"unit": "kg/kWh"}, [300, 400]),
    ("no zone in the answer", [300, 310], {"zone": None}, [300, 310]),
]  # fmt: skip


# (name, values, how the answer is given, the first hour of each hole, all that is known)
HOLES = [
    ("null inside", [300, None, 320], {}, [1], [300, 320]),
    ("-1 inside", [300, -1, 320], {}, [1], [300, 320]),
    ("NaN inside", [300, math.nan, 320], {}, [1], [300, 320]),
    ("a missing hour read as 0", [300, 0, 310], {"kind": DIRECT}, [1], [300, 310]),
    ("0 with life-cycle factors", [20, 0, 20], {}, [1], [20, 20]),
    ("an hour missing", [300, 310, 320, 330], {"starts": at(0, 1, 3, 4)}, [2], [300, 310, 320, 330]),
    ("the day of 23 local hours", [300, 310, 320, 330], {"starts": at(0, 1, 2, 4)}, [3], [300, 310, 320, 330]),
    ("a stated gap", [300, 310], {"ends": at(0.5, 2)}, [0.5], [300, 310]),
    ("two holes in a day", [300] * 5 + [None, -1] + [310] * 9 + [math.nan] + [320] * 7, {}, [5, 16],
     [300] * 5 + [310] * 9 + [320] * 7),
    ("many nulls, which are certain", [300, None] * 12 + [310], {}, [*range(1, 24, 2)], [300] * 12 + [310]),
    ("many stated gaps", [300, 310, 320], {"starts": at(0, 2, 4), "ends": at(1, 3, 5)}, [1, 3], [300, 310, 320]),
    ("one of 430 five-minute rows", [300.0] * 429, {"starts": [T0 + 300 * k for k in range(430) if k != 99]},
     [99 / 12], [300.0] * 429),
    ("the two hours from now", [290, None, None, 310, 320], {"starts": at(-1, 0, 1, 2, 3), "step_s": H, "now": NOW}, [],
     [310, 320]),
    ("a hole in history", [300, None, 310], {"starts": at(-9, -8, -7), "now": None}, [-8], [300, 310]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "given", "holes", "known"), [row[1:] for row in HOLES], ids=[row[0] for row in HOLES]
)
def test_a_hole_cuts_the_series_there_and_loses_nothing_else(values, given, holes, known):
    series = read(values, **given)
    assert [(start.timestamp() - T0) / H for start, _ in series.gaps] == pytest.approx(holes)
    assert [v for s in series.stretches for v in s.intensity_g_per_kwh.tolist()] == known
    assert all(len(s.quality) == len(s.intensity_g_per_kwh) for s in series.stretches)
    for start, end in series.gaps:
        assert series.at(start) is None and series.at(end) is not None and not series.covers(start, end)


@pytest.mark.parametrize(("values", "given", "expected"), [row[1:] for row in TAKEN], ids=[row[0] for row in TAKEN])
def test_taken(values, given, expected):
    series = read(values, **given)
    assert series.intensity_g_per_kwh.tolist() == pytest.approx(expected, rel=1e-12)
    assert len(series.quality) == len(expected)


def test_edges_follow_the_stated_ends():
    series = read([300, 310, 320], at(0, 1, 1.5), ends=at(1, 1.5, 2))
    assert ((series.edges - T0) / H).tolist() == [0, 1, 1.5, 2]


def test_quality_stays_with_its_value_when_ends_are_cut():
    quality = [Quality.FORECAST, Quality.MEASURED, Quality.ESTIMATED, Quality.FORECAST]
    answer = Answer("DE", "g/kWh", at(-1, 0, 1, 2), [None, 300, 310, None], quality)
    series = validate("DE", answer, Origin(LIFE_CYCLE, "test", NOW, NOW), now=NOW)
    assert series.quality == (Quality.MEASURED, Quality.ESTIMATED)


def test_arrays_and_lists_are_judged_alike():
    for values in ([300.0, -2.0], [300.0, math.inf, 300.0], [300.0, 5000.0]):
        reasons = set()
        for given in (values, np.array(values)):
            with pytest.raises(ForecastInvalid) as refusal:
                read(given)
            reasons.add(refusal.value.reason)
        assert len(reasons) == 1


@pytest.mark.parametrize(
    ("values", "flat"), [([432] * 5, True), ([432, 432.3], True), ([432, 434], False), ([432], False)]
)
def test_flatness_says_that_waiting_gains_nothing(values, flat):
    assert is_flat(read(values, step_s=H)) is flat


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *UNITS.items(),
        ("gCO2eq/kWh", 1.0), ("gCO₂e/kWh", 1.0), ("g CO2 / kWh", 1.0), ("kgCO2/MWh", 1.0), ("KG/KWH", 1000.0),
        ("tCO2/MWh", 1000.0), ("tonnes CO2e per MWh", 1000.0), ("lbs_co2_per_mwh", 0.45359237),
        ("lbs/MWh", 0.45359237), ("lb CO2 per MWh", 0.45359237), ("pounds/MWh", 0.45359237),
        ("index", None), ("", None), ("%", None), ("g", None), ("g/kWh/h", None), ("MWh/lb", None), ("short ton", None),
    ],
)  # fmt: skip
def test_units_are_known_in_their_spellings_and_nothing_else_is(unit, factor):
    assert g_per_kwh(unit) == factor

"""Grams by hand, and a receipt that a stranger can compute again from its JSON alone."""

import json
from datetime import datetime

import numpy as np
import pytest
from lifecycle.cases import HOUR, MINUTE, SLOW, T0, greenjob, observed, report, run

from windward.domain.energy import EnergyInterval
from windward.domain.fleet import Region
from windward.domain.run import Phase
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.ledger import open_ledger
from windward.lifecycle.accounting import account, energy_of_run
from windward.lifecycle.receipt import receipt_of

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
NORTH, SOUTH = Region("north", "SE", 1.1), Region("south", "DE", 1.25)
REGIONS = {"north": NORTH, "south": SOUTH}
KWH = 3.6e6


def series(zone, values, quality=Quality.MEASURED, start=T0, **more):
    return Series.regular(zone, KIND, start, HOUR, values, quality=quality, source="t", issued_at=start, **more)


def row(start_h=0.0, end_h=1.0, joules=KWH, attempt=1, region=NORTH, **more):
    base = {"component": "gpu", "method": "measured", "source": "nvml", "pod_uid": f"pod-{attempt}"} | more
    return EnergyInterval(
        uid="u", attempt=attempt, start=T0 + start_h * HOUR, end=T0 + end_h * HOUR, joules=joules,
        region=region.name, zone=region.zone, pue=region.pue, **base,
    )  # fmt: skip


SE, DE = series("SE", [20, 40, 60, 80, 100, 100]), series("DE", [400, 300, 200, 100, 500, 500])
BOTH = {"SE": SE, "DE": DE}


@pytest.mark.parametrize(
    ("rows", "grams", "run_now"),
    [
        # 1 kWh in the first hour of SE, x 1.1 once; at home: 1 kW for an hour at 400 x 1.25
        ([row()], 20 * 1.1, 400 * 1.25),
        ([row(0.5, 1.5)], 30 * 1.1, 400 * 1.25),  # half an hour at 20, half at 40
        ([row(0, 2, 2 * KWH)], 60 * 1.1, (400 + 300) * 1.25),
        ([row(4, 5, region=SOUTH)], 500 * 1.25, 400 * 1.25),  # a loss: saved is negative
        # two components side by side: joules add, hours do not
        ([row(), row(component="cpu", joules=KWH / 2)], 1.5 * 20 * 1.1, 1.5 * 400 * 1.25),
        # two runs of an hour, the second in south: less one resume of 1 min, at the mean power of 1 kW
        ([row(), row(3, 4, attempt=2, region=SOUTH)], 20 * 1.1 + 100 * 1.25, (400 + 300 * 59 / 60) * 1.25),
        ([row(joules=0.0)], 0.0, 0.0),
    ],
)
def test_grams_by_hand(rows, grams, run_now):
    made = account(observed(), rows, BOTH, REGIONS)
    assert made.emissions_g == pytest.approx(grams, rel=1e-12)
    assert made.run_now_g == pytest.approx(run_now, rel=1e-12)
    assert made.saved_g == pytest.approx(run_now - grams, rel=1e-9)
    assert made.settled


@pytest.mark.parametrize(
    ("rows", "known", "grams_known", "baseline_known"),
    [
        ([row()], {"DE": DE}, False, True),
        ([row(), row(1, 2)], {"SE": series("SE", [20]), "DE": DE}, False, True),  # one of two is not enough
        ([row(5, 7)], BOTH, False, True),
        ([row()], {"SE": SE}, True, False),
        ([row()], {"SE": SE, "DE": series("DE", [100], start=T0 + HOUR)}, True, False),
    ],
)
def test_the_unknown_is_none_and_never_nothing(rows, known, grams_known, baseline_known):
    made = account(observed(), rows, known, REGIONS)
    assert (made.emissions_g is not None, made.run_now_g is not None) == (grams_known, baseline_known)
    assert made.saved_g is None


def test_nothing_used_is_no_account_of_anything():
    made = account(observed(), [], BOTH, REGIONS)
    assert (made.method, made.settled, made.run_now_g, made.intervals) == ("", False, None, ())


@pytest.mark.parametrize(
    ("methods", "worst"),
    [
        (["measured"], "measured"),
        (["measured", "modelled"], "modelled"),
        (["estimated", "measured"], "estimated"),
        (["modelled", "estimated", "measured"], "estimated"),
    ],
)
def test_the_worst_method_names_the_whole(methods, worst):
    rows = [row(component=f"c{i}", method=m) for i, m in enumerate(methods)]
    assert account(observed(), rows, BOTH, REGIONS).method == worst


@pytest.mark.parametrize(
    ("quality", "settled"),
    [(Quality.MEASURED, True), (Quality.RECORDED, True), (Quality.FORECAST, False), (Quality.ESTIMATED, False)],
)
def test_settled_only_on_what_is_known_afterwards(quality, settled):
    known = {"SE": series("SE", [20, 40], (Quality.MEASURED, quality)), "DE": DE}
    assert account(observed(), [row(0, 2)], known, REGIONS).settled is settled
    assert account(observed(), [row(0, 1)], known, REGIONS).settled is True


def test_what_ends_behind_the_last_known_hour_is_not_settled():
    """Its last minutes have no intensity yet: it was sealed without grams where its other hours were measured."""
    made = account(observed(), [row(5.5, 6.25)], BOTH, REGIONS)
    assert made.emissions_g is None and made.settled is False


def test_a_report_becomes_rows_of_its_own_steps():
    one = run(1, Phase.PAUSED, start_h=1, end_h=2, report=report(joules=(10.0, 20.0, 5.0), start_h=1, step_s=900))
    rows = energy_of_run(observed(one), one, NORTH, T0 + 9 * HOUR)
    assert [(r.start - T0) / MINUTE for r in rows] == [60, 75, 90, 105]
    assert [r.joules for r in rows] == [10.0, 20.0, 5.0, 360 * 900], "the quarter that no meter saw: declared watts"
    assert rows.pop().method == "estimated"
    assert {(r.method, r.component, r.pue, r.zone, r.pod_uid) for r in rows} == {
        ("measured", "gpu", 1.1, "SE", "pod-1")
    }


def test_the_last_step_of_a_meter_ends_with_its_run():
    """A step of minutes would count minutes that nothing ran, and be weighed with hours to come. The end itself is told
    in whole seconds."""
    one = run(1, Phase.SUCCEEDED, start_h=1, end_h=1.6, report=report(joules=(10.0, 20.0, 5.0), start_h=1, step_s=900))
    rows = energy_of_run(observed(one), one, NORTH, T0 + 9 * HOUR)
    assert [(r.end - T0) / MINUTE for r in rows] == [75, 90, 96 + 1 / 60] and rows[-1].joules == 5.0


def test_under_a_warped_clock_a_joule_stands_for_many():
    """Real seconds from 09:00; planned from 06:00 at 3600 x: ten real seconds are ten planned hours."""
    told = report(joules=(100.0, 50.0), start_h=3 + 2 / 3600, step_s=5)
    one = run(1, Phase.SUCCEEDED, start_h=0, end_h=12, report=told, time_scale=3600.0, started_real=T0 + 3 * HOUR)
    rows = energy_of_run(observed(one), one, NORTH, T0)
    assert [((r.start - T0) / HOUR, (r.end - T0) / HOUR) for r in rows] == [(0, 7), (7, 12)], "from its start"
    assert [r.joules for r in rows] == [360_000.0, 180_000.0]
    assert all(r.time_scale == 3600 for r in rows)


@pytest.mark.parametrize("early_s", [0, 1, 5, 25])
def test_a_report_from_before_the_start_loses_no_step(early_s):
    """The kubelet gives whole seconds and other clocks differ: a meter may seem to begin before its run."""
    told = report(joules=(10.0, 20.0, 30.0, 40.0), start_h=-early_s / 3600, step_s=2)
    one = run(1, Phase.SUCCEEDED, start_h=0, end_h=8 / 3600, report=told)
    rows = energy_of_run(observed(one), one, NORTH, T0)
    book = open_ledger("sqlite://")
    book.record_energy(rows)
    assert sum(r.joules for r in book.energy(rows[0].uid)) == 100.0
    assert min(r.start for r in rows) >= T0
    book.close()


def test_without_a_report_declared_watts_by_the_hour_and_marked():
    one = run(1, Phase.SUCCEEDED, start_h=0.5, end_h=2.75)
    rows = energy_of_run(observed(one), one, NORTH, T0 + 9 * HOUR)
    assert [(r.end - r.start) / HOUR for r in rows] == [1, 1, 0.25]
    assert sum(r.joules for r in rows) == pytest.approx(360 * 2.25 * 3600)
    assert {r.method for r in rows} == {"estimated"}
    assert energy_of_run(observed(one), run(1, Phase.STARTING), NORTH, T0) == []


def test_default_power_where_none_is_declared():
    one = run(1, Phase.SUCCEEDED, start_h=0, end_h=1)
    rows = energy_of_run(observed(one, power=None), one, NORTH, T0)
    assert sum(r.joules for r in rows) == pytest.approx(100 * 3600)


def test_without_a_report_the_watts_of_its_level():
    one = run(1, Phase.SUCCEEDED, start_h=0, end_h=4, level="slow")
    rows = energy_of_run(observed(one, power=SLOW), one, NORTH, T0)
    assert sum(r.joules for r in rows) == pytest.approx(120 * 4 * 3600)


def test_a_power_level_is_weighed_against_running_as_declared():
    """Four hours at 120 W are two at 360: at home from submission, 0.72 kWh at 350 g."""
    one = run(1, Phase.SUCCEEDED, start_h=2, end_h=6, level="slow")
    rows = [row(h, h + 1, 120 * 3600.0) for h in range(2, 6)]
    seen = observed(one, power=SLOW)
    made = account(seen, rows, BOTH, REGIONS)
    assert made.run_now_g == pytest.approx(0.72 * 350 * 1.25)
    assert made.emissions_g == pytest.approx(0.12 * (60 + 80 + 100 + 100) * 1.1)
    told = receipt_of(seen, made, BOTH, REGIONS, T0 + 6 * HOUR)
    assert told["meanPowerWatts"] == pytest.approx(120) and told["runs"][0]["powerLevel"] == "slow"
    base = told["baseline"]
    assert (base["usefulSeconds"], base["meanPowerWatts"]) == pytest.approx((7200, 360))
    (kept,) = base["kept"]
    assert (kept["powerLevel"], kept["speed"], kept["draw"], kept["share"]) == ("slow", 0.5, 3.0, 1.0)


@pytest.mark.parametrize(
    ("seen_w", "declared_w"),
    [
        (100.0, 300.0),  # a little less than the level says: a little less than declared
        (120.0, 360.0),
        (240.0, 360.0),  # twice what the level says: no more than declared
        (400.0, 400.0),  # no cap at all, and more than declared: what was seen
    ],
)
def test_a_cap_that_is_not_kept_saves_nothing_on_paper(seen_w, declared_w):
    one = run(1, Phase.SUCCEEDED, start_h=0, end_h=4, level="slow")
    seen, rows = observed(one, power=SLOW), [row(0, 4, seen_w * 4 * 3600)]
    told = receipt_of(seen, account(seen, rows, BOTH, REGIONS), BOTH, REGIONS, T0 + 6 * HOUR)
    assert told["baseline"]["meanPowerWatts"] == pytest.approx(declared_w)
    assert told["baseline"]["kept"][0]["draw"] == pytest.approx(declared_w / seen_w)


def test_runs_at_several_levels_make_one_baseline():
    """A quarter of the work at the level, three quarters as declared; each resume of a minute does none of it."""
    runs = [
        run(1, Phase.PAUSED, start_h=0, end_h=1, level="slow"),
        run(2, Phase.SUCCEEDED, start_h=2, end_h=3.5 + 1 / 60),
    ]
    rows = [row(0, 1, 120 * 3600.0), row(2, 3.5 + 1 / 60, 360 * 91 * 60.0, attempt=2)]
    base = receipt_of(
        (seen := observed(*runs, power=SLOW)), account(seen, rows, BOTH, REGIONS), BOTH, REGIONS, T0 + 6 * HOUR
    )["baseline"]
    assert base["usefulSeconds"] == pytest.approx(7200) and base["meanPowerWatts"] == pytest.approx(360)


def rows_of_a_hard_job():
    dice = np.random.default_rng(4)
    out = []
    for attempt, (start_h, region) in enumerate([(0.2, NORTH), (2.1, SOUTH), (4.0, NORTH)], 1):
        for i in range(6):
            a, b = start_h + i / 6, start_h + (i + 1) / 6
            for component, method in (("gpu", "measured"), ("cpu", "modelled")):
                joules = float(dice.uniform(1e4, 9e4))
                out.append(row(a, b, joules, attempt, region, component=component, method=method))
    return out


def test_a_receipt_can_be_computed_again_from_its_json_alone():
    runs = [
        run(n, Phase.PAUSED if n < 3 else Phase.SUCCEEDED, report=report(n / 3, units_done=n * 10)) for n in (1, 2, 3)
    ]
    seen = observed(*runs, interruption={"policy": "Checkpoint", "overhead": "7m"})
    made = account(seen, rows_of_a_hard_job(), BOTH, REGIONS)
    text = json.dumps(receipt_of(seen, made, BOTH, REGIONS, T0 + 6 * HOUR))
    told = json.loads(text)
    intensity = {"SE": SE, "DE": DE}  # what a stranger fetches from the source that the receipt names

    grams = joules = 0.0
    for part in told["intervals"]:
        mean = intensity[part["zone"]].mean(datetime.fromisoformat(part["start"]), datetime.fromisoformat(part["end"]))
        assert part["intensityGramsPerKwh"] == pytest.approx(mean, abs=1e-6)
        again = part["joules"] / 3.6e6 * part["intensityGramsPerKwh"] * part["pue"]
        assert part["emissionsGrams"] == pytest.approx(again, abs=1e-6)
        grams, joules = grams + again, joules + part["joules"]
    assert told["emissionsGrams"] == pytest.approx(grams, abs=1e-6)
    assert told["energyJoules"] == pytest.approx(joules, abs=1e-6)

    base = told["baseline"]
    start, end = datetime.fromisoformat(base["start"]), datetime.fromisoformat(base["end"])
    assert start == datetime.fromisoformat(told["submittedAt"])
    assert (end - start).total_seconds() == pytest.approx(base["usefulSeconds"], abs=1e-6)
    assert base["usefulSeconds"] == pytest.approx(3 * 3600 - 2 * 7 * 60)
    kept = {k["attempt"]: (datetime.fromisoformat(k["start"]), datetime.fromisoformat(k["end"])) for k in base["kept"]}
    useful_j = 0.0
    for part in told["intervals"]:
        a, b = datetime.fromisoformat(part["start"]), datetime.fromisoformat(part["end"])
        first, last = kept[part["attempt"]]
        useful_j += part["joules"] * max(0.0, (min(b, last) - max(a, first)) / (b - a))
    assert base["energyJoules"] == pytest.approx(useful_j) and base["meanPowerWatts"] == pytest.approx(
        useful_j / base["usefulSeconds"]
    )
    home = (
        base["meanPowerWatts"] * base["usefulSeconds"] / 3.6e6 * intensity[base["zone"]].mean(start, end) * base["pue"]
    )
    assert told["runNowGrams"] == pytest.approx(home, abs=1e-6)
    assert told["savedGrams"] == pytest.approx(home - grams, abs=1e-6)
    assert told["method"] == "modelled" and told["work"]["joulesPerUnit"] == pytest.approx(joules / 30)
    assert {s["zone"] for s in told["intensity"]} == {p["zone"] for p in told["intervals"]}
    assert "demo" not in told and "timeScale" not in told


@pytest.mark.parametrize(("demo", "scale", "keys"), [(True, 1.0, {"demo"}), (False, 60.0, {"timeScale", "note"})])
def test_a_receipt_says_what_is_not_real(demo, scale, keys):
    known = {"SE": series("SE", [20] * 6, demo=demo), "DE": DE}
    made = account(observed(), [row(time_scale=scale)], known, REGIONS)
    told = receipt_of(observed(), made, known, REGIONS, T0)
    assert {"demo", "timeScale", "note"} & set(told) == keys


def test_a_receipt_of_what_is_not_known_says_null():
    made = account(observed(), [row()], {}, {})
    told = receipt_of(observed(), made, {}, {}, T0)
    assert told["emissionsGrams"] is None and told["runNowGrams"] is None and told["baseline"] is None
    assert told["intervals"][0]["emissionsGrams"] is None


def test_run_now_begins_at_creation_not_at_the_first_run():
    late = [row(4, 5)]
    assert account(observed(), late, BOTH, REGIONS).run_now_g == pytest.approx(400 * 1.25)
    assert greenjob().metadata.creation_timestamp == T0

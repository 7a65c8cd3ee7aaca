"""What choices `plan` has beside where and when, each against brute force or a promise that must hold."""

import itertools
from dataclasses import replace
from datetime import timedelta
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning.fleets import HOUR, REGIONS, T0, hours, known, work
from planning.profiles import thorough

from windward.domain.fleet import Fleet, Level
from windward.planning import pauses, plan
from windward.planning.windows import START_S

LEVELS = (Level(0.8, 600.0), Level(0.5, 450.0), Level(1.25, 1500.0))
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module")
def coarse():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pauses, "MAX_SLOTS", 100)
        yield


def world(seed, zones=("DE", "FR", "SE"), count=40):
    shape = np.random.default_rng(seed)
    return known(*(hours(shape.integers(1, 500, count).astype(float), z) for z in zones))


def made(job, forecasts, regions=REGIONS, at_h=0.0):
    return plan(Fleet((job,), regions), forecasts, T0 + at_h * HOUR).jobs[job.key]


def drawn_g(job, window, forecasts):
    """Grams of a start, told anew from the series."""
    region = REGIONS[window.region]
    series, a = forecasts[region.zone].series, window.start.timestamp()
    share = float(series.integral(a + START_S) - series.integral(a)) / (START_S / 3600)
    wh = job.start_energy_wh + (job.move_energy_wh if window.region != job.home else 0.0)
    return wh / 1000 * region.pue * share


@thorough(15)
@given(seeds)
def test_a_level_is_chosen_with_the_hours_and_is_the_best_of_a_fine_sweep(seed):
    dice, forecasts = Random(seed), world(seed)
    job = work(hours_h=dice.choice([1, 2.5, 4]), by_h=dice.uniform(8, 30), regions=("de", "fr"), levels=LEVELS)
    got = made(job, forecasts)
    best = np.inf
    for name in job.regions:
        series, pue = forecasts[REGIONS[name].zone].series, REGIONS[name].pue
        for v in (Level(1.0, job.power_w), *LEVELS):
            length = job.remaining.total_seconds() / v.speed
            s = np.arange(T0.timestamp(), (job.finish_by - job.reserve).timestamp() - length + 1e-6, 60.0)
            if len(s):
                grams = v.power_w / 1000 * pue * (series.integral(s + length) - series.integral(s))
                best = min(best, float(grams.min()))
    assert got.emissions_g <= best * (1 + 1e-9)
    v = LEVELS[got.level] if got.level is not None else Level(1.0, job.power_w)
    w = got.windows[0]
    assert w.length / HOUR == pytest.approx(job.remaining / HOUR / v.speed, abs=1e-6)
    series = forecasts[REGIONS[w.region].zone].series
    mean_g = v.power_w / 1000 * REGIONS[w.region].pue * series.mean(w.start, w.end) * (w.length / HOUR)
    assert got.emissions_g == pytest.approx(mean_g, rel=1e-6)


@thorough(10)
@given(seeds, st.booleans())
def test_shift_and_level_together_are_never_worse_than_either(seed, pausing):
    dice, forecasts = Random(seed), world(seed)
    job = work(hours_h=3, by_h=dice.uniform(6, 30), interruptible=pausing, overhead=timedelta(minutes=10))
    both = made(replace(job, levels=LEVELS), forecasts)
    now_at_level = [
        v.power_w / 1000 * 1.25 * forecasts["DE"].series.mean(T0, T0 + 3 / v.speed * HOUR) * 3 / v.speed
        for v in LEVELS
        if 3 / v.speed <= (job.finish_by - job.reserve - T0) / HOUR
    ]
    slack = 1 + (0.03 if pausing else 1e-9)  # pauses are planned on a grid, and each has to be worth it
    assert both.emissions_g <= min([made(job, forecasts).emissions_g, *now_at_level]) * slack
    assert both.feasible


@thorough(15)
@given(seeds, st.booleans())
def test_a_higher_price_on_delay_never_ends_later(seed, pausing):
    forecasts = world(seed)
    job = work(hours_h=2, by_h=30, regions=("de", "fr"), interruptible=pausing)
    ends = [
        made(replace(job, delay_g_per_hour=g), forecasts).windows[-1].end for g in (0.0, 3.0, 10.0, 40.0, 200.0, 1e5)
    ]
    assert all(b <= a + timedelta(seconds=1) for a, b in itertools.pairwise(ends))
    assert ends[-1] == T0 + 2 * HOUR


def test_a_delay_is_worth_what_it_costs_and_is_no_emission():
    forecasts = known(hours([300.0] * 5 + [200.0] * 30))
    job = work(hours_h=1, by_h=20)
    waits, runs = (made(replace(job, delay_g_per_hour=g), forecasts) for g in (24.9, 25.1))  # 125 g saved in 5 h
    assert waits.windows[0].start == T0 + 5 * HOUR and waits.emissions_g == pytest.approx(250.0)
    assert runs.windows[0].start == T0 and runs.emissions_g == pytest.approx(375.0)


@thorough(15)
@given(seeds)
def test_a_higher_start_energy_never_starts_at_dearer_hours_and_is_counted(seed):
    """The sum over starts of the grams of a watt-hour never rises with the energy: else the plans could be swapped."""
    forecasts, dearness = world(seed), []
    job = work(hours_h=4, by_h=30, interruptible=True, regions=("de", "fr"))
    for wh in (0.0, 100.0, 400.0, 2000.0):
        some = replace(job, start_energy_wh=wh)
        got = made(some, forecasts)
        unit = replace(job, start_energy_wh=1000.0)
        dearness.append(sum(drawn_g(unit, w, forecasts) for w in got.windows))
        for w in got.windows:
            series = forecasts[REGIONS[w.region].zone].series
            run_g = REGIONS[w.region].pue * series.mean(w.start, w.end) * (w.length / HOUR)
            assert w.emissions_g == pytest.approx(run_g + drawn_g(some, w, forecasts), rel=1e-6)
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(dearness))


def test_a_start_energy_joins_stretches():
    forecasts = known(hours([300.0, 100.0, 150.0, 100.0] + [300.0] * 20))
    job = work(hours_h=2, by_h=20, interruptible=True)  # a pause saves 62.5 g, a second start costs 125 g a kWh
    stretches = [len(made(replace(job, start_energy_wh=wh), forecasts).windows) for wh in (0.0, 400.0, 520.0, 5000.0)]
    assert stretches == [2, 2, 1, 1]


@thorough(15)
@given(seeds)
def test_the_start_of_one_window_is_exact_with_its_energy(seed):
    dice, forecasts = Random(seed), world(seed)
    job = work(hours_h=dice.choice([1, 2.25]), by_h=20, regions=("de", "fr"), home="de", start_energy_wh=300.0,
               move_energy_wh=dice.choice([0.0, 500.0]))  # fmt: skip
    got, best = made(job, forecasts), np.inf
    for name in job.regions:
        region = REGIONS[name]
        series, length = forecasts[region.zone].series, job.remaining.total_seconds()
        s = np.arange(T0.timestamp(), (job.finish_by - job.reserve).timestamp() - length + 1e-6, 60.0)
        wh = job.start_energy_wh + (job.move_energy_wh if name != "de" else 0.0)
        grams = region.pue * (series.integral(s + length) - series.integral(s))
        grams += wh / 1000 * region.pue * (series.integral(s + START_S) - series.integral(s)) / (START_S / 3600)
        best = min(best, float(grams.min()))
    assert got.emissions_g <= best * (1 + 1e-9)
    assert got.emissions_g == pytest.approx(best, rel=0.02)


def test_a_move_pays_for_itself_or_is_not_made():
    forecasts = known(hours([300.0] * 30), hours([200.0] * 30, "FR"))
    job = work(hours_h=2, by_h=10, regions=("de", "fr"), home="de")  # 750 g at home, 440 g in fr
    assert made(replace(job, move_energy_wh=1400.0), forecasts).windows[0].region == "fr"  # 308 g
    assert made(replace(job, move_energy_wh=1420.0), forecasts).windows[0].region == "de"


@thorough(8)
@given(seeds, st.booleans())
def test_what_is_lower_takes_nothing_from_what_is_higher(seed, pausing):
    dice, forecasts = Random(seed), world(seed)
    regions = {n: replace(r, capacity={"gpu": 2.0}) for n, r in REGIONS.items()}
    jobs = [
        work(f"ns/{i}", hours_h=dice.choice([1, 2, 4]), by_h=dice.uniform(8, 30), demand={"gpu": 1.0},
             regions=dice.sample(["de", "fr"], dice.randint(1, 2)), priority=dice.choice([0, 5]),
             interruptible=pausing and dice.random() < 0.3, asap=dice.random() < 0.1)
        for i in range(10)
    ]  # fmt: skip
    both = plan(Fleet(tuple(jobs), regions), forecasts, T0)
    high = tuple(j for j in jobs if j.priority == 5)
    alone = plan(Fleet(high, regions), forecasts, T0)
    assert {j.key: both.jobs[j.key] for j in high} == alone.jobs


@thorough(8)
@given(seeds)
def test_levels_and_starts_where_room_is_contended(seed):
    dice, forecasts = Random(seed), world(seed)
    regions = {n: replace(r, capacity={"gpu": 1.0}) for n, r in REGIONS.items()}
    jobs = tuple(
        work(f"ns/{i}", hours_h=dice.choice([1, 2, 3]), by_h=dice.uniform(14, 30), demand={"gpu": 1.0},
             regions=("de", "fr"), levels=LEVELS[: dice.randint(0, 3)], start_energy_wh=dice.choice([0.0, 200.0]),
             delay_g_per_hour=dice.choice([0.0, 5.0]), interruptible=dice.random() < 0.3)
        for i in range(7)
    )  # fmt: skip
    got = plan(Fleet(jobs, regions), forecasts, T0)
    spans = sorted((w.region, w.start, w.end) for p in got.jobs.values() for w in p.windows)
    assert all(a[0] != b[0] or a[2] <= b[1] + timedelta(seconds=1) for a, b in itertools.pairwise(spans))
    for job in jobs:
        p = got.jobs[job.key]
        speed = 1.0 if p.level is None else job.levels[p.level].speed
        ran = sum((w.length for w in p.windows), timedelta(0))
        assert ran >= job.remaining / speed - timedelta(seconds=1) and p.feasible
    assert got.certificate.bound_g <= got.certificate.plan_g * (1 + 1e-9)


def test_the_deadline_is_held_for_the_long_run_and_the_grams_are_of_the_mean():
    forecasts = known(hours([300.0] * 20 + [100.0] * 20))
    job = work(hours_h=2, by_h=22, duration_p90=3.5 * HOUR)
    got = made(job, forecasts)
    assert got.latest_start == T0 + 18.5 * HOUR
    assert got.windows[0].start == T0 + 18.5 * HOUR and got.windows[0].length == 2 * HOUR
    assert got.emissions_g == pytest.approx(1.25 * (1.5 * 300 + 0.5 * 100))


def test_what_runs_goes_on_at_its_level():
    forecasts = known(hours([300.0] * 20 + [100.0] * 20))
    job = work(hours_h=4, by_h=30, left_h=2, running_in="de", started=True, levels=LEVELS, running_level=1)
    got = made(job, forecasts)
    assert got.level == 1 and got.windows[0].length == 4 * HOUR
    assert got.emissions_g == pytest.approx(0.45 * 1.25 * 300 * 4)

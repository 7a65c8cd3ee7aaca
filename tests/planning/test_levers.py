"""What choices `plan` has beside where and when, each against brute force or a promise that must hold."""

import itertools
from dataclasses import replace
from datetime import timedelta
from random import Random

import numpy as np
import pytest
from bench.planner.budget import plan_within
from hypothesis import given
from hypothesis import strategies as st
from planning.fleets import HOUR, REGIONS, T0, hours, known, work
from planning.profiles import thorough

from windward.domain.fleet import Fleet, Level, OnSite
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
    pause_g = 0.01 * 3.75 * forecasts["DE"].series.mean(T0, T0 + 40 * HOUR)  # what each has to save: 1 % of the work

    def cost(p):
        return p.emissions_g + pause_g * (len(p.windows) - 1)

    assert cost(both) <= min([cost(made(job, forecasts)), *now_at_level]) * (1 + 1e-9) + 1e-6
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


def replicas(*counts, speedup=0.9, watts=400.0):
    """Levels of a job that runs on several accelerators: each more adds a little less speed, and its watts."""
    return tuple(Level(n**speedup, 100.0 + watts * n, {"gpu": float(n)}) for n in counts)


@thorough(15)
@given(seeds)
def test_replicas_are_chosen_with_the_hours_and_are_the_best_that_has_room(seed):
    """Levels hold units of their own; how many there are at each hour decides which of them may run."""
    dice, forecasts = Random(seed), world(seed)
    room = float(dice.randint(1, 4))
    regions = {n: replace(r, capacity={"gpu": room}) for n, r in REGIONS.items()}
    levels = replicas(2, 3, 4)
    job = work(hours_h=dice.choice([2, 5]), by_h=dice.uniform(9, 30), demand={"gpu": 1.0}, power_w=500.0,
               regions=("de", "fr"), levels=levels)  # fmt: skip
    got, best = made(job, forecasts, regions), np.inf
    for name in job.regions:
        series, pue = forecasts[REGIONS[name].zone].series, REGIONS[name].pue
        for v in (Level(1.0, 500.0, {"gpu": 1.0}), *levels):
            length = job.remaining.total_seconds() / v.speed
            s = np.arange(T0.timestamp(), (job.finish_by - job.reserve).timestamp() - length + 1e-6, 60.0)
            if v.demand["gpu"] <= room and len(s):
                grams = v.power_w / 1000 * pue * (series.integral(s + length) - series.integral(s))
                best = min(best, float(grams.min()))
    assert got.emissions_g <= best * (1 + 1e-9)
    assert job.demand_at(got.level)["gpu"] <= room
    w, v = got.windows[0], levels[got.level] if got.level is not None else Level(1.0, 500.0)
    mean_g = v.power_w / 1000 * REGIONS[w.region].pue * forecasts[REGIONS[w.region].zone].series.mean(w.start, w.end)
    assert w.length / HOUR == pytest.approx(job.remaining / HOUR / v.speed, abs=1e-6)
    assert got.emissions_g == pytest.approx(mean_g * (w.length / HOUR), rel=1e-6)


@thorough(8)
@given(seeds, st.booleans())
def test_replicas_share_what_room_there_is(seed, pausing):
    dice, forecasts = Random(seed), world(seed)
    regions = {n: replace(r, capacity={"gpu": 4.0}) for n, r in REGIONS.items()}
    jobs = tuple(
        work(f"ns/{i}", hours_h=dice.choice([2, 4, 6]), by_h=dice.uniform(12, 30), demand={"gpu": 1.0}, power_w=500.0,
             regions=("de", "fr"), levels=replicas(2, 4), interruptible=pausing and dice.random() < 0.5)
        for i in range(8)
    )  # fmt: skip
    got = plan(Fleet(jobs, regions), forecasts, T0)
    spans = [
        (w.region, w.start, w.end, j.demand_at(p.level)["gpu"])
        for j in jobs for p in (got.jobs[j.key],) for w in p.windows
    ]  # fmt: skip
    for region, at, _, _ in spans:
        assert sum(u for r, a, b, u in spans if r == region and a <= at < b) <= 4.0 + 1e-9
    for job in jobs:
        p = got.jobs[job.key]
        speed = 1.0 if p.level is None else job.levels[p.level].speed
        assert not p.windows or sum((w.length for w in p.windows), timedelta(0)) >= job.remaining / speed - HOUR / 3600
    assert got.certificate is None or got.certificate.bound_g <= got.certificate.plan_g * (1 + 1e-9)


def test_more_replicas_reach_a_short_clean_spell():
    """Twelve hours of work do not fit into four clean ones; on four accelerators nearly all of it does."""
    forecasts = known(hours([500.0] * 4 + [50.0] * 4 + [500.0] * 20))
    job = work(hours_h=12, by_h=27, demand={"gpu": 1.0}, power_w=500.0, levels=replicas(4))
    roomy, narrow = ({"de": replace(REGIONS["de"], capacity={"gpu": n})} for n in (4.0, 3.0))
    assert made(job, forecasts, roomy).level == 0 and made(job, forecasts, narrow).level is None


def test_one_kind_of_accelerator_is_no_room_for_another():
    shape = [400.0] * 30
    shape[10] = shape[11] = 50.0
    regions = {"de": replace(REGIONS["de"], capacity={"a100": 1.0, "t4": 1.0})}
    starts = {
        kinds: [
            p.windows[0].start
            for p in plan(
                Fleet(tuple(work(f"ns/{i}", demand={k: 1.0}) for i, k in enumerate(kinds)), regions),
                known(hours(shape)), T0,
            ).jobs.values()
        ]
        for kinds in (("a100", "t4"), ("t4", "t4"))
    }  # fmt: skip
    assert starts["a100", "t4"] == [T0 + 10 * HOUR] * 2
    assert sorted(s == T0 + 10 * HOUR for s in starts["t4", "t4"]) == [False, True]


@pytest.mark.parametrize("pausing", [False, True])
@pytest.mark.parametrize("crowded", [False, True])
def test_money_is_weighed_in_grams_and_is_no_emission(pausing, crowded):
    forecasts = known(hours([300.0] * 30), hours([200.0] * 30, "FR"))  # 2 kWh: 750 g at home, 440 g in fr
    regions = {
        "de": replace(REGIONS["de"], price_per_hour={"gpu": 1.0}, capacity={"gpu": 1.0} if crowded else {}),
        "fr": replace(REGIONS["fr"], price_per_hour={"gpu": 3.0}, capacity={"gpu": 1.0} if crowded else {}),
    }
    job = work(hours_h=2, by_h=8, regions=("de", "fr"), demand={"gpu": 1.0}, interruptible=pausing)
    for weight, region, grams in ((77.0, "fr", 440.0), (78.0, "de", 750.0)):  # 4 of currency for 310 g
        mine = replace(job, grams_per_currency=weight)
        others = tuple(work(f"ns/o{i}", hours_h=7, by_h=8, demand={"gpu": 1.0}) for i in range(2 * crowded))
        got = plan(Fleet((mine, *others[:1]), regions if not crowded or region == "fr" else {
            **regions, "de": replace(regions["de"], capacity={"gpu": 2.0})}), forecasts, T0).jobs[job.key]  # fmt: skip
        assert got.windows[0].region == region and got.emissions_g == pytest.approx(grams)


def test_own_generation_draws_work_to_its_hours():
    forecasts = known(hours([300.0] * 24), hours([250.0] * 24, "FR"))
    job = work(hours_h=2, by_h=23, regions=("de", "fr"))
    sunny = {**REGIONS, "de": replace(REGIONS["de"], on_site=OnSite(40.0, ((9, 15, 0.5),)))}
    assert made(job, forecasts).windows[0].region == "fr"
    got = made(job, forecasts, sunny)
    assert got.windows[0].region == "de" and got.windows[0].start == T0 + 9 * HOUR
    assert got.emissions_g == pytest.approx(2 * 1.25 * 170.0)


def test_a_budget_takes_from_delay_what_it_needs_and_no_more():
    forecasts = known(hours([300.0 - 10 * k for k in range(20)]))
    jobs = tuple(work(f"ns/{i}", hours_h=1, by_h=18, delay_g_per_hour=g) for i, g in enumerate((6.0, 20.0, 40.0)))
    fleet = Fleet(jobs, REGIONS)
    free, least = plan_within(1e9, fleet, forecasts, T0), plan_within(0.0, fleet, forecasts, T0)
    assert free.weight == 1.0 and not free.dropped and free.plan == plan(fleet, forecasts, T0)
    clean = plan(Fleet(tuple(replace(w, delay_g_per_hour=0.0) for w in jobs), REGIONS), forecasts, T0)
    lowest = sum(p.emissions_g for p in clean.jobs.values())
    for share in (0.2, 0.5, 0.9):
        budget = lowest + share * (free.emissions_g - lowest)
        kept = plan_within(budget, fleet, forecasts, T0)
        assert kept.emissions_g <= budget and not kept.dropped and 0.0 < kept.weight < 1.0
        more = tuple(replace(w, delay_g_per_hour=w.delay_g_per_hour * (kept.weight + 2**-10)) for w in jobs)
        beyond = plan(Fleet(more, REGIONS), forecasts, T0)
        assert sum(p.emissions_g for p in beyond.jobs.values()) > budget
    assert least.dropped and least.emissions_g == 0.0


def test_what_no_budget_can_pay_for_is_dropped_by_priority_then_grams():
    forecasts = known(hours([300.0] * 30))
    watts = {"a": (100.0, 5), "b": (900.0, 5), "c": (200.0, 0), "d": (50.0, 0)}
    jobs = tuple(work(f"ns/{k}", hours_h=1, power_w=w, priority=p) for k, (w, p) in watts.items())
    total = sum(w for w, _ in watts.values()) * 0.375
    for budget, dropped in ((total - 1, ["c"]), (total - 80, ["c", "d"]), (total - 95, ["c", "d", "b"])):
        kept = plan_within(budget, Fleet(jobs, REGIONS), forecasts, T0)
        assert list(kept.dropped) == [f"ns/{k}" for k in dropped] and kept.emissions_g <= budget
    forced = tuple(replace(w, asap=True) for w in jobs)
    assert plan_within(1.0, Fleet(forced, REGIONS), forecasts, T0).dropped == ()

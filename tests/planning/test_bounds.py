"""What no plan of one piece of work can go below: never above any plan there is, and met where it can be."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning.fleets import HOUR, T0, hours, known, work
from planning.profiles import thorough

from windward.domain.fleet import Fleet, Level, Region
from windward.domain.plan import Reason
from windward.planning import plan
from windward.planning.capacity import Occupancy
from windward.planning.pauses import best_pauses
from windward.planning.windows import levels_of, site_of

REGIONS = {"de": Region("de", "DE"), "fr": Region("fr", "FR", 1.1)}
VALUES = st.lists(st.integers(1, 900), min_size=12, max_size=12)


def alone(one, *series, now=T0):
    made = plan(Fleet((one,), REGIONS), known(*series), now)
    return made.jobs[one.key], made.certificate


@pytest.mark.parametrize(
    ("overhead_h", "bound_g"),
    [
        (0.0, 30.0),  # the two clean hours
        (0.25, 55.0),  # and a quarter of an hour of resume in the next best
        (1.0, 120.0),  # with a whole hour of resume 130: the last two clean hours in one are less
    ],
)
def test_two_hours_with_pauses(overhead_h, bound_g):
    one = work(by_h=7.0, interruptible=True, overhead=timedelta(hours=overhead_h))
    _, proof = alone(one, hours([500, 10, 120, 500, 20, 100, 500, 500]))
    assert proof.bound_g == pytest.approx(bound_g)
    assert proof.plan_g >= proof.bound_g - 1e-9


def test_what_a_wish_costs_is_a_gap():
    """Work that starts at once, since too little is saved or its delay weighs more, could be cleaner."""
    series = hours([100, 99, 95, 90] + [100] * 20)
    picky, proof = alone(work(hours_h=1.0, min_saving=0.2), series)
    assert picky.reason is Reason.SAVING_BELOW_THRESHOLD
    assert (proof.plan_g, proof.bound_g) == pytest.approx((100.0, 90.0))
    hasty, proof = alone(work(hours_h=1.0, delay_g_per_hour=50.0), series)
    assert hasty.windows[0].start == T0
    assert (proof.plan_g, proof.bound_g) == pytest.approx((100.0, 90.0))


def test_what_has_no_place_in_time_proves_nothing():
    tight = {"de": Region("de", "DE", capacity={"gpu": 1.0})}
    jobs = tuple(work(f"ns/{i}", hours_h=1.0, by_h=1.5, demand={"gpu": 1.0}) for i in range(3))
    made = plan(Fleet(jobs, tight), known(hours([50, 10, 10, 10] + [100] * 20)), T0)
    late = [j for j in made.jobs.values() if j.reason is Reason.CAPACITY_FULL]
    assert len(late) == 2
    assert made.certificate.plan_g == pytest.approx(made.jobs["ns/0"].emissions_g)
    assert made.certificate.bound_g <= made.certificate.plan_g * (1 + 1e-9)


@thorough(60)
@given(
    de=VALUES, fr=VALUES, hours_h=st.floats(0.2, 5.0), overhead_m=st.integers(0, 90),
    start_wh=st.sampled_from([0.0, 80.0]), level=st.booleans(), started=st.booleans(),
    at_h=st.floats(0.0, 3.0), step_s=st.sampled_from([300, 900, 1800]),
)  # fmt: skip
def test_never_above_any_way_to_do_it(de, fr, hours_h, overhead_m, start_wh, level, started, at_h, step_s):
    one = work(
        by_h=12.0, hours_h=hours_h, interruptible=True, overhead=timedelta(minutes=overhead_m), regions=("de", "fr"),
        start_energy_wh=start_wh, started=started, levels=(Level(0.7, 600.0),) if level else (),
    )  # fmt: skip
    series = {"DE": hours(de), "FR": hours(fr, "FR")}
    now = T0 + at_h * HOUR
    made, proof = alone(one, *series.values(), now=now)
    if proof is None:
        assert made.reason not in (Reason.CLEANER_WINDOW, Reason.RUN_NOW)
        return
    assert proof.bound_g <= proof.plan_g * (1 + 1e-9)
    sites = [site_of(one, r, series[r.zone]) for r in REGIONS.values()]
    for lane in (sites, *([v] for p in sites for v in levels_of(one, p))):
        needs = replace(one, remaining=one.remaining / lane[0].speed)
        end = (one.finish_by - one.reserve).timestamp()
        way = best_pauses(lane, needs, now.timestamp(), end, Occupancy(REGIONS), coarsest=step_s)
        assert way is None or proof.bound_g <= way.grams * (1 + 1e-9)


@thorough(30)
@given(de=VALUES, fr=VALUES, count=st.integers(1, 6))
def test_met_where_pauses_are_free(de, fr, count):
    """Whole hours and no overhead: the plan is as good as its proof, but for the price on pauses."""
    one = work(by_h=12.0, hours_h=count, interruptible=True, overhead=timedelta(0), regions=("de", "fr"))
    made, proof = alone(one, hours(de), hours(fr, "FR"))
    spared = max(0, count + 1 - (len(made.windows) - 1))  # pauses that the price on them kept it from
    cleanest = min(sum(de) / len(de), 1.1 * sum(fr) / len(fr))
    assert proof.bound_g <= proof.plan_g * (1 + 1e-9)
    assert proof.plan_g <= proof.bound_g + 0.01 * cleanest * count * spared + 1e-6

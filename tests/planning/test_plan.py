"""`plan` as promises: in time, within capacity, never dirtier with more freedom, equal for equal input, explained."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning.fleets import HOUR, REGIONS, T0, hours, known, work
from planning.profiles import thorough

from windward.domain.energy import EnergyInterval
from windward.domain.fleet import Fleet, Region
from windward.domain.forecast import Forecast, Freshness
from windward.domain.observed import Observed
from windward.domain.plan import Reason
from windward.lifecycle.accounting import account
from windward.planning import pauses, plan
from windward_api.greenjob import Fallback, GreenJob

CONTAINER = {"spec": {"containers": [{"name": "main", "image": "x"}]}}

SLACK_S = 1.0


@pytest.fixture(autouse=True, scope="module")
def coarse_grid():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pauses, "MAX_SLOTS", 100)
        yield


values = st.lists(st.integers(0, 600).map(float), min_size=30, max_size=30)
forms = st.fixed_dictionaries(
    {
        "hours_h": st.integers(1, 8),
        "interruptible": st.booleans(),
        "overhead": st.sampled_from([0, 10, 45]).map(lambda m: timedelta(minutes=m)),
    }
)


def one(job, forecasts, now=T0, regions=REGIONS):
    return plan(Fleet((job,), regions), forecasts, now).jobs[job.key]


def three(de, fr, se):
    return known(hours(de, "DE"), hours(fr, "FR"), hours(se, "SE"))


@thorough(40)
@given(values, values, forms, st.integers(8, 30), st.floats(0, 20), st.sampled_from(["fresh", "paused", "running"]))
def test_windows_lie_between_earliest_and_finish_by_less_the_reserve(de, fr, form, by_h, now_h, state):
    now = T0 + now_h * HOUR
    job = work(
        **form,
        by_h=by_h,
        regions=("de", "fr"),
        started=state != "fresh",
        running_in="de" if state == "running" else None,
    )
    made = one(job, known(hours(de, "DE"), hours(fr, "FR")), now)
    assert made.latest_start == job.latest_start()
    if now > job.latest_start():
        assert made.windows[0].start == now  # whatever the carbon
        return
    ends = [w.end for w in made.windows]
    assert (
        made.feasible
        and now <= made.windows[0].start
        and all(a.end <= b.start for a, b in zip(made.windows, made.windows[1:]))
    )
    assert max(ends) <= job.finish_by - job.reserve + timedelta(seconds=SLACK_S) or len(made.windows) == 1
    assert max(ends) <= job.finish_by
    running = sum(((w.length) for w in made.windows), timedelta(0))
    assert running >= job.remaining - timedelta(seconds=SLACK_S)


@thorough(30)
@given(values, values, values, forms, st.integers(9, 24), st.integers(0, 5))
def test_more_slack_or_another_region_is_never_dirtier(de, fr, se, form, by_h, more_h):
    # Each is exact for an unbroken window; with pauses the grid changes with the span, so the grid is held equal.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pauses, "grid_step", lambda span_s: 1800)
        forecasts = three(de, fr, se)
        tight = one(work(**form, by_h=by_h, regions=("de", "fr"), margin=0.0), forecasts)
        loose = one(work(**form, by_h=by_h + more_h, regions=("de", "fr"), margin=0.0), forecasts)
        wide = one(work(**form, by_h=by_h, regions=("de", "fr", "se"), home="de", margin=0.0), forecasts)
    # The objective holds a price on each pause, 1 % of the job's grams: that much, for each left out, is no loss.
    price_g = 0.01 * form["hours_h"] * min(1.25 * np.mean(de), 1.1 * np.mean(fr)) * (len(tight.windows) - 1)
    for freer in (loose, wide):
        assert freer.emissions_g <= tight.emissions_g * (1 + 1e-9) + price_g + 1e-9


def fleet_of(seed, count=8):
    dice = Random(seed)
    jobs = []
    for i in range(count):
        length = dice.randint(1, 5)
        jobs.append(
            work(
                f"ns/j{i}", hours_h=length, by_h=dice.randint(length + 2, 26), regions=("de", "fr"),
                interruptible=dice.random() < 0.4, overhead=timedelta(minutes=10), power_w=float(dice.randint(50, 900)),
                demand={"gpu": float(dice.randint(1, 2))}, asap=dice.random() < 0.1,
            )
        )  # fmt: skip
    return tuple(jobs)


def most_held(made, jobs, region, resource="gpu"):
    spans = [(w.start, w.end, j.demand[resource]) for j in jobs for w in made.jobs[j.key].windows if w.region == region]
    return max((sum(u for a, b, u in spans if a <= s < b) for s, _, _ in spans), default=0.0)


@thorough(25)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_capacity_is_never_overused_however_late_it_is(seed, now_h):
    dice = np.random.default_rng(seed)
    regions = {n: replace(REGIONS[n], capacity={"gpu": 3.0}) for n in ("de", "fr")}
    jobs = fleet_of(seed)
    forecasts = known(*(hours(dice.integers(1, 500, 30), z) for z in ("DE", "FR")))
    made = plan(Fleet(jobs, regions), forecasts, T0 + now_h * HOUR)
    assert set(made.jobs) == {j.key for j in jobs}
    for region in regions:
        assert most_held(made, jobs, region) <= 3.0
    assert all(p.windows for p in made.jobs.values())


def test_the_order_of_the_fleet_does_not_matter_and_equal_input_gives_an_equal_plan():
    dice = np.random.default_rng(5)
    forecasts = known(*(hours(dice.integers(1, 500, 30), z) for z in ("DE", "FR")))
    regions = {n: replace(REGIONS[n], capacity={"gpu": 3.0}) for n in ("de", "fr")}
    jobs = fleet_of(3)
    first = plan(Fleet(jobs, regions), forecasts, T0)
    assert plan(Fleet(jobs, regions), forecasts, T0) == first
    for seed in range(5):
        mixed = Random(seed).sample(jobs, len(jobs))
        again = plan(Fleet(tuple(mixed), dict(reversed(regions.items()))), dict(reversed(forecasts.items())), T0)
        assert again.jobs == first.jobs


CLOCK_CHANGES = [  # local midnights of days of 23, 25, 23 1/2, 24 1/2 and 24 hours
    ("Europe/Berlin", 2026, 3, 29), ("Europe/Berlin", 2026, 10, 25), ("America/New_York", 2026, 3, 8),
    ("America/New_York", 2026, 11, 1), ("Australia/Lord_Howe", 2026, 10, 4), ("Australia/Lord_Howe", 2026, 4, 5),
    ("Asia/Kolkata", 2026, 6, 1),
]  # fmt: skip


@thorough(20)
@given(values, forms, st.integers(9, 28), st.sampled_from(CLOCK_CHANGES))
def test_days_of_23_and_25_hours_are_days_like_others(de, form, by_h, day):
    zone, *date = day
    start = datetime(*date, tzinfo=ZoneInfo(zone))
    since = start.astimezone(UTC) - T0
    job = work(**form, by_h=by_h)
    moved = replace(job, earliest=start, submitted=start, finish_by=job.finish_by + since)
    there, here = one(moved, known(hours(de, "DE", start)), start), one(job, known(hours(de)))
    assert [(w.start - since, w.end - since) for w in there.windows] == [(w.start, w.end) for w in here.windows]
    assert there.emissions_g == pytest.approx(here.emissions_g) and there.latest_start - since == here.latest_start


@pytest.mark.parametrize("now_h", [0, 3, 9])
def test_a_forecast_that_ends_before_the_deadline_carries_a_plan_to_its_end(now_h):
    made = one(work(by_h=48), known(hours([500 - 10 * k for k in range(12)])), T0 + now_h * HOUR)
    assert made.windows[-1].end == T0 + 12 * HOUR and made.edge
    assert "touches the end of the forecast" in made.explanation


@thorough(30)
@given(values, forms, st.integers(9, 29), st.integers(30, 60))
def test_a_forecast_shorter_than_the_deadline_is_planned_as_if_the_deadline_were_its_end(de, form, known_h, by_h):
    job = work(**form, by_h=by_h)
    short, end = known(hours(de[:known_h])), T0 + known_h * HOUR
    made, sooner = one(job, short), one(replace(job, finish_by=end + job.reserve), short)
    assert made.windows == sooner.windows and made.windows[-1].end <= end
    assert made.edge == (made.windows[-1].end >= end - timedelta(seconds=1))
    assert made.latest_start == job.latest_start() and made.feasible


@pytest.mark.parametrize(
    ("forecast", "fallback", "now_h", "reason", "starts_h"),
    [
        (None, Fallback.RUN_NOW, 0, Reason.FALLBACK_NO_FORECAST, 0),
        (None, Fallback.RUN_AT_LATEST, 0, Reason.AWAITING_FORECAST, None),
        (None, Fallback.RUN_AT_LATEST, 21.95, Reason.NO_SLACK, 21.95),
        (Freshness.STALE, Fallback.RUN_NOW, 0, Reason.FALLBACK_NO_FORECAST, 0),
        (Freshness.STALE, Fallback.RUN_AT_LATEST, 5, Reason.AWAITING_FORECAST, None),
        (Freshness.PROVIDER_UNAVAILABLE, Fallback.RUN_NOW, 0, Reason.FALLBACK_NO_FORECAST, 0),
        (Freshness.CACHED, Fallback.RUN_NOW, 0, Reason.CLEANER_WINDOW, 10),
        (Freshness.BUNDLED_TRACE, Fallback.RUN_NOW, 0, Reason.CLEANER_WINDOW, 10),
    ],
)
def test_without_a_usable_forecast_the_declared_fallback(forecast, fallback, now_h, reason, starts_h):
    shape = [300.0] * 30
    shape[10] = shape[11] = 10.0
    forecasts = {} if forecast is None else known(hours(shape), freshness=forecast)
    made = one(work(fallback=fallback), forecasts, T0 + now_h * HOUR)
    assert made.reason is reason
    assert [w.start for w in made.windows] == ([] if starts_h is None else [T0 + starts_h * HOUR])


def test_a_zone_without_forecast_is_excluded_by_name():
    made = one(work(regions=("de", "fr", "nowhere"), home="de"), known(hours([300] * 30)))
    assert {w.region for w in made.windows} == {"de"}
    said = {a.region: a.excluded_by for a in made.alternatives if a.excluded_by}
    assert said == {"fr": "nothing is known of zone FR", "nowhere": "there is no GreenRegion nowhere"}


@thorough(40)
@given(st.data(), forms, st.integers(0, 16), st.sampled_from(list(Fallback)))
def test_every_job_is_started_by_its_latest_start_whatever_the_forecasts_say(data, form, slack_h, fallback):
    """Replanned every hour and when the latest start comes, each time with another forecast, or none."""
    job = work(**form, by_h=form["hours_h"] * 1.05 + 1 + slack_h, fallback=fallback)
    latest, now = job.latest_start(), T0
    assert latest >= T0
    while True:
        shape = data.draw(st.none() | st.lists(st.integers(0, 900), min_size=1, max_size=26))
        forecasts = known(hours([float(v) for v in shape], start=now)) if shape else {}
        made = one(job, forecasts, now)
        assert made.latest_start == latest  # absolute: it never slides
        if made.window_at(now) is not None:
            break
        assert now < latest, "the latest start is reached and nothing runs"
        due = [now + HOUR, latest, *(w.start for w in made.windows)]
        now = min(t for t in due if t > now)
    assert now <= latest


@pytest.mark.parametrize(
    ("threshold", "reason", "start_h"),
    [(0.0, Reason.CLEANER_WINDOW, 10), (0.2, Reason.CLEANER_WINDOW, 10), (0.26, Reason.SAVING_BELOW_THRESHOLD, 0)],
)
def test_a_saving_below_the_threshold_is_not_waited_for(threshold, reason, start_h):
    shape = [400.0] * 30
    shape[10] = shape[11] = 300.0  # 25 % less
    made = one(work(min_saving=threshold), known(hours(shape)))
    assert (made.reason, made.windows[0].start) == (reason, T0 + start_h * HOUR)


@pytest.mark.parametrize(("away", "where"), [(405.0, "fr"), (4000.0, "de")])
def test_a_threshold_never_sends_work_to_where_it_emits_more_than_waiting_saves(away, where):
    """Home is full for three hours. What is saved against running there at once is less than nothing; what it would
    cost to run elsewhere at once is what counts."""
    regions = {"de": Region("de", "DE", 1.0, {"gpu": 1.0}), "fr": Region("fr", "FR", 1.0)}
    held = work("ns/held", hours_h=3.0, demand={"gpu": 1.0}, running_in="de", started=True)
    free = work("ns/free", regions=("de", "fr"), demand={"gpu": 1.0}, min_saving=0.02)
    series = known(hours([400.0] * 30), hours([away] * 30, "FR"))
    made = plan(Fleet((held, free), regions), series, T0).jobs["ns/free"]
    assert made.windows[0].region == where
    assert made.windows[0].start == T0 + (0 if where == "fr" else 3) * HOUR


@pytest.mark.parametrize(
    ("more", "reason", "start_h", "region"),
    [
        ({}, Reason.CLEANER_WINDOW, 10, "de"),
        ({"asap": True}, Reason.USER_FORCED, 0, "fr"),
        ({"running_in": "de", "started": True}, Reason.CLEANER_WINDOW, 0, "de"),  # Never: goes on where it is
        ({"by_h": 2.1}, Reason.NO_SLACK, 0, "fr"),
        ({"by_h": 1.5}, Reason.DEADLINE_TOO_SOON, 0, "fr"),
        ({"regions": ("x",)}, Reason.NO_ALLOWED_REGION, None, None),
    ],
)
def test_what_cannot_be_helped_comes_before_what_can_be_chosen(more, reason, start_h, region):
    shape = [400.0] * 30
    shape[10] = shape[11] = 10.0
    job = work(**({"regions": ("de", "fr"), "home": "de"} | more))
    made = one(job, known(hours(shape), hours([300.0] * 30, "FR")))
    assert made.reason is reason
    assert [(w.start, w.region) for w in made.windows] == ([] if start_h is None else [(T0 + start_h * HOUR, region)])
    assert made.feasible is (reason not in (Reason.DEADLINE_TOO_SOON, Reason.NO_ALLOWED_REGION))


@pytest.mark.parametrize(
    ("dip_g", "overhead_min", "stays"),
    [(390.0, 30, True), (10.0, 30, False), (10.0, 0, False), (399.0, 1, True), (300.0, 1, False)],
)
def test_a_running_job_moves_only_where_it_pays(dip_g, overhead_min, stays):
    job = work(
        hours_h=4, regions=("de", "fr"), interruptible=True, overhead=timedelta(minutes=overhead_min), started=True,
        running_in="de",
    )  # fmt: skip
    regions = {n: replace(REGIONS[n], pue=1.0) for n in ("de", "fr")}
    made = one(job, known(hours([400.0] * 30), hours([dip_g] * 30, "FR")), regions=regions)
    assert (made.windows[0].region == "de" and len(made.windows) == 1) is stays


def test_nothing_cleaner_means_now():
    made = one(work(), known(hours([300.0] * 30)))
    assert made.reason is Reason.RUN_NOW and made.windows[0].start == T0


GREENJOB = GreenJob.model_validate(
    {
        "metadata": {"name": "a", "namespace": "ns", "uid": "u", "creationTimestamp": "2026-03-02T00:00:00Z"},
        "spec": {
            "completeWithin": "24h", "duration": "3h", "template": CONTAINER,
            "power": {"watts": 1000},
            "placement": {"regions": ["de", "fr"], "home": "de"},
        },
    }
)  # fmt: skip


@thorough(40)
@given(values, values, forms)
def test_grams_of_the_plan_are_grams_of_the_books(de, fr, form):
    """The same joules over the same intervals, weighed by the planner and by the accounts."""
    forecasts = known(hours(de, "DE"), hours(fr, "FR"))
    job = work(**form, by_h=24, regions=("de", "fr"), power_w=1000.0)
    made = one(job, forecasts)
    series = {z: f.series for z, f in forecasts.items()}
    rows = [
        EnergyInterval(
            "u", i, "p", "declared", w.start, w.end, w.length.total_seconds() * 1000.0, "estimated", "s",
            w.region, REGIONS[w.region].zone, REGIONS[w.region].pue,
        )
        for i, w in enumerate(made.windows)
    ]  # fmt: skip
    booked = account(Observed(GREENJOB), rows, series, REGIONS)
    assert booked.emissions_g == pytest.approx(made.emissions_g, rel=1e-9, abs=1e-9)
    home = EnergyInterval(
        "u", 1, "p", "declared", T0, T0 + job.duration, job.duration.total_seconds() * 1000.0, "estimated", "s",
        "de", "DE", 1.25,
    )  # fmt: skip
    at_once = account(Observed(GREENJOB), [home], series, REGIONS)
    assert at_once.emissions_g == pytest.approx(made.run_now_g, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("reason", sorted(set(Reason) - {Reason.OBSERVING}))  # that one is the operator's, no planner's
def test_every_reason_has_a_sentence(reason):
    """Each reached by a plan of its own; a start names its region, what waits its latest start."""
    shape = [400.0] * 30
    shape[10] = shape[11] = 300.0
    good, full = known(hours(shape)), {"de": Region("de", "DE", 1.0, {"gpu": 0.0})}
    job, regions, forecasts = {
        Reason.CLEANER_WINDOW: (work(), REGIONS, good),
        Reason.RUN_NOW: (work(), REGIONS, known(hours([300.0] * 30))),
        Reason.NO_SLACK: (work(by_h=2.1), REGIONS, good),
        Reason.SAVING_BELOW_THRESHOLD: (work(min_saving=0.9), REGIONS, good),
        Reason.FALLBACK_NO_FORECAST: (work(), REGIONS, {}),
        Reason.DURATION_UNKNOWN: (work(duration_known=False), REGIONS, good),
        Reason.USER_FORCED: (work(asap=True), REGIONS, good),
        Reason.DEADLINE_TOO_SOON: (work(by_h=1), REGIONS, good),
        Reason.NO_ALLOWED_REGION: (work(regions=("x",)), REGIONS, good),
        Reason.AWAITING_FORECAST: (work(fallback=Fallback.RUN_AT_LATEST), REGIONS, {}),
        Reason.CAPACITY_FULL: (work(demand={"gpu": 1.0}), full, good),
    }[reason]
    made = one(job, forecasts, regions=regions)
    assert made.reason is reason and made.explanation.endswith(".")
    if reason is Reason.CLEANER_WINDOW:
        assert made.explanation.startswith("Cleanest from 03-02 10:00Z in de; latest start 03-02 21:54Z.")
    if reason in (Reason.AWAITING_FORECAST, Reason.NO_SLACK):
        assert f"{made.latest_start:%m-%d %H:%MZ}" in made.explanation


def test_a_forecast_is_a_value_that_the_plan_names():
    made = one(work(), {"DE": Forecast("DE", hours([300.0] * 30), Freshness.LIVE, vintage="abc")})
    assert made.vintages == (("DE", "abc"),)

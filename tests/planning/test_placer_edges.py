"""Edges of the choice for one job: which reason is told, what stands, what goes on, and what a move must save."""

from dataclasses import replace
from datetime import timedelta

import pytest
from planning.fleets import HOUR, T0, hours, irregular, known, work

from windward.domain.fleet import Fleet, Level, Region
from windward.domain.plan import Reason
from windward.planning import plan
from windward_api.greenjob import Fallback

FLAT = {"de": Region("de", "DE"), "fr": Region("fr", "FR"), "se": Region("se", "SE")}
BOTH = ("de", "fr")
SECOND = timedelta(seconds=1)


def one(job, forecasts, at_h=0.0, regions=FLAT, beside=(), previous=None):
    return plan(Fleet((job, *beside), regions), forecasts, T0 + at_h * HOUR, previous).jobs[job.key]


def flat(de=400.0, *others):
    return known(*(hours([v] * 40, zone) for v, zone in zip((de, *others), ("DE", "FR", "SE"), strict=False)))


def dip(at_h, low, high=400.0, zone="DE", long_h=2):
    """High all day, but for a few hours."""
    return hours([high] * at_h + [low] * long_h + [high] * (40 - at_h - long_h), zone)


def spans(made):
    return [(w.region, (w.start - T0) / HOUR, (w.end - T0) / HOUR) for w in made.windows]


def full(region, until_h):
    """A run that holds the only unit of a region for some hours."""
    return work(f"ns/{region}", hours_h=until_h, by_h=99, regions=(region,), running_in=region, demand={"gpu": 1.0})


NARROW = {name: replace(r, capacity={"gpu": 1.0}) for name, r in FLAT.items()}


# the reason that is told


@pytest.mark.parametrize(("there_g", "reason"), [(1000, "RunNow"), (996, "RunNow"), (994, "CleanerWindow")])
def test_half_a_per_cent_is_worth_saying(there_g, reason):
    made = one(work(regions=BOTH), flat(1000.0, float(there_g)))
    assert made.reason == reason and made.windows[0].start == T0


@pytest.mark.parametrize(
    ("by_h", "reason", "feasible"),
    [
        (2 + 0.1 + 1 / 3600, "CleanerWindow", True),
        (2 + 0.1, "NoSlack", True),  # the reserve is begun
        (2, "NoSlack", True),
        (2 - 1 / 3600, "DeadlineTooSoon", False),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_a_deadline_is_met_to_the_second_or_said_to_be_missed(by_h, reason, feasible, resumed):
    """With an hour and a half left of two, and a resume of half an hour, or all of it."""
    job = work(by_h=by_h, regions=BOTH)
    if resumed:
        job = replace(job, started=True, remaining=1.5 * HOUR, overhead=0.5 * HOUR)
    made = one(job, flat(400.0, 300.0))
    assert (made.reason, made.feasible) == (reason, feasible)
    assert [(a, b) for _, a, b in spans(made)] == [(0, 2)]


@pytest.mark.parametrize(("known_s", "grams"), [(7200.0, 800.0), (7200.0 - 1e-7, 800.0), (7199.5, None)])
def test_grams_are_told_where_all_hours_are_known(known_s, grams):
    """A datetime is not its epoch seconds to the last digit; half a second is not known."""
    made = one(work(asap=True), known(irregular([0, known_s], [400.0])))
    assert made.emissions_g == pytest.approx(grams) and made.run_now_g == pytest.approx(grams)


@pytest.mark.parametrize(
    ("started", "threshold", "reason"),
    [
        (False, 0.25, "CleanerWindow"),  # just enough
        (False, 0.2501, "SavingBelowThreshold"),
        (True, 0.2501, "CleanerWindow"),  # it is under way: a threshold is for whether to wait at all
    ],
)
def test_the_threshold_is_for_work_that_has_not_begun(started, threshold, reason):
    job = work(min_saving=threshold, started=started)
    made = one(job, known(dip(10, 300.0)))
    assert made.reason == reason and made.windows[0].start == T0 + (0 if "Below" in reason else 10) * HOUR


def test_a_saving_too_small_to_wait_for_is_too_small_to_leave_home_for():
    made = one(work(regions=BOTH, home="de", min_saving=0.1), flat(400.0, 380.0))
    assert (made.reason, spans(made)) == (Reason.SAVING_BELOW_THRESHOLD, [("de", 0, 2)])


@pytest.mark.parametrize(
    ("there_g", "reason", "region"),
    [
        (415.0, "SavingBelowThreshold", "fr"),  # a little above home's 400
        (419.0, "SavingBelowThreshold", "fr"),
        (421.0, "CleanerWindow", "de"),  # now costs 121 g more an hour than later: more than the 30 % of 400
        (1000.0, "CleanerWindow", "de"),
    ],
)
def test_where_home_is_full_starting_elsewhere_must_not_emit_more_than_waiting_is_worth(there_g, reason, region):
    job = work(regions=BOTH, home="de", min_saving=0.3, demand={"gpu": 1.0})
    forecasts = known(dip(10, 300.0), hours([there_g] * 40, "FR"))
    made = one(job, forecasts, regions=NARROW, beside=[full("de", 3)])
    assert (made.reason, made.windows[0].region) == (reason, region)


def test_where_nothing_is_free_now_a_small_saving_is_waited_for():
    job = work(regions=BOTH, home="de", min_saving=0.3, demand={"gpu": 1.0})
    forecasts = known(dip(10, 300.0), hours([410.0] * 40, "FR"))
    made = one(job, forecasts, regions=NARROW, beside=[full("de", 3), full("fr", 3)])
    assert (made.reason, spans(made)) == (Reason.CLEANER_WINDOW, [("de", 10, 12)])


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"DE": (0, 1)}, "AwaitingForecast"),  # two hours of work, and one is known
        ({"DE": (0, 2)}, "CapacityFull"),
        ({"DE": (0, 40)}, "CapacityFull"),
        ({"DE": (23, 40)}, "AwaitingForecast"),  # known from after its latest start
        ({"DE": (21, 40)}, "CapacityFull"),
        ({"DE": (0, 1), "FR": (0, 40)}, "CapacityFull"),
        ({}, "AwaitingForecast"),
    ],
)
@pytest.mark.parametrize("pausing", [False, True])
def test_no_room_is_told_apart_from_no_forecast(shapes, reason, pausing):
    """It asks for two of what each region has one of; without a forecast it may wait for one."""
    forecasts = known(*(hours([300.0] * (b - a), zone, T0 + a * HOUR) for zone, (a, b) in shapes.items()))
    job = work(regions=BOTH, demand={"gpu": 2.0}, interruptible=pausing, fallback=Fallback.RUN_AT_LATEST)
    assert one(job, forecasts, regions=NARROW).reason == reason


def test_only_where_no_place_was_found_is_it_told_which_region_is_too_small():
    regions = {"de": replace(FLAT["de"], capacity={"gpu": 1.0}), "fr": replace(FLAT["fr"], capacity={"gpu": 2.0})}
    job = work(regions=BOTH, demand={"gpu": 2.0}, fallback=Fallback.RUN_AT_LATEST)
    placed, waits = one(job, flat(400.0, 300.0), regions=regions), one(job, {}, regions=regions)
    assert spans(placed) == [("fr", 0, 2)] and placed.alternatives == ()
    assert [(a.region, a.excluded_by) for a in waits.alternatives] == [
        ("de", "it asks for 2 gpu, and all there is are 1"),
        ("de", "nothing is known of zone DE"),
        ("fr", "nothing is known of zone FR"),
    ]


def test_what_waits_is_told_as_waiting_however_little_it_saves():
    made = one(work(), known(dip(10, 399.0)))
    assert (made.reason, spans(made)) == (Reason.CLEANER_WINDOW, [("de", 10, 12)])


def test_without_a_threshold_it_waits_for_the_best_of_dirtier_days():
    """Three hours ago, when it was submitted, was cleaner than all that comes."""
    past = hours([100.0] * 3 + [400.0] * 10 + [300.0] * 2 + [400.0] * 20, start=T0 - 3 * HOUR)
    made = one(replace(work(), submitted=T0 - 3 * HOUR), known(past))
    assert (made.reason, spans(made)) == (Reason.CLEANER_WINDOW, [("de", 10, 12)])


@pytest.mark.parametrize(("threshold", "where"), [(0.0, "fr"), (0.1, "de")])
def test_without_a_threshold_money_may_outweigh_grams(threshold, where):
    """2 kWh at home for 600 g and 20 of currency, or at once elsewhere for 800 g and none."""
    regions = {"de": replace(FLAT["de"], price_per_hour={"gpu": 10.0}), "fr": FLAT["fr"]}
    job = work(regions=BOTH, demand={"gpu": 1.0}, grams_per_currency=20.0, min_saving=threshold)
    assert spans(one(job, flat(300.0, 400.0), regions=regions)) == [(where, 0, 2)]


# of equals


@pytest.mark.parametrize("names", [("de", "fr"), ("fr", "de")])
def test_of_equals_the_region_that_is_named_first(names):
    made = one(work(regions=names, home="se"), known(dip(6, 100.0), dip(6, 100.0, zone="FR")))
    assert spans(made) == [(names[0], 6, 8)]


def test_of_equals_the_one_that_ends_first_and_without_a_pause():
    forecasts = known(dip(6, 100.0), dip(3, 100.0, zone="FR"))
    assert spans(one(work(regions=BOTH), forecasts)) == [("fr", 3, 5)]
    assert spans(one(work(regions=BOTH, interruptible=True), forecasts)) == [("fr", 3, 5)]
    assert spans(one(work(interruptible=True), flat())) == [("de", 0, 2)]


# at once


@pytest.mark.parametrize(
    ("names", "forecasts", "region"),
    [
        (("de", "fr", "se"), flat(400.0, 300.0, 500.0), "fr"),
        (("fr", "de"), flat(400.0, 400.0), "de"),  # of equals, home
        (("de", "fr"), known(hours([900.0] * 9, "FR")), "fr"),  # what is known, before what is not
        (("fr", "de"), {}, "de"),
    ],
)
def test_at_once_is_where_it_emits_least(names, forecasts, region):
    made = one(work(regions=names, home="de", asap=True), forecasts)
    assert (made.reason, spans(made)) == (Reason.USER_FORCED, [(region, 0, 2)])


def test_at_once_where_it_runs_and_as_it_runs():
    slow = (Level(0.5, 300.0, name="slow"),)
    job = work(regions=BOTH, hours_h=4, left_h=1, by_h=40, started=True, levels=slow, overhead=HOUR, asap=True)
    forecasts = flat(400.0, 100.0)
    made = one(replace(job, running_in="de", running_level=0), forecasts)
    assert (made.level, made.level_name, spans(made)) == (0, "slow", [("de", 0, 2)])
    assert made.emissions_g == pytest.approx(0.3 * 2 * 400)
    made = one(replace(job, running_in="de"), forecasts)
    assert (made.level, spans(made), made.emissions_g) == (None, [("de", 0, 1)], pytest.approx(400))
    made = one(job, forecasts)  # resumes, an hour, where it is cleaner
    assert (made.level, spans(made), made.emissions_g) == (None, [("fr", 0, 2)], pytest.approx(200))


def test_at_once_a_pod_that_waits_waits_where_it_is():
    job = work(regions=BOTH, demand={"gpu": 1.0}, running_in="de", pending=True, asap=True)
    made = one(job, flat(400.0, 100.0), regions=NARROW, beside=[full("de", 3)])
    assert spans(made) == [("de", 3, 5)]


def test_at_once_where_there_is_room_first():
    job = work(regions=BOTH, home="de", demand={"gpu": 1.0}, asap=True)
    made = one(job, flat(100.0, 400.0), regions=NARROW, beside=[full("de", 5), full("fr", 3)])
    assert spans(made) == [("fr", 3, 5)]


def test_what_runs_goes_on_though_its_region_is_fuller_than_it_may_be():
    job = work(demand={"gpu": 1.0}, running_in="de", started=True, left_h=1)
    made = plan(Fleet((job, full("de", 3)), NARROW), flat(), T0).jobs
    assert spans(made["ns/a"]) == [("de", 0, 1)] and spans(made["ns/de"]) == [("de", 0, 3)]


def test_work_whose_region_is_gone_starts_anew_as_declared():
    slow = (Level(0.5, 300.0, name="slow"),)
    job = work(left_h=1, overhead=0.5 * HOUR, started=True, running_in="gone", levels=slow, running_level=0, asap=True)
    made = one(job, flat())
    assert (made.level, spans(made)) == (None, [("de", 0, 1.5)])


# what goes on


TIGHT = {"left_h": 6001 / 3600, "hours_h": 4.0, "by_h": 6006 / 3600, "margin": 0.0, "interruptible": True}


@pytest.mark.parametrize(
    ("more", "beside", "windows_s"),
    [
        ({"started": True}, [], [(0, 6001)]),
        ({"pending": True}, [], [(0, 6001)]),
        ({"pending": True, "demand": {"gpu": 1.0}}, [full("de", 3 / 3600)], [(3, 6004)]),
        ({"pending": True, "demand": {"gpu": 2.0}}, [], []),
    ],
)
def test_what_may_pause_goes_on_where_only_seconds_are_left_to_pause(more, beside, windows_s):
    """Fewer than a slot of the search with pauses, which finds nothing then."""
    job = work(regions=BOTH, running_in="de", start_energy_wh=1000.0, **TIGHT | more)
    made = one(job, flat(), regions=NARROW, beside=beside)
    assert [((w.start - T0) / SECOND, (w.end - T0) / SECOND) for w in made.windows] == windows_s
    if windows_s:
        assert made.reason is Reason.CLEANER_WINDOW and {w.region for w in made.windows} == {"de"}
        assert made.emissions_g == pytest.approx(400 * (6001 / 3600 + ("pending" in more)))
    else:
        assert made.reason is Reason.CAPACITY_FULL


def test_it_goes_on_so_at_its_level_too():
    slow = (Level(0.25, 100.0, name="slower"), Level(0.5, 300.0, name="slow"))
    tight = TIGHT | {"left_h": TIGHT["left_h"] / 2}
    made = one(work(running_in="de", started=True, levels=slow, running_level=1, **tight), flat())
    assert (made.level, [(w.end - w.start) / SECOND for w in made.windows]) == (1, [6001])
    assert made.emissions_g == pytest.approx(0.3 * 400 * 6001 / 3600)


def test_a_run_whose_zone_is_unknown_is_weighed_against_nothing():
    job = work(regions=BOTH, running_in="de", started=True, interruptible=True, left_h=1, overhead=0.5 * HOUR)
    made = one(job, known(hours([300.0] * 40, "FR")))
    assert (spans(made), made.go_on_g, made.run_now_g) == ([("fr", 0, 1.5)], None, None)
    assert not made.pause_pays


@pytest.mark.parametrize(
    ("more", "length_h"),
    [
        ({"started": True}, 1.5),
        ({"started": True, "running_in": "de"}, 1.0),
        ({"started": True, "running_in": "de", "pending": True}, 1.5),
        ({"running_in": "de", "pending": True}, 1.0),
        ({}, 1.0),
    ],
)
def test_a_resume_costs_its_overhead_and_going_on_does_not(more, length_h):
    made = one(work(left_h=1, overhead=0.5 * HOUR, **more), flat())
    assert spans(made) == [("de", 0, length_h)]


def test_going_on_is_told_in_grams_of_the_whole_job():
    slow = (Level(0.5, 300.0, name="slow"),)
    job = work(hours_h=4, left_h=2, by_h=30, started=True, running_in="de", spent_g=50.0, levels=slow)
    assert one(job, flat()).go_on_g == pytest.approx(50 + 2 * 400)
    assert one(replace(job, running_level=0), flat()).go_on_g == pytest.approx(50 + 0.3 * 4 * 400)
    assert one(replace(job, running_in=None), flat()).go_on_g is None
    assert one(job, known(hours([400.0]))).go_on_g is None, "its second hour is not known"


def test_what_was_emitted_so_far_counts_in_the_plan_and_in_what_else_was_weighed():
    job = work(left_h=1, started=True, regions=BOTH, spent_g=50.0)
    made = one(job, flat(400.0, 300.0))
    assert made.emissions_g == pytest.approx(350)
    assert [(a.region, a.emissions_g) for a in made.alternatives] == [("de", pytest.approx(450))]


def test_a_start_draws_its_energy_and_going_on_draws_none():
    job = work(hours_h=2, start_energy_wh=500.0, interruptible=True)
    assert one(replace(job, asap=True), flat()).emissions_g == pytest.approx((2 + 0.5) * 400)
    assert one(job, flat()).run_now_g == pytest.approx((2 + 0.5) * 400)
    runs = replace(job, started=True, running_in="de")
    for more in ({}, {"asap": True}, {"interruptible": False}):
        assert one(replace(runs, **more), flat()).emissions_g == pytest.approx(2 * 400)
    assert one(replace(runs, asap=True, pending=True), flat()).emissions_g == pytest.approx((2 + 0.5) * 400)


# what a pause or a move must save


@pytest.mark.parametrize(
    ("min_saving", "stays_g", "moves_g"),
    [(0.0, 393.0, 391.0), (0.1, 334.0, 333.0)],  # of 400 for two hours, against 1 % or 10 % of four hours there
)
def test_a_move_must_save_a_share_of_the_whole_job(min_saving, stays_g, moves_g):
    job = work(
        hours_h=4, left_h=2, by_h=30, regions=BOTH, started=True, running_in="de", interruptible=True,
        min_saving=min_saving,
    )  # fmt: skip
    assert spans(one(job, flat(400.0, stays_g))) == [("de", 0, 2)]
    assert spans(one(job, flat(400.0, moves_g))) == [("fr", 0, 2)]


def test_a_pod_that_waits_for_room_runs_nothing_that_a_move_would_stop():
    job = work(hours_h=4, by_h=30, regions=BOTH, running_in="de", pending=True, interruptible=True)
    assert spans(one(job, flat(400.0, 399.0))) == [("fr", 0, 4)]


def twice(low):
    """Low for two hours from now, and for two from 08:00; 400 g between."""
    return known(hours([low] * 2 + [400.0] * 6 + [low] * 2 + [400.0] * 30))


@pytest.mark.parametrize(("low_g", "pieces"), [(393.0, 1), (391.0, 2)])
def test_a_pause_must_save_a_share_of_the_whole_job(low_g, pieces):
    """Two of four hours can be run in the later spell, which saves 14 g or 18 g; 1 % of the whole is 16 g."""
    for more in ({}, {"started": True, "running_in": "de"}, {"pending": True, "running_in": "de"}):
        made = one(work(hours_h=4, by_h=30, interruptible=True, **more), twice(low_g))
        assert spans(made) == ([("de", 0, 4)] if pieces == 1 else [("de", 0, 2), ("de", 8, 10)])


def test_a_pause_of_what_runs_costs_one_resume_and_no_start_now():
    job = work(hours_h=4, by_h=30, interruptible=True, started=True, running_in="de", overhead=0.5 * HOUR)
    made = one(job, known(hours([100.0] * 2 + [400.0] * 6 + [100.0] * 3 + [400.0] * 29)))
    assert spans(made) == [("de", 0, 2), ("de", 8, 10.5)]


@pytest.mark.parametrize(("slow_w", "level"), [(498.0, None), (490.0, 0)])
def test_a_level_that_needs_a_pause_must_save_it(slow_w, level):
    """At half the speed it takes both spells. It saves 0.4 % or 2 %, and the pause has to save 1 % of the whole."""
    job = work(hours_h=2, by_h=30, interruptible=True, levels=(Level(0.5, slow_w, name="slow"),))
    made = one(job, twice(390.0))
    assert made.level == level and len(made.windows) == (1 if level is None else 2)


def test_a_level_that_takes_too_long_is_passed_over():
    job = work(hours_h=2, by_h=3.5, interruptible=True, levels=(Level(0.5, 100.0, name="slow"),))
    made = one(job, known(hours([400.0, 100.0, 400.0, 100.0])))
    assert made.level is None and made.feasible


@pytest.mark.parametrize(("worth", "where"), [(19.0, ("fr", 10, 12)), (21.0, ("de", 0, 2))])
def test_waiting_elsewhere_is_weighed_against_starting_here(worth, where):
    """Ten hours for 200 g."""
    forecasts = known(hours([400.0] * 40), dip(10, 300.0, 500.0, "FR"))
    for pausing in (False, True):
        job = work(regions=BOTH, delay_g_per_hour=worth, interruptible=pausing)
        assert spans(one(job, forecasts)) == [where]


def test_what_runs_and_may_pause_keeps_its_level():
    slow = (Level(0.5, 300.0, name="slow"), Level(0.25, 100.0, name="slower"))
    job = work(hours_h=2, by_h=30, started=True, running_in="de", interruptible=True, levels=slow, running_level=0)
    made = one(job, twice(50.0))
    assert (made.level, spans(made)) == (0, [("de", 0, 2), ("de", 8, 10)])
    assert one(replace(job, running_level=None), twice(50.0)).level is None


# the plan before


STOOD = {"regions": BOTH, "hours_h": 2, "by_h": 24}
SHAPES = (dip(10, 300.0), hours([390.0] * 40, "FR"))


def again(job, forecasts=None, at_h=1.0, **more):
    """Whether the plan of an hour before is told again as it was."""
    first = plan(Fleet((work(**STOOD),), FLAT), known(*SHAPES), T0)
    made = one(job, forecasts or known(*SHAPES), at_h, previous=first, **more)
    return made is first.jobs[job.key]


def test_a_plan_that_says_the_same_is_told_again_word_for_word():
    assert again(work(**STOOD))
    assert again(work(**STOOD, min_saving=0.25))


@pytest.mark.parametrize(
    "change",
    [
        {"power_w": 1001.0}, {"spent_g": 1.0}, {"started": True}, {"by_h": 25.0}, {"min_saving": 0.26},
        {"regions": ("de", "fr", "se")}, {"regions": ("de",)}, {"hours_h": 1.99},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_plan_of_other_work_is_made_anew(change):
    assert not again(work(**STOOD | change))


def test_a_plan_on_another_issue_is_made_anew():
    newer = {z: replace(f, vintage="newer") for z, f in known(*SHAPES).items()}
    assert not again(work(**STOOD), newer)


def test_a_plan_that_found_nothing_cleaner_is_made_anew():
    first = plan(Fleet((work(),), FLAT), flat(), T0)
    made = one(work(), flat(), previous=first)
    assert made.reason is Reason.RUN_NOW and made is not first.jobs["ns/a"]


# what is said beside the windows


def test_run_now_is_from_submission_or_from_now_where_the_past_is_not_known():
    job = replace(work(), submitted=T0 - 3 * HOUR)
    past = hours([600.0] * 3 + [400.0] * 40, start=T0 - 3 * HOUR)
    assert one(job, known(past)).run_now_g == pytest.approx(2 * 600)
    assert one(job, flat()).run_now_g == pytest.approx(2 * 400)
    assert one(job, known(hours([400.0]))).run_now_g is None
    assert one(replace(job, regions=("fr",), home="de"), flat(400.0, 300.0)).run_now_g is None, "home is not allowed"


@pytest.mark.parametrize(("by_h", "edge"), [(12.1, True), (12, False), (11, False)])
def test_a_plan_touches_the_edge_where_more_might_be_won_beyond(by_h, edge):
    """Known for twelve hours, ever cleaner; the reserve of six minutes ends a window before the finish-by time."""
    made = one(work(by_h=by_h, margin=0.0), known(hours([500.0 - 10 * k for k in range(12)])))
    assert made.edge is edge


def test_a_plan_that_ends_before_the_last_second_known_does_not_touch_the_edge():
    for low_at_h, edge in ((38, True), (37, False)):
        assert one(work(by_h=60), known(dip(low_at_h, 100.0))).edge is edge


def test_a_plan_that_ends_with_the_shorter_forecast_does_not_touch_the_edge():
    forecasts = known(hours([500.0 - 10 * k for k in range(12)]), hours([500.0] * 20, "FR"))
    made = one(work(regions=BOTH, by_h=48), forecasts)
    assert spans(made) == [("de", 10, 12)] and not made.edge


@pytest.mark.parametrize("fallback", list(Fallback))
def test_a_plan_that_rests_on_no_forecast_touches_no_edge(fallback):
    made = one(work(fallback=fallback), {})
    assert not made.edge and "touches" not in made.explanation


def test_what_else_was_weighed_is_told_cheapest_first_and_the_choice_is_not_among_it():
    job = work(regions=("de", "fr", "se"), levels=(Level(0.5, 550.0, name="slow"),))
    made = one(job, flat(500.0, 300.0, 400.0))
    assert (made.windows[0].region, made.level_name) == ("fr", "")
    assert [(a.region, a.level_name, a.emissions_g) for a in made.alternatives] == [
        ("fr", "slow", pytest.approx(0.55 * 4 * 300)),
        ("se", "", pytest.approx(2 * 400)),
        ("se", "slow", pytest.approx(0.55 * 4 * 400)),
        ("de", "", pytest.approx(2 * 500)),
        ("de", "slow", pytest.approx(0.55 * 4 * 500)),
    ]


def test_a_way_through_several_regions_stands_beside_the_best_of_each():
    forecasts = known(dip(3, 100.0, long_h=1), dip(6, 100.0, zone="FR", long_h=1))
    made = one(work(regions=BOTH, interruptible=True), forecasts)
    assert spans(made) == [("de", 3, 4), ("fr", 6, 7)] and made.emissions_g == pytest.approx(200)
    assert [(a.region, a.emissions_g) for a in made.alternatives] == [("de", 500), ("fr", 500)]
    assert made.capacity_g == 0.0


def test_demonstration_data_is_marked_and_every_zone_named():
    series = (hours([300.0] * 40), replace(hours([300.0] * 40, "FR"), demo=True))
    made = one(work(regions=("fr", "de")), known(*series))
    assert made.demo and made.vintages == (("DE", "vDE"), ("FR", "vFR"))
    assert not one(work(), known(*series)).demo

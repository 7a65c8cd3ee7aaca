"""A choice as people read it: whether it is in time, whether more may be won beyond what is known, and in which order
what else was weighed is told."""

import pytest
from planning.fleets import HOUR, T0, hours, known, work

from windward.domain.fleet import Fleet, Region
from windward.domain.plan import Reason
from windward.planning.capacity import Occupancy
from windward.planning.objective import Objective
from windward.planning.problem import Problem
from windward.planning.rendering import Rendering, Weighed
from windward.planning.windows import Candidate

START, HOUR_S = T0.timestamp(), 3600.0
FLAT = {"de": Region("de", "DE"), "fr": Region("fr", "FR")}
KNOWN_H = 20  # of both regions


def candidate(*spans, grams=100.0):
    """Segments (region, hours after T0)."""
    return Candidate(tuple((r, START + a * HOUR_S, START + b * HOUR_S) for r, a, b in spans), grams)


def rendered(chosen, weighed=Weighed(), **form):
    job = work(**{"regions": ("de", "fr"), "by_h": 24} | form)
    forecasts = known(hours([400.0] * KNOWN_H), hours([200.0] * KNOWN_H, "FR"))
    effective = {name: forecasts[r.zone].series for name, r in FLAT.items()}
    problem = Problem(job, Fleet((job,), FLAT), forecasts, T0, Occupancy({}), effective)
    return Rendering(problem, Objective(problem)).plan(Reason.CLEANER_WINDOW, chosen, weighed)


@pytest.mark.parametrize(
    ("spans", "feasible"),
    [([("de", 0, 2)], True), ([("de", 22, 24)], True), ([("de", 22.1, 24.1)], False),
     ([("de", 0, 1), ("de", 23.1, 24.1)], False), ([("de", 0, 1), ("de", 23, 24)], True), ([], False)],
)  # fmt: skip
def test_a_plan_is_feasible_if_its_last_window_ends_in_time(spans, feasible):
    assert rendered(candidate(*spans)).feasible is feasible


SECOND_H = 1 / 3600


@pytest.mark.parametrize(
    ("spans", "by_h", "touches"),
    [
        ([("de", 18, 20)], 24, True), ([("de", 17, 19)], 24, False), ([("de", 18, 20)], 20, False),
        ([("de", 18 - 0.5 * SECOND_H, 20 - 0.5 * SECOND_H)], 24, True),
        ([("de", 18 - SECOND_H, 20 - SECOND_H)], 24, True),
        ([("de", 18 - 2 * SECOND_H, 20 - 2 * SECOND_H)], 24, False),
        ([("de", 0, 1), ("de", 19, 20)], 24, True), ([], 24, False),
    ],
)  # fmt: skip
def test_a_plan_touches_the_edge_if_its_last_window_ends_within_a_second_of_what_is_known(spans, by_h, touches):
    assert rendered(candidate(*spans), by_h=by_h).edge is touches


def test_what_else_was_weighed_is_told_by_grams_and_room():
    """The cleanest costs the most with the room that others want; one without grams comes first."""
    chosen, several = candidate(("de", 0, 2)), [("de", 3, 4), ("fr", 6, 7)]
    options = [
        candidate(("de", 5, 7), grams=0.0), candidate(("fr", 1, 3), grams=0.5), candidate(("fr", 2, 4), grams=10.0),
        candidate(*several, grams=20.0), candidate(("fr", 8, 10), grams=30.0), chosen,
    ]  # fmt: skip
    room_g = {0.0: 0.0, 0.5: 0.0, 10.0: 15.0, 20.0: 1.0, 30.0: 0.0, 100.0: 0.0}
    told = rendered(chosen, Weighed(options, congestion_g=lambda c: room_g[c.grams])).alternatives
    assert [(a.region, a.emissions_g, a.capacity_g) for a in told] == [
        ("de", 0.0, 0.0), ("fr", 0.5, 0.0), ("several", 20.0, 1.0), ("fr", 10.0, 15.0), ("fr", 30.0, 0.0),
    ]  # fmt: skip
    (a, b) = told[2].windows
    assert [(w.region, w.start - T0, w.end - T0) for w in (a, b)] == [
        ("de", 3 * HOUR, 4 * HOUR),
        ("fr", 6 * HOUR, 7 * HOUR),
    ]


def test_a_full_region_says_by_when_it_has_no_room():
    told = rendered(candidate(("de", 0, 2)), Weighed(full=("fr",))).alternatives
    assert [(a.region, a.excluded_by) for a in told] == [("fr", "no room for it that ends before 03-03 00:00Z")]


@pytest.mark.parametrize(
    ("grams", "told"), [(799.0, 799.0), (0.25, 0.25), (0.0, pytest.approx(800.0))],
)  # fmt: skip
def test_an_unbroken_window_has_the_grams_that_the_search_knows_of_it(grams, told):
    """To the last bit, as what was chosen and what is told are compared; where it knows none they are computed."""
    (window,) = rendered(candidate(("de", 1, 3), grams=grams)).windows
    assert (window.end - window.start, window.emissions_g) == (2 * HOUR, told)


def test_each_stretch_has_its_own_grams():
    made = rendered(candidate(("de", 1, 2), ("fr", 3, 4), grams=599.0))
    assert [w.emissions_g for w in made.windows] == pytest.approx([400.0, 200.0])

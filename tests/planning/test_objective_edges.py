"""What a candidate costs beside its emissions, to the gram: the wait for its end, the currency, and each pause."""

import pytest
from planning.fleets import T0, hours, known, work

from windward.domain.fleet import Fleet, Level, Region
from windward.planning.capacity import Occupancy
from windward.planning.objective import Objective
from windward.planning.problem import Problem
from windward.planning.windows import Candidate

START, HOUR_S = T0.timestamp(), 3600.0
PRICED = {"de": Region("de", "DE", price_per_hour={"gpu": 2.0}), "fr": Region("fr", "FR", price_per_hour={"gpu": 5.0})}
FORECASTS = known(hours([400.0] * 40), hours([200.0] * 40, "FR"))
# A pause must save 10 % of two hours at 200 g, the mean of the cleaner region; an hour of four units in de costs 8.
PAUSE_G = 40.0
FORM = {"regions": ("de", "fr"), "min_saving": 0.1, "demand": {"gpu": 4.0}}


def objective(job, forecasts=FORECASTS, now=T0):
    effective = {name: forecasts[r.zone].series for name, r in PRICED.items() if r.zone in forecasts}
    return Objective(Problem(job, Fleet((job,), PRICED), forecasts, now, Occupancy({}), effective))


def candidate(*spans, grams=100.0, level=None):
    """Segments (region, hours after T0)."""
    return Candidate(tuple((r, START + a * HOUR_S, START + b * HOUR_S) for r, a, b in spans), grams, level)


ONE, LATER, THERE = [("de", 0, 2)], [("de", 3, 5)], [("fr", 0, 2)]
TWO, TWO_LATER = [("de", 0, 1), ("fr", 4, 5)], [("de", 2, 3), ("fr", 4, 5)]
RUNS = {"running_in": "de", "started": True}
WAITS = {"delay_g_per_hour": 7.0}
PAYS = {"grams_per_currency": 3.0}


@pytest.mark.parametrize(
    ("form", "spans", "price_g"),
    [
        ({}, ONE, 0), ({}, LATER, 0), ({}, TWO, PAUSE_G), ({}, [*TWO, ("de", 6, 7)], 2 * PAUSE_G),
        (WAITS, ONE, 14), (WAITS, LATER, 35), (WAITS, TWO, 35 + PAUSE_G), (WAITS | {"at_h": 1.0}, LATER, 28),
        (PAYS, ONE, 3 * 16), (PAYS, THERE, 3 * 40), (PAYS, TWO, 3 * 28 + PAUSE_G), (PAYS | WAITS, ONE, 14 + 3 * 16),
        # what runs is stopped where it does not go on there and then
        (RUNS, ONE, 0), (RUNS, LATER, PAUSE_G), (RUNS, THERE, PAUSE_G),
        (RUNS, TWO, PAUSE_G), (RUNS, TWO_LATER, 2 * PAUSE_G), (RUNS, [("fr", 3, 5)], PAUSE_G),
        (RUNS | {"pending": True}, LATER, 0), (RUNS | {"pending": True}, THERE, 0),
        (RUNS | {"pending": True}, TWO, PAUSE_G),
    ],
)  # fmt: skip
def test_the_price_of_a_candidate(form, spans, price_g):
    costs = objective(work(**FORM | form))
    assert costs.price_g(candidate(*spans)) == pytest.approx(price_g, rel=1e-12)
    assert costs.cost_g(candidate(*spans)) == pytest.approx(100 + price_g, rel=1e-12)


def test_a_level_pays_for_what_it_holds_itself():
    levels = (Level(0.5, 500.0, {"gpu": 1.0}), Level(2.0, 1500.0))
    costs = objective(work(**FORM, levels=levels))
    assert [costs.currency(candidate(("de", 0, 3), level=n)) for n in (None, 0, 1)] == [24.0, 6.0, 24.0]


def test_a_pause_saves_at_least_what_forecasts_are_good_for():
    """A share of three hours at the mean of the cleanest region: 1 % where nobody asks for more."""
    shares = (0.0, 0.01, 0.02)
    prices = [objective(work(**FORM | {"min_saving": s, "hours_h": 3.0})).pause_g() for s in shares]
    assert prices == pytest.approx([6, 6, 12], rel=1e-12)


def test_where_nothing_is_known_an_unbroken_run_costs_no_pause():
    assert objective(work(**FORM), forecasts={}).price_g(candidate(*ONE)) == 0


def test_the_ninth_digit_is_none_between_equals():
    costs = objective(work(**FORM))
    assert costs.cost_g(candidate(*ONE, grams=100.0)) == costs.cost_g(candidate(*ONE, grams=100.0 + 4e-10))
    assert costs.cost_g(candidate(*ONE, grams=100.0)) < costs.cost_g(candidate(*ONE, grams=100.0 + 6e-10))

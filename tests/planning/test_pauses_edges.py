"""Edges of the search with pauses: slots that begin off the hour, what ends a plan, what a start and a wait cost."""

import numpy as np
import pytest
from planning.fleets import HOUR, REGIONS, T0, hours, work

from windward.domain.fleet import Region
from windward.planning import pauses
from windward.planning.capacity import Occupancy
from windward.planning.pauses import grid_step
from windward.planning.windows import site_of

START = T0.timestamp()
HOUR_S, MINUTE_S = 3600.0, 60.0
FLAT = {"de": Region("de", "DE"), "fr": Region("fr", "FR")}
ROUND_S = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400]


@pytest.fixture(autouse=True)
def slots_of_an_hour(monkeypatch):
    monkeypatch.setattr(pauses, "grid_step", lambda span_s: 3600)


def best(job, *shapes, since_s=0.0, until_h=24.0, occupancy=None, regions=FLAT, **more):
    """(segments in hours after 00:00, grams) of a job, a shape of hours for each region; None where it does not fit."""
    zones = zip(regions, shapes, strict=False)
    sites = [site_of(job, regions[name], hours(shape, regions[name].zone)) for name, shape in zones]
    found = pauses.best_pauses(
        sites, job, START + since_s, START + until_h * HOUR_S, occupancy or Occupancy({}), **more
    )
    if found is None:
        return None
    spans = [(name, *(pytest.approx((at - START) / HOUR_S, abs=1e-9) for at in span)) for name, *span in found.segments]
    return spans, pytest.approx(found.grams)


def test_the_grid_has_the_finest_of_round_lengths_that_needs_at_most_720_slots():
    assert [grid_step(720 * step) for step in ROUND_S] == ROUND_S
    assert [grid_step(720 * step + 1) for step in ROUND_S] == [*ROUND_S[1:], 14400]


@pytest.mark.parametrize(
    ("left_h", "since_min", "ends_h"),
    [
        (2, 0, 2), (1.5, 0, 1.5), (2, 20, 2 + 1 / 3), (1.5, 20, 1.5 + 1 / 3), (0.1, 20, 0.1 + 1 / 3),
        (1.75, 50, 2 + 7 / 12),
    ],
)  # fmt: skip
def test_a_start_now_is_now_wherever_in_its_slot_and_the_work_ends_to_the_second(left_h, since_min, ends_h):
    found = best(work(left_h=left_h), [100.0 + 100 * h for h in range(24)], since_s=since_min * MINUTE_S)
    assert found is not None
    ((name, start, end),), grams = found
    assert (name, start, end) == ("de", since_min / 60, ends_h)
    weights = [max(0.0, min(ends_h, h + 1) - max(since_min / 60, h)) for h in range(24)]
    assert grams == sum(w * (100 + 100 * h) for h, w in enumerate(weights))


@pytest.mark.parametrize(
    ("until_h", "known_h", "fits"),
    [
        (2, 24, True), (24, 2, True), (2 - 1e-10, 24, True), (2 - 0.5 / 3600, 24, False), (24, 1, False),
        (1, 24, False), (-1, 24, False),
    ],
)  # fmt: skip
def test_what_does_not_fit_before_the_end_or_into_what_is_known_is_none(until_h, known_h, fits):
    assert (best(work(), [100.0] * known_h, until_h=until_h) is not None) is fits


def test_where_nothing_is_left_to_do_there_is_no_way_to_do_it():
    assert best(work(left_h=0), [100.0] * 24) is None


def test_no_segment_reaches_beyond_the_end_however_clean_it_is_there():
    assert best(work(), [300.0] * 12 + [1.0] * 12, until_h=12) == ([("de", 0, 2)], 600)
    assert best(work(), [300.0] * 4, [300.0] * 10 + [1.0] * 5) == ([("fr", 10, 12)], 2), (
        "known for longer than the other"
    )


def test_what_has_begun_before_now_is_not_known_of_a_series_that_begins_later():
    job = work()
    late = site_of(job, FLAT["de"], hours([100.0] * 24, start=T0 + 3 * HOUR))
    found = pauses.best_pauses([late], job, START, START + 24 * HOUR_S, Occupancy({}))
    assert found.segments == (("de", START + 3 * HOUR_S, START + 5 * HOUR_S),)


@pytest.mark.parametrize("value", [0.0, 300.0])
def test_of_equals_the_one_that_ends_first_without_a_pause(value):
    assert best(work(), [value] * 24, [value] * 24)[0] == [("de", 0, 2)]
    on = work(started=True, running_in="fr")
    assert best(on, [value] * 24, [value] * 24, pause_g=0.001)[0] == [("fr", 0, 2)]


def test_pauses_are_free_unless_they_have_a_price():
    shape = [100.0, 101.0, 100.0, 300.0, 100.0]
    assert best(work(hours_h=3), shape) == ([("de", 0, 1), ("de", 2, 3), ("de", 4, 5)], 300)
    assert best(work(hours_h=3), shape, pause_g=0.45) == ([("de", 0, 1), ("de", 2, 3), ("de", 4, 5)], 300)
    assert best(work(hours_h=3), shape, pause_g=0.55) == ([("de", 0, 3)], 301)


@pytest.mark.parametrize(("worth", "ends_h"), [(39.0, 7), (41.0, 2)])
def test_a_later_end_costs_what_waiting_is_worth(worth, ends_h):
    """The second hour is 200 g cheaper at 06:00, five hours later."""
    shape = [100.0, 300.0, 300.0, 300.0, 300.0, 300.0, 100.0] + [300.0] * 17
    spans, grams = best(work(delay_g_per_hour=worth), shape)
    assert spans[-1][2] == ends_h and grams == (200 if ends_h == 7 else 400)


def test_a_price_on_room_keeps_out_of_dear_hours_and_is_no_emission():
    def costly(at, times):
        return np.where(times[:-1] < START + HOUR_S, 150.0, 0.0)

    shape = [100.0, 200.0, 200.0]
    assert best(work(hours_h=1), shape) == ([("de", 0, 1)], 100)
    assert best(work(hours_h=1), shape, surcharge=costly) == ([("de", 1, 2)], 200)


def test_the_price_of_a_region_is_weighed_by_the_hour_and_is_no_emission():
    regions = {"de": FLAT["de"], "fr": Region("fr", "FR", price_per_hour={"gpu": 5.0})}
    for weight, name, grams in ((19.0, "fr", 400), (21.0, "de", 600)):  # 2 h x 5 of currency against 200 g
        job = work(demand={"gpu": 1.0}, grams_per_currency=weight)
        assert best(job, [300.0] * 24, [200.0] * 24, regions=regions) == ([(name, 0, 2)], grams)


def test_every_start_draws_its_energy_but_going_on_does_not():
    """A kilowatt-hour in the first quarter of an hour."""
    shape = [100.0, 900.0, 900.0, 100.0] + [900.0] * 20
    job = work(start_energy_wh=1000.0)
    assert best(job, shape) == ([("de", 0, 1), ("de", 3, 4)], 400)
    on = work(start_energy_wh=1000.0, started=True, running_in="de")
    assert best(on, shape) == ([("de", 0, 1), ("de", 3, 4)], 300)
    assert best(on, [900.0] * 24, [100.0] * 24) == ([("fr", 0, 2)], 300), "it stops at once, and starts there"
    assert best(on, [900.0] * 24, [100.0] * 24, since_s=20 * MINUTE_S) == ([("fr", 1 / 3, 2 + 1 / 3)], 300)
    assert best(on, [100.0] * 24, since_s=20 * MINUTE_S) == ([("de", 1 / 3, 2 + 1 / 3)], 200)


def test_a_resume_runs_its_overhead_and_a_first_start_has_none():
    shape = [100.0, 900.0, 950.0, 100.0, 100.0] + [900.0] * 20
    assert best(work(overhead=HOUR), shape) == ([("de", 3, 5)], 200)
    assert best(work(overhead=HOUR, started=True), shape) == ([("de", 3, 6)], 1100)
    on = work(hours_h=2, overhead=0.5 * HOUR, started=True, running_in="de")  # which takes a whole slot
    assert best(on, shape) == ([("de", 0, 1), ("de", 3, 5)], 300)


def test_room_that_others_hold_is_passed_over():
    regions = {"de": Region("de", "DE", capacity={"gpu": 1.0})}
    occupancy = Occupancy(regions)
    occupancy.hold("de", START + HOUR_S, START + 2 * HOUR_S, {"gpu": 1.0})
    shape = [100.0] * 3 + [300.0] * 21
    assert best(work(demand={"gpu": 1.0}), shape, regions=regions, occupancy=occupancy) == (
        [("de", 0, 1), ("de", 2, 3)], 200,
    )  # fmt: skip
    assert best(work(), shape, regions=regions, occupancy=occupancy) == ([("de", 0, 2)], 200)


def test_a_coarser_grid_may_be_asked_for():
    """Of slots of two hours: two of them, aligned to even hours."""
    shape = [300.0, 100.0, 100.0, 300.0, 100.0, 150.0] + [300.0] * 18
    assert best(work(), shape) == ([("de", 1, 3)], 200)
    assert best(work(), shape, coarsest=7200) == ([("de", 4, 6)], 250)


def test_the_pue_of_a_region_counts():
    assert best(work(), [300.0] * 24, regions={"de": REGIONS["de"]}) == ([("de", 0, 2)], 750)

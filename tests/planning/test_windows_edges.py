"""Edges of the search for one window: what fits in one way only, what a start draws, who competes for what."""

import numpy as np
import pytest
from planning.fleets import REGIONS, T0, hours, work

from windward.domain.fleet import Region
from windward.planning.capacity import Occupancy
from windward.planning.windows import WindowQuery, best_window, best_windows, site_of

START = T0.timestamp()
HOUR_S = 3600.0
NOBODY = Occupancy({})


def answers(job, at, length_s, earliest, latest, occupancy=NOBODY):
    """Of both searches: alone, and with many at once."""
    alone = best_window(at, job, length_s, earliest, latest, occupancy)
    (among,) = best_windows([WindowQuery(at, job, length_s, earliest, latest)], occupancy)
    assert alone == among
    return alone


@pytest.mark.parametrize(
    ("first_h", "last_h", "start_h"),
    [(3, 3, 3), (3, 2.99, None), (-5, 0, 0), (-5, -1, None), (22, 30, 22), (22.01, 30, None)],
)
def test_a_window_that_fits_in_one_way_is_found(first_h, last_h, start_h):
    """Between its own earliest and latest start, or at an end of what is known: 24 hours of which it takes two."""
    job = work()
    found = answers(
        job, site_of(job, REGIONS["de"], hours([300.0] * 24)), 2 * HOUR_S, START + first_h * HOUR_S,
        START + last_h * HOUR_S,
    )  # fmt: skip
    assert (found and (found.segments[0][1] - START) / HOUR_S) == start_h


def test_a_start_draws_its_energy_over_a_quarter_of_an_hour():
    """Ten minutes of it at 100 g and five at 700, at the PUE of 1.25; running itself is no part of it."""
    job = work(start_energy_wh=1000.0)
    at = site_of(job, REGIONS["de"], hours([100.0, 700.0, 700.0]))
    assert at.start_g(np.array([START + 50 * 60.0]))[0] == pytest.approx(1.25 * (10 * 100 + 5 * 700) / 15)
    assert at.grams(START, START + HOUR_S) == pytest.approx(1.25 * 100)


def test_a_start_away_from_home_draws_the_move_too():
    job = work(start_energy_wh=200.0, move_energy_wh=800.0, regions=("de", "fr"), home="de")
    drawn = [site_of(job, REGIONS[name], hours([300.0] * 9)).start_kwh for name in job.regions]
    assert drawn == pytest.approx([0.2 * 1.25, 1.0 * 1.1])


def test_of_equal_windows_the_earliest_wins():
    job = work()
    at = site_of(job, REGIONS["de"], hours([300.0, 100.0, 100.0, 300.0, 100.0, 100.0, 300.0]))
    found = answers(job, at, 2 * HOUR_S, START, START + 4 * HOUR_S)
    assert found.segments == (("de", START + HOUR_S, START + 3 * HOUR_S),) and found.grams == pytest.approx(250)
    zero = site_of(job, REGIONS["de"], hours([0.0] * 7))
    assert answers(job, zero, 2 * HOUR_S, START, START + 4 * HOUR_S).segments[0][1] == START


def test_waiting_costs_what_it_is_worth_and_is_no_emission():
    """An hour's wait saves 250 g, and is worth 240 or 260 g."""
    for worth, start_h, grams in ((240.0, 1, 125.0), (260.0, 0, 375.0)):
        job = work(hours_h=1, delay_g_per_hour=worth)
        at = site_of(job, REGIONS["de"], hours([300.0, 100.0, 300.0]))
        found = answers(job, at, HOUR_S, START, START + 2 * HOUR_S)
        assert ((found.segments[0][1] - START) / HOUR_S, found.grams) == (start_h, pytest.approx(grams))


def test_among_many_each_competes_for_what_it_holds_and_for_nothing_else():
    """All accelerators are taken until 10:00 and all but one processor until 5:00."""
    region = Region("de", "DE", 1.25, {"gpu": 2.0, "cpu": 4.0})
    occupancy = Occupancy({"de": region})
    occupancy.hold("de", START, START + 10 * HOUR_S, {"gpu": 2.0})
    occupancy.hold("de", START, START + 5 * HOUR_S, {"cpu": 3.0})
    series = hours([300.0 + 10 * h for h in range(24)])  # the sooner the better
    wants = [({}, 0), ({"gpu": 1.0}, 10), ({"cpu": 1.0}, 0), ({"cpu": 1.5}, 5), ({"gpu": 2.0, "cpu": 4.0}, 10)]
    wants += [({"gpu": 3.0}, None), ({"disk": 9.0}, 0)]
    queries = []
    for demand, _ in wants:
        job = work(demand=demand)
        queries.append(WindowQuery(site_of(job, region, series), job, 2 * HOUR_S, START, START + 20 * HOUR_S))
    found = best_windows(queries, occupancy)
    starts = [f and (f.segments[0][1] - START) / HOUR_S for f in found]
    assert starts == [h for _, h in wants]
    alone = [best_window(k.at, k.work, k.length_s, k.earliest, k.latest, occupancy) for k in queries]
    assert [f and f.segments for f in found] == [f and f.segments for f in alone]


def test_a_region_may_be_filled_to_the_last_unit():
    region = Region("de", "DE", 1.25, {"gpu": 2.0})
    occupancy = Occupancy({"de": region})
    occupancy.hold("de", START, START + 5 * HOUR_S, {"gpu": 1.0})
    for units, start_h in ((1.0, 0), (1.5, 5), (2.0, 5)):
        job = work(demand={"gpu": units})
        found = answers(
            job, site_of(job, region, hours([300.0] * 24)), 2 * HOUR_S, START, START + 20 * HOUR_S, occupancy
        )
        assert (found.segments[0][1] - START) / HOUR_S == start_h

"""Measured hours for accounts: whole days, each asked for once, by a thread that nobody waits for."""

import itertools
import random
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from service.fake_provider import HOUR, FakeProvider

from windward.domain.series import Quality
from windward.grid.cache import Grid
from windward.grid.days import AGAIN, AHEAD, MOST_DAYS, MOST_PENDING, Days
from windward.grid.port import Unreachable
from windward.ledger import MemoryLedger

NOW = datetime(2026, 3, 10, 9, 20, tzinfo=UTC)
DAY = timedelta(days=1)


class Counting(FakeProvider):
    """Notes what is asked for; `gate` holds every answer back until it is set."""

    def __init__(self, gate=None, **options):
        super().__init__(**options)
        self.asked, self.gate = [], gate

    def history(self, zone, start, end):
        self.asked.append((zone, start, end))
        if self.gate is not None:
            self.gate.wait(30)
        return super().history(zone, start, end)


def grid(provider, **options):
    return Grid(provider, MemoryLedger(), dice=random.Random(1), **options)


def eventually(ask, patience_s=5.0):
    end = time.monotonic() + patience_s
    while not (found := ask()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def test_forty_jobs_over_two_zones_ask_once_for_each_zone_and_day():
    provider = Counting()
    made = grid(provider, background=False)
    for k in range(40):
        start = NOW - DAY * 3 + k * HOUR
        known = made.measured(("DE", "SE")[k % 2], start, start + 5 * HOUR, NOW)
        assert known.series.covers(start, start + 5 * HOUR) and not known.pending
        assert set(known.series.quality) == {Quality.MEASURED}
    days = [(zone, start + i * DAY) for zone, start, end in provider.asked for i in range(-(-(end - start) // DAY))]
    assert len(days) == len(set(days)) <= 8, "no zone and day twice"


def test_adjoining_days_are_one_request():
    provider = Counting()
    made = grid(provider, background=False)
    made.measured("DE", NOW - 9 * DAY, NOW, NOW)
    assert [(start, end) for _, start, end in provider.asked] == [
        ((NOW - 9 * DAY).replace(hour=0, minute=0), NOW + AHEAD)
    ]


def test_the_one_who_decides_never_waits_and_hears_at_a_later_look():
    gate = threading.Event()
    provider = Counting(gate)
    made = grid(provider)
    began = time.monotonic()
    for _ in range(100):
        known = made.measured("DE", NOW - 5 * HOUR, NOW - HOUR, NOW)
    assert time.monotonic() - began < 1.0 and known.pending and known.series is None
    assert eventually(lambda: provider.asked) and len(provider.asked) == 1
    gate.set()
    assert eventually(lambda: not made.measured("DE", NOW - 5 * HOUR, NOW - HOUR, NOW).pending)
    known = made.measured("DE", NOW - 5 * HOUR, NOW - HOUR, NOW)
    assert known.series.covers(NOW - 5 * HOUR, NOW - HOUR) and known.as_of == NOW and len(provider.asked) == 1


def test_pending_hours_can_be_fetched_where_one_may_wait():
    provider = Counting(threading.Event())
    made = grid(provider)
    made.measured("SE", NOW - 5 * HOUR, NOW - HOUR, NOW)  # its thread hangs
    assert eventually(lambda: provider.asked)
    provider.gate = None
    made.measured("DE", NOW - 5 * HOUR, NOW - HOUR, NOW)
    made.fetch_pending()
    assert not made.measured("DE", NOW - 5 * HOUR, NOW - HOUR, NOW).pending


def test_a_day_is_asked_for_again_until_it_is_revised_no_more():
    provider = Counting()
    made = grid(provider, background=False)
    start, end = NOW - 4 * HOUR, NOW - 2 * HOUR  # revised for three hours
    looks = [NOW + k * timedelta(minutes=20) for k in range(12)]
    for now in looks:
        made.measured("DE", start, end, now)
    asked = [end_asked - AHEAD for _, _, end_asked in provider.asked]
    assert asked[0] == NOW and all(b - a >= timedelta(minutes=20) for a, b in itertools.pairwise(asked))
    assert asked[-1] >= end + provider.revised_for and asked[-1] - AGAIN < end + provider.revised_for
    assert len(asked) <= 3, "and then no more"


def test_a_revised_value_is_the_one_that_counts():
    provider = Counting()
    made = grid(provider, background=False)
    hour = (NOW - 2 * HOUR).replace(minute=0)
    before = made.measured("DE", hour, hour + HOUR, NOW).series.at(hour)
    provider.revision[hour] = before + 50
    assert made.measured("DE", hour, hour + HOUR, NOW + timedelta(minutes=10)).series.at(hour) == before
    later = made.measured("DE", hour, hour + HOUR, NOW + 4 * HOUR)
    assert later.series.at(hour) == before + 50 and later.as_of == NOW + 4 * HOUR


def test_a_provider_that_fails_is_left_alone_for_growing_pauses_and_what_was_known_stays():
    provider = Counting()
    made = grid(provider, background=False)
    start = NOW - 5 * HOUR
    made.measured("DE", start, NOW, NOW)
    provider.out = True
    for k in range(1, 240):
        known = made.measured("DE", start, NOW, NOW + HOUR + k * timedelta(minutes=1))
    assert known.series.covers(start, NOW) and not known.pending
    assert known.as_of == NOW, "as old as it is, so that nothing is settled by it"
    assert 4 < len(provider.asked) < 40


@pytest.mark.parametrize("error", [Unreachable("DE", "down"), KeyError("a bug")])
def test_whatever_a_provider_raises_stays_with_its_zone(error):
    provider = Counting()
    good = provider.history

    def history(zone, start, end):
        if zone == "DE":
            raise error
        return good(zone, start, end)

    provider.history = history
    made = grid(provider, background=False)
    bad = made.measured("DE", NOW - 5 * HOUR, NOW, NOW)
    assert bad.series is None and not bad.pending
    assert made.measured("SE", NOW - 5 * HOUR, NOW, NOW).series.covers(NOW - 5 * HOUR, NOW)


def test_what_the_provider_does_not_hold_comes_from_the_archive_and_says_so():
    provider, archive = FakeProvider(), MemoryLedger()
    archive.archive(provider.issue("DE", NOW - 6 * HOUR))
    provider.out = True
    made = Grid(provider, archive, background=False)
    known = made.measured("DE", NOW - 5 * HOUR, NOW - HOUR, NOW)
    assert known.series.covers(NOW - 5 * HOUR, NOW - HOUR) and set(known.series.quality) == {Quality.FORECAST}


def test_memory_and_queue_are_bounded():
    gate = threading.Event()
    provider = Counting(gate)
    days = Days(provider, lambda _: None, lambda *_: (), lambda *_: DAY, background=True)
    for k in range(4):
        days.read(f"Z{k}", NOW - 2000 * DAY, NOW, NOW)
    assert len(days._pending) + len(days._in_hand) <= MOST_PENDING + 2001
    gate.set()
    assert eventually(lambda: not days._pending and not days._in_hand, 20)
    assert len(days._days) <= MOST_DAYS


def test_an_empty_range_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="empty range"):
        grid(FakeProvider()).measured("DE", NOW, NOW, NOW)

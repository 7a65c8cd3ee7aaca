"""Between two cycles a warped clock leaps where nothing runs; a cycle itself takes no planned time."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from windward.cluster.port import Snapshot
from windward.service.clock import WarpedClock
from windward.service.cycle_timer import CYCLE_S, CycleTimer

T0 = datetime(2026, 3, 2, 6, 20, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class Real:
    """The machine's clock, moved by hand."""

    def __init__(self):
        self.at, self.slept = datetime(2030, 1, 1, tzinfo=UTC), []

    def now(self):
        return self.at

    def sleep(self, seconds):
        self.slept.append(seconds)


class Thinking:
    """A controller whose cycle takes two real seconds, over a cluster without jobs."""

    def __init__(self, real):
        self.real, self.calls = real, []

    def zones(self, regions):
        return ["DE"]

    def cycle(self):
        self.real.at += timedelta(seconds=2)
        return "cycle"

    def snapshot(self):
        return Snapshot()

    def keep(self, snapshot):
        self.calls.append("keep")

    def refresh(self, zones, now):
        self.calls.append((tuple(zones), now))


def timer(speed=1.0, warped=False):
    real = Real()
    clock, world = WarpedClock(real, T0, speed), Thinking(real)
    return CycleTimer(world, world, world, clock, real, warped), clock, real, world


def cycle(due=None, live=False, actions=()):
    snapshot = SimpleNamespace(jobs=[SimpleNamespace(live=live)])
    return SimpleNamespace(snapshot=snapshot, actions={"default/night": list(actions)}, wake_at=due)


@pytest.mark.parametrize(("due", "to"), [(T0 + 10 * MINUTE, T0 + 10 * MINUTE), (T0 + 9 * HOUR, T0 + 40 * MINUTE)])
def test_a_warped_clock_leaps_to_what_is_due_but_not_past_the_hour(due, to):
    waits, clock, real, _ = timer(warped=True)
    waits.wait(cycle(due))
    assert clock.now() == to and real.slept == []


@pytest.mark.parametrize("busy", [{"live": True}, {"actions": ["create"]}])
def test_while_anything_runs_it_does_not_leap(busy):
    waits, clock, real, _ = timer(speed=60.0, warped=True)
    waits.wait(cycle(T0 + 9 * HOUR, **busy))
    assert clock.now() == T0 and real.slept == [CYCLE_S / 2]


@pytest.mark.parametrize(("due", "slept_s"), [(None, CYCLE_S), (T0 + timedelta(seconds=0.1), 0.1), (T0 - HOUR, 0.02)])
def test_in_real_time_it_waits_until_something_is_due(due, slept_s):
    waits, _, real, _ = timer()
    waits.wait(cycle(due))
    assert real.slept == [pytest.approx(slept_s)]


@pytest.mark.parametrize(("speed", "takes"), [(3600.0, timedelta(0)), (1.0, timedelta(seconds=2))])
def test_a_cycle_takes_no_planned_time_under_a_fast_clock(speed, takes):
    waits, clock, _, world = timer(speed)
    assert waits.run() == "cycle" and clock.now() == T0 + takes
    assert world.calls == [(("DE",), T0), "keep"], "forecasts and cycle are of the same snapshot"

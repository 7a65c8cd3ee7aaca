"""What makes the controller prompt, and what finds out when it no longer is: handlers, watch monitor, loop."""

import asyncio
import threading
import time
from datetime import timedelta

import kopf
import pytest
from service.world import T0, World, job_body

from windward.cluster.port import Unavailable
from windward.service.handlers import register
from windward.service.loop import Loop
from windward.service.metrics import Metrics
from windward.service.watch_monitor import PATIENCE, WatchMonitor

SECOND = timedelta(seconds=1)


def test_a_watch_is_stale_once_a_listed_change_was_not_delivered_for_a_minute():
    monitor = WatchMonitor()
    monitor.delivered("a", "7")
    monitor.listed({"a": "7"}, T0)
    assert not monitor.stale(T0 + 10 * PATIENCE)
    monitor.listed({"a": "8"}, T0)
    assert not monitor.stale(T0 + PATIENCE) and monitor.stale(T0 + PATIENCE + SECOND)
    monitor.listed({"a": "9"}, T0 + 30 * SECOND)
    assert monitor.stale(T0 + PATIENCE + SECOND), "a newer change does not make the older one younger"
    monitor.delivered("a", "9")
    assert not monitor.stale(T0 + 10 * PATIENCE)


def test_what_was_deleted_or_has_no_number_for_a_version_is_not_waited_for():
    monitor = WatchMonitor()
    monitor.listed({"a": "8", "b": "x"}, T0)
    monitor.delivered("b", "x")
    monitor.listed({}, T0 + SECOND)
    assert not monitor.stale(T0 + 10 * PATIENCE)
    monitor.delivered("a", "8")
    monitor.delivered("a", "7")  # late
    monitor.listed({"a": "8"}, T0)
    assert not monitor.stale(T0 + 10 * PATIENCE)


def test_each_kind_has_a_handler_that_notes_the_version_and_wakes_the_controller():
    registry, monitor, woken = kopf.OperatorRegistry(), WatchMonitor(), []

    class Woken:
        def wake(self):
            woken.append(True)

    register(registry, Woken(), monitor)
    handlers = list(registry._watching._handlers)
    assert {h.selector.any_name or h.selector.plural for h in handlers} == {
        "greenjobs", "greencronjobs", "greenregions"
    }  # fmt: skip
    monitor.listed({"u": "5"}, T0)
    asyncio.run(handlers[0].fn(meta={"uid": "u", "resourceVersion": "5"}))
    assert woken == [True] and not monitor.stale(T0 + 10 * PATIENCE)


@pytest.fixture
def loop():
    world = World()
    yield Loop(world.controller, world.clock, 30, WatchMonitor(), Metrics())
    world.close()


def test_the_operator_is_ready_after_a_good_cycle_and_dead_when_none_comes(loop):
    assert loop.unready() == "no cycle yet" and loop.dead() is None
    loop._cycle()
    assert loop.unready() is None and loop.good() == "good cycle 0 s ago"
    loop.controller.cluster.down = True
    for _ in range(6):
        loop.clock.advance(timedelta(seconds=30))
        loop._cycle()
    assert "no good cycle for 150 s: the API server does not answer" in loop.dead()
    loop.controller.cluster.down = False
    loop._cycle()
    assert loop.dead() is None


def test_a_bug_in_one_cycle_ends_no_loop(loop, monkeypatch):
    monkeypatch.setattr(loop.controller, "cycle", lambda: 1 / 0)
    assert loop._cycle() is None and "see the log" in loop.unready()
    assert loop.metrics.errors.labels("ZeroDivisionError")._value.get() == 0
    assert loop.metrics.errors.labels("Bug")._value.get() == 1


def test_what_happens_during_a_cycle_leads_to_one_more(loop, monkeypatch):
    cycles, began = [], threading.Event()
    real = loop.controller.cycle

    def cycle():
        cycles.append(time.monotonic())
        if len(cycles) == 1:
            loop.wake()
            loop.wake()
        if len(cycles) == 2:
            began.set()
        return real()

    monkeypatch.setattr(loop.controller, "cycle", cycle)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    assert began.wait(20)
    loop.stop.set()
    loop.wake()
    thread.join(20)
    assert not thread.is_alive() and len(cycles) == 2


def test_a_stale_watch_has_the_process_restarted(loop):
    loop.controller.cluster.apply(job_body())
    loop._cycle()
    loop.clock.advance(PATIENCE + SECOND)
    assert "no longer delivers" in loop.dead()


def test_a_cluster_that_does_not_answer_is_counted_by_its_kind(loop, monkeypatch):
    def cycle():
        raise Unavailable("no route")

    monkeypatch.setattr(loop.controller, "cycle", cycle)
    loop._cycle()
    assert loop.metrics.errors.labels("Unavailable")._value.get() == 1 and loop.last_error == "no route"

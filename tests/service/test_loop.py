"""The operator's loop: a provider that never answers delays no cycle, but the first by a few seconds."""

import threading
import time

import pytest
from service.fake_provider import FakeProvider
from service.world import World, job_body, region_body

from windward.service import loop as loop_module
from windward.service.loop import Loop
from windward.service.metrics import Metrics
from windward.service.watch_monitor import WatchMonitor


class Hanging(FakeProvider):
    """Answers for no zone of those that hang, until it is let go."""

    def __init__(self):
        super().__init__()
        self.go, self.hangs = threading.Event(), {"DE", "SE"}

    def issue(self, zone, now):
        if zone in self.hangs:
            self.go.wait(30)
        return super().issue(zone, now)


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(loop_module, "FIRST_S", 0.2)
    provider = Hanging()
    made = World(provider)
    yield made
    provider.go.set()
    time.sleep(0.2)
    made.close()


def turn_s(loop):
    began = time.monotonic()
    loop._cycle()
    return time.monotonic() - began


def test_a_provider_that_never_answers_delays_no_decision(world):
    loop = Loop(world.controller, world.clock, 30, WatchMonitor(), Metrics())
    uid = world.cluster.apply(job_body(completeWithin="2h6m"))
    assert turn_s(loop) < 3 and loop.last_good is not None
    assert world.cluster.told[uid].created, "it was due, and no forecast was to be had"
    world.provider.hangs = {"XX"}
    world.cluster.apply(region_body("new", "XX"))
    assert turn_s(loop) < 3
    assert turn_s(loop) < 3 and set(loop.zones) == {"DE", "SE", "XX"}

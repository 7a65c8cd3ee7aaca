"""A crowd of jobs that may pause, on few slots, while no hour is better than another: nothing is gained by a pause.

`WINDWARD_LONG=1` has 3,000 jobs on 200 slots.
"""

import logging
import os
import random
from datetime import timedelta

from service.fake_provider import FakeProvider
from service.world import T0, job_body, region_body

from windward.domain.clock import FixedClock
from windward.grid.cache import Grid
from windward.ledger import open_ledger
from windward.service.controller import Controller
from windward.simulation.cluster import SimulatedCluster
from windward.simulation.faults import Faults
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.scalars import format_time

JOBS, SLOTS = (3000, 200) if os.environ.get("WINDWARD_LONG") else (300, 20)
MINUTE = timedelta(minutes=1)


class Constant(FakeProvider):
    """The same intensity everywhere and always."""

    def truth(self, zone, hour):
        return 300.0


class Counting(SimulatedCluster):
    """Notes when a run is told to stop."""

    def stop_run(self, job, name):
        self.stops.append((self.clock.now(), name))
        super().stop_run(job, name)


def crowd(n, seed=7):
    dice = random.Random(seed)
    for i in range(n):
        body = job_body(
            f"job-{i:04}",
            duration=f"{dice.randint(5, 40)}m",
            completeWithin=f"{dice.randint(26, 70)}h",
            interruption={"policy": "Checkpoint", "overhead": "1m"},
        )
        body["metadata"] |= {"uid": f"{i:08x}-0000-4000-8000-000000000000", "creationTimestamp": format_time(T0)}
        yield GreenJob.model_validate(body)


class Operator:
    """The controller over a world that outlives it."""

    def __init__(self):
        slots = {"capacity": [{"resource": "pods", "count": SLOTS // 2}]}
        regions = [region_body("north", "SE", **slots), region_body("south", "DE", **slots)]
        self.clock = FixedClock(T0)
        objects = [GreenRegion.model_validate(r) for r in regions]
        self.cluster = Counting(self.clock, objects, Faults(seed=3, wrong_durations=0.3, late_jobs=0.2))
        self.cluster.stops = []
        self.ledger = open_ledger("sqlite://")
        self.restart()

    def restart(self):
        self.controller = Controller(self.cluster, Grid(Constant(error=0.0), self.ledger), self.ledger, self.clock)

    def go_on(self, span):
        end = self.clock.now() + span
        while self.clock.now() < end:
            self.controller.grid.refresh(["SE", "DE"], self.clock.now())
            cycle = self.controller.cycle()
            assert not cycle.errors
            due = cycle.wake_at or end
            wait = min(due, end, self.clock.now() + MINUTE) - self.clock.now()
            self.cluster.pass_time(max(timedelta(seconds=5), wait))


def test_where_no_hour_is_better_nothing_is_paused_not_even_after_a_restart():
    logging.disable(logging.WARNING)
    world = Operator()
    for job in crowd(JOBS):
        world.cluster.submit(job)
    for minutes in (8, 30, 60):
        world.go_on(minutes * MINUTE)
        running = sum(j.live is not None for j in world.cluster.jobs.values())
        assert running > 0, "work goes on"
        world.restart()
        at = world.clock.now()
        world.go_on(MINUTE)
        assert not [s for s in world.cluster.stops if s[0] >= at], "paused in the first minute after a restart"
    logging.disable(logging.NOTSET)
    world.ledger.close()
    per_job = {}
    for _, name in world.cluster.stops:
        job = name.rsplit("-", 1)[0]
        per_job[job] = per_job.get(job, 0) + 1
    assert max(per_job.values(), default=0) <= 1 and len(per_job) <= JOBS // 100, per_job

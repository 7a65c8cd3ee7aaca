"""What Prometheus is told of a cycle: jobs by state, forecasts by zone, totals of ended jobs."""

from datetime import timedelta

import pytest
from prometheus_client import generate_latest
from service.world import job_body

from windward.service.metrics import Metrics

HOUR = timedelta(hours=1)
AT_ONCE = {"policy": {"minSavingPercent": 99}}


def counted(world, metrics):
    cycle = world.tick()
    metrics.cycled(cycle, world.grid, 0.1, world.clock.now())
    lines = generate_latest(metrics.registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_jobs_are_counted_by_state_and_forecasts_by_zone(world):
    metrics = Metrics()
    world.cluster.apply(job_body("one", **AT_ONCE))
    world.cluster.apply(job_body("held", suspend=True))
    for _ in range(3):
        world.tick()
        world.cluster.pass_time(timedelta(minutes=1))
    values = counted(world, metrics)
    assert values['windward_jobs{namespace="default",state="Running"}'] == 1
    assert values['windward_jobs{namespace="default",state="Held"}'] == 1
    zones = [k for k in values if k.startswith("windward_grid_carbon_intensity_grams_per_kwh")]
    assert len(zones) == 2 and all(values[k] >= 0 for k in zones)


def test_an_ended_job_is_counted_once_with_its_energy(world):
    metrics = Metrics()
    world.cluster.apply(job_body("one", **AT_ONCE))
    for _ in range(16):
        world.cluster.pass_time(timedelta(minutes=15))
        values = counted(world, metrics)
    energy = {k: v for k, v in values.items() if k.startswith("windward_job_energy_joules_total")}
    assert list(energy.values()) == [pytest.approx(200 * 7200)]
    assert values["windward_deadline_misses_total"] == 0


def test_what_ended_late_is_counted(world):
    metrics = Metrics()
    world.cluster.apply(job_body("late", duration="2h", completeWithin="2h"))
    for _ in range(16):
        world.cluster.pass_time(timedelta(minutes=15))
        values = counted(world, metrics)
    assert values["windward_deadline_misses_total"] == 1

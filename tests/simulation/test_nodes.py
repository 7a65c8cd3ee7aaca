"""Runs in simulated regions: they wait for room, work, end, pause and are lost; nothing of a region's room leaks."""

from datetime import UTC, datetime, timedelta

import pytest
from service.world import job_body, region_body

from windward.domain.clock import FixedClock
from windward.domain.run import Phase
from windward.simulation import Faults
from windward.simulation.job import SimulatedJob
from windward.simulation.nodes import RegionCapacity, SimulatedNodes
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion
from windward_api.scalars import format_time

T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)
ONE_POD = [GreenRegion.model_validate(region_body("north", "SE", capacity=[{"resource": "pods", "count": 1}]))]
POD = {"pods": 1.0}


def job(name="night", policy="Checkpoint", overhead="10m"):
    body = job_body(name, interruption={"policy": policy, "overhead": overhead} if policy == "Checkpoint" else None)
    body["metadata"] |= {"namespace": "default", "uid": f"uid-{name}", "creationTimestamp": format_time(T0)}
    return SimulatedJob(GreenJob.model_validate(body), 7200.0, POD)


class Site:
    """One region with room for one pod, and its jobs."""

    def __init__(self, *jobs, faults=None):
        self.clock, self.jobs = FixedClock(T0), {j.job.metadata.name: j for j in jobs}
        self.nodes = SimulatedNodes(self.clock, ONE_POD, faults or Faults(), self.jobs)

    def start(self, name="night", attempt=1):
        self.jobs[name].add_run(f"{name}-{attempt}", attempt, "north", "")
        self.nodes.start(self.jobs[name])
        return self.jobs[name]


def test_units_are_acquired_all_or_none_and_released():
    capacity = RegionCapacity(ONE_POD)
    assert capacity.acquire("north", {"pods": 0.5, "licences": 99.0}), "what a region does not count is never short"
    assert not capacity.acquire("north", POD) and capacity.acquire("north", {"pods": 0.5})
    capacity.release("north", {"pods": 1.0})
    assert capacity.acquire("north", POD)


def test_a_run_works_until_it_is_done_and_reports_what_it_drew():
    site = Site(job())
    night = site.start()
    assert not site.nodes.pass_time(HOUR) and night.done_s == 3600.0 and night.live_run.started_at == T0
    assert site.nodes.pass_time(2 * HOUR) and night.live is None
    (run,) = night.runs
    assert (run.phase, run.exit_code, run.finished_at, run.progress) == (Phase.SUCCEEDED, 0, T0 + 2 * HOUR, 1.0)
    assert night.finished_at == T0 + 2 * HOUR
    assert sum(run.report.energy.components[0].joules) == pytest.approx(200 * 7200)


def test_a_resumed_run_first_spends_its_overhead():
    site = Site(job())
    night = site.start()
    site.nodes.pass_time(HOUR)
    site.nodes.pause(night)
    assert (night.runs[0].phase, night.runs[0].exit_code, night.runs[0].pause_requested) == (Phase.PAUSED, 75, True)
    site.start(attempt=2)
    site.nodes.pass_time(10 * HOUR)
    assert night.finished_at == T0 + 2 * HOUR + timedelta(minutes=10)


def test_who_finds_no_room_waits_for_it():
    site = Site(job(), job("other"))
    night, other = site.start(), site.start("other")
    site.nodes.pass_time(HOUR)
    assert other.live_run.phase is Phase.STARTING and other.worked_s == 0.0
    site.nodes.pause(night)
    assert other.live_run.phase is Phase.RUNNING and other.live_run.started_at == T0 + HOUR


def test_a_run_that_waits_leaves_the_queue_without_having_drawn_anything():
    site = Site(job(), job("other"))
    site.start()
    other = site.start("other")
    site.nodes.pause(other)
    assert other.runs[0].phase is Phase.PAUSED and other.runs[0].report is None and other.runs[0].started_at is None


def test_a_deleted_job_leaves_its_room_to_others():
    site = Site(job(), job("other"))
    night, other = site.start(), site.start("other")
    del site.jobs["night"]
    site.nodes.remove(night)
    assert other.live_run.phase is Phase.RUNNING


@pytest.mark.parametrize(("policy", "phase", "done_s"), [("Checkpoint", Phase.PAUSED, 3600.0), ("", Phase.LOST, 0.0)])
def test_a_reclaimed_run_pauses_where_it_may_and_else_loses_its_work(policy, phase, done_s):
    site = Site(job(policy=policy))
    night = site.start()
    site.nodes.pass_time(HOUR)
    site.nodes._faults = Faults(reclaims_per_run_day=1e6)
    assert site.nodes.pass_time(HOUR)
    assert night.runs[0].phase is phase and night.done_s == done_s and night.runs[0].finished_at == T0 + HOUR


def test_a_lost_node_takes_the_newest_run_and_its_unsaved_work():
    site = Site(job(), job("other"))
    night, other = site.start(), site.start("other")
    site.nodes.pass_time(HOUR)
    site.nodes._faults = Faults(lost_nodes_per_day=1e6)
    site.nodes.pass_time(timedelta(minutes=1))
    assert night.runs[0].phase is Phase.LOST and night.runs[0].report is None and night.done_s == 0.0
    assert other.live_run.phase is Phase.RUNNING, "its room is free for the next"


def test_two_runs_of_one_job_are_never_live():
    night = job()
    night.add_run("a", 1, "north", "")
    with pytest.raises(AssertionError, match="S1"):
        night.add_run("b", 2, "north", "")


def test_it_is_observed_as_one_object_until_something_changes():
    night = job()
    seen = night.observed()
    assert night.observed() is seen and night.is_unchanged_since(seen)
    night.write_status(night.job.status)
    assert not night.is_unchanged_since(seen) and night.observed() is not seen

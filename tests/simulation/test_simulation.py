"""The simulated world: nothing is lost, nothing is invented, nothing is known before its time."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.domain.clock import FixedClock
from windward.domain.series import Quality, Series
from windward.grid.ahead import Ahead
from windward.grid.port import ForecastInvalid, NoForecast, Unreachable
from windward.grid.trace import TraceProvider
from windward.service.controller import Controller
from windward.simulation import POLICIES, Faults, Foresight, repeated, simulate
from windward.simulation import run as run_module
from windward.simulation.arrivals import Arrival, drawn, from_trace, read_trace, regions_for
from windward.simulation.cluster import SimulatedCluster
from windward.simulation.foresight import Hindcast, Publication
from windward_api.greenjob import GreenJob

START = datetime(2022, 3, 1, tzinfo=UTC)
ZONES = ["DE", "FR"]
STORM = Faults(
    seed=3, wrong_durations=0.3, late_jobs=0.2, lost_nodes_per_day=2.0, reclaims_per_run_day=2.0, outage_share=0.4
)


def fleet(n=30, days=2, seed=1, pausable=0.5):
    return drawn(regions_for(ZONES), START, timedelta(days=days), n, random.Random(seed), pausable=pausable)


def study(policy="windward", arrivals=None, faults=None, foresight=Foresight.YESTERDAY, util=0.7, **more):
    arrivals = arrivals or fleet()
    regions = regions_for(ZONES, arrivals, util)
    chosen = [POLICIES[p] for p in policy.split(",")]
    return simulate("t", arrivals, regions, TraceProvider.bundled(), chosen, foresight=foresight, faults=faults, **more)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_job_that_arrived_is_somewhere_whatever_goes_wrong(policy):
    (o,) = study(policy, faults=STORM).outcomes
    assert o.conserved and o.arrived == 30
    assert o.finished > 20, "a storm delays and fails some jobs, not most"


@pytest.mark.parametrize("faults", [None, STORM], ids=["calm", "storm"])
def test_no_outcome_beats_the_bound(faults):
    result = study("run-now,window,clairvoyant", faults=faults)
    for o in result.outcomes:
        assert o.emissions_g >= result.bound_g * (1 - 1e-9), o.policy
    assert result.bound_g > 0


def test_the_same_seed_gives_the_same_figures_and_another_seed_others():
    few = fleet(8, 1)
    once = study(arrivals=few, faults=STORM).document(jobs=True)
    assert study(arrivals=few, faults=STORM).document(jobs=True) == once
    assert study(arrivals=few, faults=replace(STORM, seed=4)).document(jobs=True) != once


def test_statuses_that_nobody_reads_change_nothing_that_happens(monkeypatch):
    """In a simulation they are written when a job ends alone: what is decided must not rest on them."""
    few = fleet(12, 1)
    quiet = study(arrivals=few, faults=STORM).document(jobs=True)
    monkeypatch.setattr(run_module, "Controller", lambda *a, **k: Controller(*a, **{**k, "reporter": None}))
    assert study(arrivals=few, faults=STORM).document(jobs=True) == quiet


def test_energy_in_the_receipts_is_what_the_fleet_really_drew():
    arrivals = fleet(pausable=0.0)
    (o,) = study("run-now", arrivals).outcomes
    drew_kwh = sum(a.job.spec.power.watts * a.job.spec.duration.total_seconds() for a in arrivals) / 3.6e6
    assert o.finished == len(arrivals) and o.unweighed == 0
    assert o.energy_kwh == pytest.approx(drew_kwh, rel=1e-9)


@pytest.mark.parametrize("pausable", [False, True])
def test_levels_are_chosen_and_drawn_and_beat_no_bound(pausable):
    """Two thirds of the speed for two fifths of the draw: chosen where there is time, and less is emitted by it."""
    body = {
        "apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": {"name": "mine", "namespace": "default"},
        "spec": {
            "completeWithin": "10h", "duration": "2h", "placement": {"regions": ["de"], "home": "de"},
            "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}},
            "interruption": {"policy": "Checkpoint", "overhead": "3m"} if pausable else {},
            "power": {"watts": 500, "levels": [{"name": "slow", "watts": 200, "duration": "3h"}]},
        },
    }  # fmt: skip
    plain = {**body, "spec": {**body["spec"], "power": {"watts": 500}}}
    told = {}
    for name, one in (("levels", body), ("plain", plain)):
        arrivals = list(repeated([GreenJob.model_validate(one)], START, START + timedelta(days=3), timedelta(hours=5)))
        result = study("windward", arrivals)
        (told[name],) = result.outcomes
        assert told[name].conserved and told[name].finished == len(arrivals) and told[name].missed == 0
        assert result.bound_g <= told[name].emissions_g * (1 + 1e-9)
    assert told["levels"].energy_kwh == pytest.approx(0.6 * told["plain"].energy_kwh, rel=0.05)
    assert told["levels"].run_now_g == pytest.approx(told["plain"].run_now_g, rel=1e-3), "the same baseline"


def test_run_now_without_capacity_saves_nothing_and_waits_for_nobody():
    result = study("run-now", fleet(pausable=0.0), util=0.02, step=timedelta(minutes=15))
    (o,) = result.outcomes
    assert o.missed == 0 and o.wait_mean_h < 0.26, "looked at once in a quarter of an hour"
    assert abs(o.saved_share) < 0.01


def test_a_region_is_never_fuller_than_it_is(monkeypatch):
    seen = []
    pass_time = SimulatedCluster.pass_time

    def watched(self, span):
        changed = pass_time(self, span)
        for region in self.regions:
            for c in region.spec.capacity:
                held = [
                    j
                    for j in self.jobs.values()
                    if j.live and j.live.started_at and j.live.region == region.metadata.name
                ]
                seen.append((sum(j.demand[c.resource] for j in held), c.count))
        return changed

    monkeypatch.setattr(SimulatedCluster, "pass_time", watched)
    study("window", fleet(60, 2), util=0.9)
    assert all(used <= count for used, count in seen)
    assert any(used == count for used, count in seen), "the fleet must have been tight for this to say anything"


def due_at_once(number, units, hours_h, at_h):
    """A job without any slack, that may run in DE alone."""
    template = fleet(1)[0].job.model_dump(mode="json", by_alias=True, exclude_none=True)
    resources = {"requests": {"nvidia.com/gpu": str(units)}}
    at = START + timedelta(hours=at_h)
    template["metadata"] |= {"name": f"job-{number:06d}", "uid": f"{number:08x}-0000-4000-8000-000000000000"}
    template["metadata"]["creationTimestamp"] = at.isoformat()
    template["spec"] = {
        "duration": f"{hours_h}h", "completeWithin": f"{hours_h}h", "ttlSecondsAfterFinished": 7200,
        "placement": {"regions": ["de"], "home": "de"}, "power": {"watts": 300},
        "template": {"spec": {"containers": [{"name": "main", "image": "x", "resources": resources}]}},
    }  # fmt: skip
    return Arrival(at, GreenJob.model_validate(template))


def test_who_needs_the_whole_region_is_not_passed_by_small_ones_for_ever():
    """Two days of small jobs, due as they come, fill the region; one as large as it has its turn all the same."""
    small = [due_at_once(i, 1, 2, i / 3) for i in range(144)]
    large = due_at_once(500, 6, 2, 5.2)
    regions = [r for r in regions_for(ZONES, [*small, large], 1.1) if r.metadata.name == "de"]
    assert regions[0].spec.capacity[0].count == 6
    result = simulate("t", [*small, large], regions, TraceProvider.bundled(), [POLICIES["windward"]])
    (o,) = result.outcomes
    assert o.conserved and o.finished == 145
    (it,) = (j for j in o.jobs if j.name == "job-000500")
    assert 0 < it.late_s <= 2.5 * 3600, "the small ones that ran when it came end within two hours"


def test_knowing_the_coming_hours_is_worth_something_here():
    result = study("windward,clairvoyant", fleet(20, 10, pausable=0.0), util=0.05)
    mine, knowing = result.outcomes
    assert knowing.emissions_g < mine.emissions_g
    assert mine.missed == knowing.missed == 0


def provider(foresight, now, faults=None, change_after=None):
    actuals = TraceProvider.bundled()
    if change_after is not None:
        history = actuals.history

        def changed(zone, a, b):
            s = history(zone, a, b)
            later = s.edges[:-1] >= change_after.timestamp()
            return replace(s, intensity_g_per_kwh=np.where(later, 7.0, s.intensity_g_per_kwh))

        actuals.history = changed
    return Hindcast(actuals, foresight, FixedClock(now), faults)


def foreseen(foresight, now, **more):
    """What a simulated operator would plan with."""
    source = provider(foresight, now, **more)
    return Ahead(source).own("DE", now).series if foresight is Foresight.OWN else source.issue("DE", now)


@pytest.mark.parametrize("foresight", [Foresight.YESTERDAY, Foresight.OWN])
def test_what_comes_after_now_changes_nothing_that_is_foreseen(foresight):
    now = START + timedelta(hours=9, minutes=30)
    plain = foreseen(foresight, now)
    blind = foreseen(foresight, now, change_after=now.replace(minute=0))
    assert np.array_equal(plain.intensity_g_per_kwh, blind.intensity_g_per_kwh)
    assert plain.covers(now, now + timedelta(hours=72))
    assert set(plain.quality) == {Quality.ESTIMATED}


def test_perfect_foresight_is_what_then_happens():
    now = START
    issue = provider(Foresight.PERFECT, now).issue("DE", now)
    truth: Series = TraceProvider.bundled().history("DE", issue.start, issue.end)
    assert np.array_equal(issue.intensity_g_per_kwh, truth.intensity_g_per_kwh)


def test_history_ends_with_the_last_hour_that_is_over():
    now = START + timedelta(hours=5, minutes=59)
    known = provider(Foresight.YESTERDAY, now).history("DE", START, START + timedelta(days=1))
    assert known.end == START + timedelta(hours=5)
    with pytest.raises(ForecastInvalid):
        provider(Foresight.YESTERDAY, now).history("DE", now, now + timedelta(hours=1))


def test_actuals_are_known_as_late_as_they_are_published_and_issues_as_they_were():
    """What a bench replays is what an operator of then could have fetched."""
    now, truth = START + timedelta(hours=30), TraceProvider.bundled()

    def out_then(zone, moment):
        return replace(truth.history(zone, moment, moment + timedelta(hours=5)), source="published")

    told = Publication(out_then, {"DE": timedelta(hours=24)})
    own = Hindcast(truth, Foresight.OWN, FixedClock(now), publication=told)
    assert own.history("DE", START, START + timedelta(days=3)).end == now - timedelta(hours=24)
    assert own.history("FR", START, START + timedelta(days=3)).end == now, "a zone without a lag"
    issue = own.issue("DE", now)
    assert issue.end == now + timedelta(hours=5) and issue.issued_at == now
    knowing = Hindcast(truth, Foresight.PERFECT, FixedClock(now), publication=told).issue("DE", now)
    assert knowing.end > now + timedelta(days=3), "who knows everything is told no issue"
    with pytest.raises(NoForecast):
        Hindcast(truth, Foresight.OWN, FixedClock(now)).issue("DE", now)


def test_an_outage_is_an_outage_for_every_zone_and_hour_of_its_day():
    down = provider(Foresight.YESTERDAY, START, Faults(outage_share=1.0))
    for zone in ZONES:
        with pytest.raises(Unreachable):
            down.issue(zone, START)


def test_faults_do_not_depend_on_who_asks_first():
    a, b = fleet(5)[:2]
    once = [STORM.duration(a.job), STORM.duration(b.job)]
    assert [STORM.duration(b.job), STORM.duration(a.job)] == once[::-1]
    assert STORM.duration(a.job) != replace(STORM, seed=9).duration(a.job)


def test_a_trace_is_read_with_its_units_and_refused_with_a_reason(tmp_path):
    good = tmp_path / "jobs.csv"
    good.write_text("submit_s,duration_s,gpus\n0,3600,2\n100,30,1\n200,999999,1\n400,7200,0\n")
    assert [(j.submit_s, j.duration_s, j.units) for j in read_trace(good)] == [(0, 3600, 2), (400, 7200, 1)]
    bad = tmp_path / "bad.csv"
    bad.write_text("start,length\n0,3600\n")
    with pytest.raises(ValueError, match="no column duration_s, submit_s"):
        read_trace(bad)
    drawn_jobs = from_trace(good, regions_for(ZONES), START, timedelta(days=1), 10, random.Random(0))
    assert len(drawn_jobs) == 10 and all(START <= a.at < START + timedelta(days=1) for a in drawn_jobs)


def test_a_users_job_is_submitted_again_and_again_but_not_with_a_fixed_deadline():
    body = {
        "apiVersion": "windward.dev/v1alpha1",
        "kind": "GreenJob",
        "metadata": {"name": "mine", "namespace": "default"},
        "spec": {"completeWithin": "8h", "duration": "2h", "placement": {"regions": ["de"]}, "train": TRAIN},
    }
    job = GreenJob.model_validate(body)
    made = list(repeated([job], START, START + timedelta(days=2), timedelta(hours=25)))
    assert [a.at - START for a in made] == [timedelta(0), timedelta(hours=25)]
    assert len({a.job.metadata.uid for a in made}) == 2
    body["spec"] |= {"deadline": "2022-06-01T00:00:00Z"}
    del body["spec"]["completeWithin"]
    with pytest.raises(ValueError, match=r"state spec\.completeWithin instead"):
        list(repeated([GreenJob.model_validate(body)], START, START + timedelta(days=1), timedelta(hours=25)))


TRAIN = {"model": {"layers": 2, "width": 64}, "data": {"corpus": "python-stdlib"}, "steps": 10}

"""All policies are measured by the same baseline and the same bound: recomputed here by hand, from the runs alone."""

from __future__ import annotations

import math
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from windward.grid.trace import TraceProvider
from windward.simulation import POLICIES, Faults, Foresight, simulate
from windward.simulation import run as run_module
from windward.simulation.arrivals import Arrival
from windward.simulation.cluster import SimulatedCluster
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion

START = datetime(2022, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SEEDS = range(20 if os.environ.get("WINDWARD_LONG") else 5)
CHOSEN = ("run-now", "greenest-now", "window", "windward", "clairvoyant")
TRACE = TraceProvider.bundled()


def regions_of(dice):
    """Three sites: one with own generation and a bad PUE, one that is always short of room, one that is plain."""
    hours = [{"fromHour": 8, "toHour": dice.choice([15, 18]), "sharePercent": dice.choice([40, 100])}]
    specs = {
        "sunny": {"gridZone": "DE", "pue": "1.50", "onSite": {"intensityGramsPerKwh": 20, "hours": hours}},
        "tight": {"gridZone": "FR", "pue": "1.20", "capacity": [{"resource": "cpu", "count": 2}]},
        "plain": {"gridZone": "GB", "pue": "1.05"},
    }
    return [
        GreenRegion.model_validate(
            {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenRegion", "spec": spec,
             "metadata": {"name": name, "uid": f"region-{name}"}}
        ) for name, spec in specs.items()
    ]  # fmt: skip


def arrivals_of(dice, count=10):
    """Jobs with and without levels, pauses, slack and other regions than home."""
    out = []
    for i in range(count):
        hours = dice.choice([1, 2, 5])
        slack = dice.choice([0, 1, 8])
        home = dice.choice(["sunny", "tight", "plain"])
        others = [r for r in ("sunny", "tight", "plain") if r != home and dice.random() < 0.5]
        levels = [{"name": "slow", "watts": 120, "duration": f"{90 * hours}m"},
                  {"name": "fast", "watts": 330, "duration": f"{50 * hours}m"}]  # fmt: skip
        at = START + timedelta(seconds=dice.randrange(86_400))
        spec = {
            "duration": f"{hours}h", "completeWithin": f"{60 * (hours + slack) + 15}m",
            "placement": {"regions": [home, *others], "home": home}, "ttlSecondsAfterFinished": 7200,
            "power": {"watts": 300, **({"levels": levels} if dice.random() < 0.5 else {})},
            "interruption": {"policy": "Checkpoint", "overhead": "3m"} if dice.random() < 0.5 else {},
            "template": {"spec": {"containers": [
                {"name": "main", "image": "x", "resources": {"requests": {"cpu": "1"}}}
            ]}},
        }  # fmt: skip
        meta = {"name": f"job-{i:03d}", "namespace": "simulated", "uid": f"{i:08x}-0000-4000-8000-000000000000",
                "generation": 1, "creationTimestamp": at.isoformat()}  # fmt: skip
        body = {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": meta, "spec": spec}
        out.append(Arrival(at, GreenJob.model_validate(body)))
    return out


def faults_of(seed):
    return Faults(
        seed=seed, wrong_durations=0.3, late_jobs=0.3, late_factor=2.0, lost_nodes_per_day=3.0,
        reclaims_per_run_day=6.0, outage_share=0.3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def studies():
    """Each seed's study: result, the clusters in which it took place in the order of the policies, regions, and each
    job's part of the bound."""
    kept = {}

    def study(seed):
        if seed not in kept:
            clusters, dice = [], random.Random(seed)

            def watched(*arguments):
                clusters.append(SimulatedCluster(*arguments))
                return clusters[-1]

            least, least_g = {}, run_module._least_g

            def noted(i, arrival, *more):
                least[arrival.job.metadata.name] = least_g(i, arrival, *more)
                return least[arrival.job.metadata.name]

            arrivals, regions = arrivals_of(dice), regions_of(dice)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(run_module, "SimulatedCluster", watched)
                patch.setattr(run_module, "_least_g", noted)
                result = simulate(
                    "t", arrivals, regions, TRACE, [POLICIES[p] for p in CHOSEN],
                    foresight=Foresight.YESTERDAY, faults=faults_of(seed),
                )  # fmt: skip
            kept[seed] = (result, clusters, regions, least)
        return kept[seed]

    return study


def grams_of(watts, begin, end, region):
    """Hour by hour, by hand: watts x hours x (own share x own + rest x grid) x PUE."""
    spec = region.spec
    own = spec.on_site
    series = TRACE.history(spec.grid_zone, begin, end + HOUR)
    total, at = 0.0, begin
    while at < end:
        stop = min(end, at.replace(minute=0, second=0, microsecond=0) + HOUR)
        share = 0.0
        if own is not None:
            share = sum(h.share_percent / 100 for h in own.hours if h.from_hour <= at.hour < h.to_hour)
        mixed = share * float(own.intensity_grams_per_kwh if own else 0) + (1 - share) * series.at(at)
        total += watts / 1000 * ((stop - at) / HOUR) * mixed * float(spec.pue)
        at = stop
    return total


def watts_of(job, level):
    return next((v.watts for v in job.spec.power.levels if v.name == level), job.spec.power.watts)


def recomputed(cluster, regions):
    """(emissions, baselines, baselines of jobs that did not finish) from the world's own record of what ran."""
    places = {r.metadata.name: r for r in regions}
    emitted = baseline = undone = 0.0
    for mine in [*cluster.gone.values(), *cluster.jobs.values()]:
        job, at = mine.job, mine.job.metadata.creation_timestamp
        mine_g = grams_of(
            job.spec.power.watts, at, at + timedelta(seconds=mine.takes_s), places[job.spec.placement.home]
        )
        baseline += mine_g
        undone += mine_g if mine.finished_at is None else 0.0
        for run in mine.runs:
            if run.started_at is not None:
                end = run.finished_at or cluster.clock.now()
                emitted += grams_of(watts_of(job, run.level), run.started_at, end, places[run.region])
    return emitted, baseline, undone


@pytest.mark.parametrize("seed", SEEDS)
def test_grams_and_ranking_are_what_the_runs_alone_say(studies, seed):
    result, clusters, regions, _ = studies(seed)
    by_hand = [recomputed(c, regions) for c in clusters]
    for o, (emitted, baseline, undone) in zip(result.outcomes, by_hand, strict=True):
        assert o.unweighed == 0 and o.conserved
        assert o.emissions_g == pytest.approx(emitted, rel=1e-6), o.policy
        assert o.run_now_g == pytest.approx(baseline, rel=1e-6), o.policy
        assert o.saved_g == pytest.approx(baseline - undone - emitted, rel=1e-6, abs=1e-6), o.policy
    assert len({round(o.run_now_g, 6) for o in result.outcomes}) == 1, "one baseline for all"
    told = sorted(CHOSEN, key=lambda p: next(o.saved_g for o in result.outcomes if o.policy == p))
    mine = sorted(CHOSEN, key=lambda p: (lambda e: e[1] - e[2] - e[0])(by_hand[CHOSEN.index(p)]))
    assert told == mine


@pytest.mark.parametrize("seed", SEEDS)
def test_no_outcome_beats_the_bound_whatever_the_levers(studies, seed):
    result, _, _, least = studies(seed)
    assert 0 < result.bound_g <= result.outcomes[0].run_now_g
    for o, said in zip(result.outcomes, result.document()["policies"], strict=True):
        assert said["ofBoundPercent"] is not None and 0 <= said["ofBoundPercent"] <= 100 + 1e-9, o.policy
        assert o.saved_g <= o.run_now_g - result.bound_g + 1e-9, o.policy
        for j in o.jobs:  # each alone: a sum would hide what one job has too much behind what another wastes
            assert j.finished is None or j.emissions_g >= least[j.name] * (1 - 1e-9), (o.policy, j.name)


def test_the_fleets_pull_every_lever_and_meet_every_fault(studies):
    """What the properties above say nothing of is not shown by them."""
    seen = set()
    for seed in SEEDS:
        result, clusters, _, _ = studies(seed)
        for o, c in zip(result.outcomes, clusters, strict=True):
            jobs = [*c.gone.values(), *c.jobs.values()]
            runs = [r for j in jobs for r in j.runs]
            seen |= {f"level {r.level}" for r in runs if r.level} | {str(r.phase) for r in runs}
            seen |= {"own generation" for r in runs if r.region == "sunny" and r.started_at is not None}
            seen |= {"late" for j in o.jobs if j.late_s > 3600}
            seen |= {"away" for j in jobs for r in j.runs if r.region != j.job.spec.placement.home}
    assert {"level slow", "level fast", "Lost", "Paused", "Succeeded", "own generation", "late", "away"} <= seen, seen


def one(spec, hours=9.0):
    """One job at an hour of the first of March."""
    dice = random.Random(0)
    made = arrivals_of(dice, 1)[0].job.model_dump(mode="json", by_alias=True, exclude_none=True)
    at = START + hours * HOUR
    made["metadata"]["creationTimestamp"] = at.isoformat()
    made["spec"] |= {"interruption": {}, "power": {"watts": 300}} | spec
    return Arrival(at, GreenJob.model_validate(made))


def study_of(arrival, policies, faults=None):
    chosen = [POLICIES[p] for p in policies]
    return simulate("t", [arrival], regions_of(random.Random(1)), TRACE, chosen,
                    foresight=Foresight.YESTERDAY, faults=faults)  # fmt: skip


def test_waste_makes_no_baseline_larger():
    """A job that a node loss makes run twice emits more and saves less; its baseline stays what it was."""
    job = one({"duration": "4h", "completeWithin": "30h", "placement": {"regions": ["plain"], "home": "plain"}})
    calm = study_of(job, ["run-now"]).outcomes[0]
    stormy = [study_of(job, ["run-now"], Faults(seed=s, lost_nodes_per_day=6.0)).outcomes[0] for s in range(6)]
    struck = [o for o in stormy if o.runs_per_job > 1 or not o.finished]
    assert struck, "no seed loses a node: the rate is too low for this to say anything"
    for o in struck:
        assert o.run_now_g == pytest.approx(calm.run_now_g, rel=1e-9)
        assert o.emissions_g > calm.emissions_g and o.saved_g < calm.saved_g


def test_who_does_not_finish_a_job_saves_nothing_by_it():
    """With its node lost again and again it fails for good: what it emitted counts, and no saving is told."""
    job = one({"duration": "6h", "completeWithin": "9h", "backoffLimit": 0,
               "placement": {"regions": ["plain"], "home": "plain"}})  # fmt: skip
    (o,) = study_of(job, ["run-now"], Faults(seed=1, lost_nodes_per_day=24.0)).outcomes
    assert o.finished == 0 and o.failed + o.unfinished == 1
    assert o.emissions_g > 0 and o.emissions_g == o.undone_g and o.run_now_g == o.undone_run_now_g > 0
    assert o.saved_g == -o.emissions_g and o.saved_share < 0


def test_the_bound_reaches_to_the_end_of_who_is_late(monkeypatch):
    """It has to wait for room until long after its finish-by, when the grid is clean: the bound knows those hours."""
    history, clean_from = TraceProvider.history, (START + 12 * HOUR).timestamp()

    def stepped(self, zone, a, b):
        known = history(self, zone, a, b)
        return replace(known, intensity_g_per_kwh=np.where(known.edges[:-1] < clean_from, 500.0, 10.0))

    monkeypatch.setattr(TraceProvider, "history", stepped)
    container = {"name": "main", "image": "x", "resources": {"requests": {"cpu": "2"}}}
    spec = {"duration": "11h", "completeWithin": "11h", "placement": {"regions": ["tight"], "home": "tight"},
            "template": {"spec": {"containers": [container]}}}  # fmt: skip
    first, second = one(spec, 1.0), renamed(one(spec, 1.0), "job-901")
    result = simulate("t", [first, second], regions_of(random.Random(1)), TRACE, [POLICIES["run-now"]],
                      foresight=Foresight.YESTERDAY)  # fmt: skip
    (o,) = result.outcomes
    late = next(j for j in o.jobs if j.late_s > 0)
    assert late.late_s > 10 * 3600 and late.emissions_g < late.run_now_g / 10
    assert result.bound_g <= o.emissions_g * (1 + 1e-9) and result.document()["policies"][0]["ofBoundPercent"] <= 100


def renamed(arrival, name):
    body = arrival.job.model_dump(mode="json", by_alias=True, exclude_none=True)
    body["metadata"] |= {"name": name, "uid": f"00000{name[-3:]}-0000-4000-8000-000000000000"}
    return Arrival(arrival.at, GreenJob.model_validate(body))


def test_simulated_receipts_and_documents_say_so(monkeypatch):
    """Nobody can add them to real ones: marked in their JSON, and in no report of the ledger."""
    kept = []
    settle = run_module.MemoryLedger.record_receipt

    def record(self, uid, namespace, name, at, body, **more):
        kept.append((body, more))
        return settle(self, uid, namespace, name, at, body, **more)

    monkeypatch.setattr(run_module.MemoryLedger, "record_receipt", record)
    from windward.reports.export import group_of

    result = study_of(one({}), ["run-now"])
    assert kept and all(body["simulated"].startswith("SIMULATED") and more["demo"] for body, more in kept)
    assert all(group_of(body)[1] == "simulated" for body, _ in kept)
    assert result.document()["simulated"].startswith("SIMULATED")


def test_sums_are_over_the_same_jobs_where_hours_are_missing(monkeypatch):
    """A job that one policy runs in a hole of the recording is in no policy's sums."""
    hole = (START + 10 * HOUR, START + 12 * HOUR)
    history = TraceProvider.history

    def holed(self, zone, a, b):
        s = history(self, zone, a, b)
        parts = [p for p in (s.clip(a, min(b, hole[0])) if a < hole[0] else None,
                             s.clip(max(a, hole[1]), b) if b > hole[1] else None) if p is not None]  # fmt: skip
        return type(s).of_stretches(parts) if parts else s

    monkeypatch.setattr(TraceProvider, "history", holed)
    spec = {"completeWithin": "20h", "placement": {"regions": ["plain"], "home": "plain"}}
    both = [one({**spec, "duration": "2h"}, 9.0), renamed(one({**spec, "duration": "1h"}, 14.0), "job-900")]
    chosen = [POLICIES[p] for p in ("run-now", "window")]
    result = simulate("t", both, regions_of(random.Random(1)), TRACE, chosen, foresight=Foresight.YESTERDAY)
    assert [o.unweighed for o in result.outcomes] == [1, 1]
    (kept,) = (j for j in result.outcomes[0].jobs if j.weighed)
    assert kept.name == "job-900"
    assert all(o.run_now_g == pytest.approx(kept.run_now_g) and math.isfinite(o.saved_g) for o in result.outcomes)
    assert 0 < result.bound_g <= kept.run_now_g

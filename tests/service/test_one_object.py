"""One object harms itself only: what it makes a step of the cycle raise stands in its status, and all others go on."""

import json
import logging
import os
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from service.any_object import legal, legal_cron, legal_region, spec_of
from service.world import T0, World, job_body, region_body

from windward import planning
from windward.cluster.port import Refused
from windward.service import controller as controller_module
from windward.service import reporter as reporter_module
from windward.service import standing_plan
from windward.service.accountant import Accountant
from windward.service.controller import Controller

LONG = int(os.environ.get("WINDWARD_LONG", "0"))
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
MAIN = {"name": "m", "image": "x", "command": ["true"]}


def template(**spec):
    return {"spec": {"containers": [MAIN], **spec}}


POISON = {
    "null-spec": {"template": {"spec": None}},
    "null-container": {"template": template(containers=[None])},
    "containers-map": {"template": template(containers={"name": "m"})},
    "null-env": {"template": template(containers=[MAIN | {"env": [None]}])},
    "env-map": {"template": template(containers=[MAIN | {"env": {"A": "b"}}])},
    "list-resources": {"template": template(containers=[MAIN | {"resources": ["x"]}])},
    "text-limits": {"template": template(containers=[MAIN | {"resources": {"limits": "2"}}])},
    "list-metadata": {"template": {"metadata": ["x"], **template()}},
    "text-selector": {"template": template(nodeSelector="x")},
    "nan-cpu": {"template": template(containers=[MAIN | {"resources": {"requests": {"cpu": "nan"}}}])},
    "huge-cpu": {"template": template(containers=[MAIN | {"resources": {"requests": {"cpu": "1e400"}}}])},
    "negative-cpu": {"template": template(containers=[MAIN | {"resources": {"requests": {"cpu": "-1000000"}}}])},
    "long-p90": {"durationP90": "9999d"},
    "long-overhead": {"interruption": {"policy": "Checkpoint", "overhead": "9999d"}},
    "long-duration": {"duration": "9999d", "completeWithin": "9999d"},
    "past": {"deadline": "1971-01-01T00:00:00Z", "completeWithin": None},
    "far": {"deadline": "8999-12-31T23:59:59Z", "completeWithin": None},
    "no-region": {"placement": {"regions": ["nowhere"]}},
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_an_object_that_the_api_server_takes_stops_nobody(world, poison):
    world.cluster.apply(job_body("poison", **poison))
    uid = world.cluster.apply(job_body("good"))
    world.advance(13 * HOUR)
    assert world.status("good")["summary"]["state"] == "Complete"
    assert world.cluster.finished_at(uid) <= T0 + 12 * HOUR
    assert world.status("poison")["summary"]["reason"], "it is told what becomes of it"


def test_bad_crons_and_regions_are_told_and_stop_nobody(world):
    spec = {"duration": "1h", "placement": {"regions": ["north"]}, "template": template()}
    changes = {"reboot": {"schedule": "@reboot"}, "zone": {"timeZone": "Europe"}, "never": {"schedule": "0 0 31 2 *"}}
    for name, change in changes.items():
        meta = {"name": name, "namespace": "default"}
        body = {"schedule": "0 0 * * *", "window": "8h", "jobTemplate": {"spec": spec}, **change}
        world.cluster.apply(
            {"kind": "GreenCronJob", "apiVersion": "windward.dev/v1alpha1", "metadata": meta, "spec": body}
        )
    world.cluster.apply(region_body("odd", "DE", pue="9"))
    world.cluster.apply(job_body("good"))
    world.advance(13 * HOUR)
    assert world.status("good")["summary"]["state"] == "Complete"
    for cron in world.cluster.others["GreenCronJob"]:
        (told,) = [c for c in cron["status"]["conditions"] if c["type"] == "Accepted"]
        assert told["status"] == "False" and told["message"].startswith("spec."), cron["metadata"]["name"]
    (odd,) = [r for r in world.cluster.others["GreenRegion"] if r["metadata"]["name"] == "odd"]
    assert odd["status"]["conditions"][0]["reason"] == "InvalidSpec"


class Strange(Exception):
    """Nobody expects it."""


def raising(where, what):
    """`where` with a fault for the job called `poison`."""

    def wrapped(*args, **kwargs):
        if what(*args):
            raise Strange("a bug")
        return where(*args, **kwargs)

    return wrapped


def is_poison(x):
    return getattr(x, "key", "") == "default/poison"


STEPS = {
    "work_of": (standing_plan, "work_of", lambda o, *_: is_poison(o)),
    "spent": (standing_plan, "emitted_g", lambda o, *_: is_poison(o)),
    "told plan": (standing_plan, "plan_from_status", lambda o: is_poison(o)),
    "book": (Accountant, "weighed", lambda self, o, *_: is_poison(o)),
    "reconcile": (controller_module, "reconcile_job", lambda _, o, *__: is_poison(o)),
    "region": (controller_module, "region_of", lambda r, *_: r.metadata.name == "odd"),
    "report region": (reporter_module, "sync_region", lambda c, r, *_: r.metadata.name == "odd"),
    "forecast": (Controller, "_forecast", lambda self, zone, *_: zone == "XX"),
}


@pytest.mark.parametrize(("owner", "name", "what"), STEPS.values(), ids=STEPS)
def test_any_exception_of_any_step_stays_with_its_object(world, monkeypatch, owner, name, what):
    monkeypatch.setattr(owner, name, raising(getattr(owner, name), what))
    world.cluster.apply(region_body("odd", "XX"))
    world.cluster.apply(job_body("poison"))
    world.cluster.apply(job_body("good"))
    world.tick()
    world.restart()
    cycle = world.tick()
    assert any("Strange: a bug" in e for e in cycle.errors.values())
    if "default/poison" in cycle.errors and name != "plan_from_status":
        told = world.conditions("poison")["Stalled"]
        assert told["reason"] == "InternalError" and "Strange: a bug" in told["message"]
        assert world.status("poison")["summary"]["reason"] == "InternalError"
    world.advance(13 * HOUR)
    assert world.status("good")["summary"]["state"] == "Complete"


def test_a_planner_that_raises_for_one_job_plans_all_others(world, monkeypatch):
    def planner(fleet, *rest):
        if any(w.key == "default/poison" for w in fleet.work):
            raise Strange("cannot be planned")
        return planning.plan(fleet, *rest)

    world.controller.standing.planner = planner
    for n in range(3):
        world.cluster.apply(job_body(f"good-{n}"))
    world.cluster.apply(job_body("poison"))
    cycle = world.tick()
    assert sorted(cycle.plan.jobs) == [f"default/good-{n}" for n in range(3)]
    assert "cannot be planned" in world.conditions("poison")["Stalled"]["message"]
    world.controller.standing.planner = planning.plan  # a fix was deployed
    world.advance(13 * HOUR)
    assert {world.status(n)["summary"]["state"] for n in ("good-0", "good-1", "good-2", "poison")} == {"Complete"}
    assert "Stalled" not in world.conditions("poison")


def test_a_job_that_cannot_be_planned_is_tried_alone_and_ever_more_rarely(world):
    tries = []

    def planner(fleet, *rest):
        if any(w.key == "default/poison" for w in fleet.work):
            tries.append((world.clock.now(), len(fleet.work)))
            raise Strange("cannot be planned")
        return planning.plan(fleet, *rest)

    world.controller.standing.planner = planner
    world.cluster.apply(job_body("good"))
    world.cluster.apply(job_body("poison"))
    for _ in range(300):
        world.cluster.pass_time(timedelta(seconds=1))
        world.tick()
    assert [size for _, size in tries[:2]] == [2, 1] and {size for _, size in tries[2:]} == {1}
    gaps = [(b - a).total_seconds() for (a, _), (b, _) in pairwise(tries[1:])]
    assert gaps == sorted(gaps) and gaps[-1] > 60 and len(tries) < 12


@pytest.mark.parametrize(
    ("owner", "name"),
    [(controller_module, "reconcile_job"), (standing_plan, "work_of"), (standing_plan, "emitted_g"), (None, "planner")],
)
def test_a_fault_is_tried_again_ever_more_rarely_and_at_once_when_its_job_changes(world, monkeypatch, owner, name):
    owner, tries = owner or world.controller.standing, []

    def is_tried(*args):
        ours = any(is_poison(x) for arg in args for x in getattr(arg, "work", [arg]))
        if ours and world.clock.now() not in tries:
            tries.append(world.clock.now())
        return ours

    monkeypatch.setattr(owner, name, raising(getattr(owner, name), is_tried))
    world.cluster.apply(job_body("poison"))
    for _ in range(1200):
        world.cluster.pass_time(timedelta(seconds=1))
        world.tick()
    gaps = [(b - a).total_seconds() for a, b in pairwise(tries)]
    assert gaps[0] <= 2 and gaps == sorted(gaps) and max(gaps) <= 301 and len(tries) < 15
    world.cluster.edit("default/poison", priority=3)
    world.tick()
    assert tries[-1] == world.clock.now()


def test_a_status_that_is_refused_is_that_objects(world, monkeypatch):
    real = type(world.cluster).write_region_status

    def refused(self, region, status):
        if region.metadata.name == "north":
            raise Refused("status is too long")
        real(self, region, status)

    monkeypatch.setattr(type(world.cluster), "write_region_status", refused)
    world.cluster.apply(job_body("good"))
    world.advance(13 * HOUR)
    assert world.status("good")["summary"]["state"] == "Complete"


def reports():
    """What a container may leave: any bytes, a report cut anywhere, a sound one with any value anywhere."""
    energy = {"start": "2026-03-02T07:00:00Z", "step_s": 60.0, "components": [
        {"name": "gpu", "method": "measured", "source": "nvml", "joules": [1.0, 2.0]}
    ]}  # fmt: skip
    whole = {"version": 1, "outcome": "Failed", "progress": {"fraction": 0.5}, "message": "m", "energy": energy}
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    wild = st.recursive(
        leaf | st.sampled_from([1e308, "1970"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["start", "joules"]), inner),
        max_leaves=6,
    )  # fmt: skip
    changed = st.builds(lambda part, value: {**whole, part: value}, st.sampled_from(sorted(whole)), wild)
    deeper = st.builds(
        lambda part, value: {**whole, "energy": {**energy, part: value}}, st.sampled_from(sorted(energy)), wild
    )
    texts = (changed | deeper | st.just(whole)).map(json.dumps)
    cut = st.builds(lambda text, at: text[:at], texts, st.integers(0, 400))
    return st.binary(max_size=400).map(lambda data: data.decode("utf-8", "replace")) | texts | cut


JOBS = spec_of("greenjobs")
CRONS = spec_of("greencronjobs")
REGIONS = spec_of("greenregions")


@given(
    job=JOBS | JOBS.map(legal) | JOBS.map(legal),
    cron=CRONS | CRONS.map(legal_cron),
    region=REGIONS | REGIONS.map(legal_region),
    report=reports(),
)
@settings(max_examples=LONG or 60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_object_and_any_report_harm_themselves_only(job, cron, region, report):
    """Drawn from the CRDs, pod templates included; `WINDWARD_LONG=3000` runs it on so many."""
    logging.disable(logging.CRITICAL)
    world = World()
    try:
        world.cluster.apply(region_body("any", "FR") | {"spec": region})
        world.cluster.apply(
            {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenCronJob", "metadata": {"name": "any"}, "spec": cron}
        )
        bad = world.cluster.apply(job_body("any") | {"spec": job})
        world.cluster.last_words[bad] = report
        uid = world.cluster.apply(job_body("good"))
        world.advance(13 * HOUR)
        assert world.status("good")["summary"]["state"] == "Complete", json.dumps(job)
        assert world.cluster.finished_at(uid) <= T0 + 12 * HOUR
        status = world.status("any") if "default/any" in world.cluster.bodies else None
        assert status is None or status["summary"]["reason"]
        event(f"{status['summary']['state']} {status['summary']['reason']}" if status else "deleted")
        event(f"region {world.cluster.others['GreenRegion'][-1]['status']['conditions'][0]['reason']}")
        event(f"cron made {sum(k.startswith('default/any-') for k in world.cluster.jobs) > 0}")
        for row in world.ledger.energy(bad):
            assert 0 <= row.joules < 1e23 and T0 <= row.start < row.end <= world.clock.now() + HOUR
        faults = [e for k, e in world.controller.guard.faults().items() if not e.expected]
        assert not faults, f"a fault of ours, however contained: {faults}"
    finally:
        world.close()
        logging.disable(logging.NOTSET)

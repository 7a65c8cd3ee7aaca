"""From the object of a group and its pods to its run: a table of what a cluster may show, for each kind."""

import json
from datetime import timedelta

import pytest
from engines.bodies import NOON, WORKS, between, condition, labelled, pod, stored
from lifecycle.cases import greenjob

from windward.cluster.engines import ENGINES
from windward.cluster.kube_pods import controller_of, pod_end
from windward.cluster.kube_runs import runs_of
from windward.domain.run import Phase, TroubleReason

BY_KIND = {e.resource.kind: e for e in ENGINES}
GROUPS = [("JobTemplate", BY_KIND["Job"]), ("JobSet", BY_KIND["JobSet"]), ("TrainJob", BY_KIND["TrainJob"])]
each = pytest.mark.parametrize(("work", "engine"), GROUPS, ids=[w for w, _ in GROUPS])
DONE = {"JobTemplate": "Complete", "JobSet": "Completed", "TrainJob": "Complete"}
SUSPENDED = condition("Suspended", 30)


def minutes(n):
    return NOON + timedelta(minutes=n)


def observed(engine, work, child=None, pods=(), seen=(), at=60, **kept):
    run = {"name": "x", "attempt": 3, "uid": "child-1", "region": "north", "phase": "Running"} | kept
    job = greenjob(status={"runs": [run]} if kept else {}, **({"template": None} | WORKS[work]))
    children = {e: [child] if e is engine and child is not None else [] for e in ENGINES}
    controllers = {o["metadata"]["uid"]: controller_of(o["metadata"]) for _, o in between(engine)}
    ends = {"child-1": [pod_end(p) for p in seen]}
    (only,) = runs_of(job, children, [labelled(p, work) for p in pods], ends, minutes(at), None, controllers)
    return only


def told(fraction=None, joules=(), start=10, message=""):
    """A termination message."""
    report = {"outcome": "Paused", "message": message}
    if fraction is not None:
        report["progress"] = {"fraction": fraction}
    if joules:
        part = {"name": "cpu", "method": "measured", "source": "rapl", "joules": list(joules)}
        report["energy"] = {"start": minutes(start).isoformat(), "step_s": 60, "components": [part]}
    return json.dumps(report)


def counts(work, active=0, succeeded=0):
    """Status with these counts, of each part of a group where it has several."""
    one = {"active": active, "succeeded": succeeded}
    if work == "JobTemplate":
        return one
    names = ("leader", "workers") if work == "JobSet" else ("node", "launcher")
    return {"replicatedJobsStatus" if work == "JobSet" else "jobsStatus": [{"name": n, **one} for n in names]}


@each
def test_a_run_starts_with_the_first_container_and_runs_while_any_does(work, engine):
    child = stored(engine, work, counts(work, active=2))
    run = observed(engine, work, child, [pod(engine, "a", running=12), pod(engine, "b", running=10), pod(engine, "c")])
    assert (run.phase, run.started_at, run.pause_requested) == (Phase.RUNNING, minutes(10), False)
    assert observed(engine, work, child, [pod(engine, "a")]).phase is Phase.STARTING


@each
def test_a_pod_without_a_node_is_told_while_the_others_wait_for_it(work, engine):
    waiting = pod(engine, "b")
    waiting["status"] = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}
    run = observed(engine, work, stored(engine, work), [pod(engine, "a", running=10), waiting])
    assert (run.phase, run.trouble.reason) == (Phase.RUNNING, TroubleReason.UNSCHEDULABLE)


@each
def test_between_two_pods_it_goes_on(work, engine):
    run = observed(engine, work, stored(engine, work), [pod(engine, "a", terminated=(10, 20, 1))])
    assert (run.phase, run.started_at, run.trouble) == (Phase.RUNNING, minutes(10), None)


@each
def test_it_ends_with_its_last_container_once_its_object_says_so(work, engine):
    pods = [pod(engine, "a", terminated=(10, 50, 0)), pod(engine, "b", terminated=(12, 54, 0))]
    child = stored(engine, work, {"conditions": [condition(DONE[work], 55)]})
    run = observed(engine, work, child, pods)
    assert (run.phase, run.exit_code) == (Phase.SUCCEEDED, 0)
    assert (run.started_at, run.finished_at) == (minutes(10), minutes(54))
    assert observed(engine, work, stored(engine, work), pods).phase is Phase.RUNNING, "all pods ended; not yet counted"


@each
def test_what_is_over_and_still_has_a_pod_is_stopping(work, engine):
    for kind in (DONE[work], "Failed"):
        child = stored(engine, work, {"conditions": [condition(kind, 55)]})
        assert observed(engine, work, child, [pod(engine, running=10)]).phase is Phase.STOPPING


@each
def test_counts_say_that_it_is_done_also_while_it_is_suspended(work, engine):
    """The operator died after it suspended a group whose last pod had just ended; nobody saw the pods."""
    status = counts(work, succeeded=4) | {"conditions": [SUSPENDED]}
    run = observed(engine, work, stored(engine, work, status, suspend=True))
    assert (run.phase, run.exit_code, run.finished_at) == (Phase.SUCCEEDED, 0, minutes(30))
    less = counts(work, succeeded=0) | {"conditions": [SUSPENDED]}
    assert observed(engine, work, stored(engine, work, less, suspend=True)).phase is Phase.PAUSED


@each
def test_a_failed_one_has_the_first_code_that_is_not_0_and_the_words_of_its_condition(work, engine):
    why = condition("Failed", 55, "BackoffLimitExceeded", "it has reached the limit")
    pods = [pod(engine, "a", terminated=(10, 54, 137)), pod(engine, "b", terminated=(10, 40, 3))]
    pods.append(pod(engine, "c", terminated=(10, 20, 0)))
    run = observed(engine, work, stored(engine, work, {"conditions": [why]}), pods)
    assert (run.phase, run.exit_code) == (Phase.FAILED, 3)
    assert run.message == "BackoffLimitExceeded: it has reached the limit"


@each
def test_a_failure_of_nodes_alone_is_a_loss_and_a_pause_of_its_own_is_a_pause(work, engine):
    child = stored(engine, work, {"conditions": [condition("Failed", 55)]})
    lost = pod(engine, "a", terminated=(10, 40, 137))
    lost["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    assert observed(engine, work, child, [lost]).phase is Phase.LOST
    own = observed(engine, work, child, [pod(engine, "a", terminated=(10, 40, 75))])
    assert (own.phase, own.exit_code, own.pause_requested) == (Phase.PAUSED, 75, False)


@each
@pytest.mark.parametrize(
    ("codes", "code"), [((75, 75), 75), ((0, 75), 75), ((75, 143), 143), ((143, 75), 143), ((), None)]
)
def test_a_pause_has_75_only_if_every_pod_kept_the_contract(work, engine, codes, code):
    ends = [pod(engine, str(i), terminated=(10, 31 + i, c)) for i, c in enumerate(codes)]
    child = stored(engine, work, counts(work) | {"conditions": [SUSPENDED]}, suspend=True)
    run = observed(engine, work, child, seen=ends, startedAt="2026-03-02T12:10:00Z")
    assert (run.phase, run.exit_code, run.pause_requested) == (Phase.PAUSED, code, True)
    assert (run.started_at, run.finished_at) == (minutes(10), minutes(30 + len(codes)))
    assert ("does not honour the pause contract" in run.message) is (code == 143)


@each
def test_a_pod_that_was_replaced_says_nothing_of_a_pause(work, engine):
    first = pod(engine, "a", terminated=(10, 20, 1), index=0)
    again = pod(engine, "b", terminated=(21, 31, 75), index=0)
    child = stored(engine, work, counts(work) | {"conditions": [SUSPENDED]}, suspend=True)
    assert observed(engine, work, child, seen=[first, again]).exit_code == 75


@each
@pytest.mark.parametrize("unsure", ["not noticed", "active", "pods"])
def test_what_was_told_to_pause_is_stopping_until_it_is_sure_that_nothing_computes(work, engine, unsure):
    conditions = [] if unsure == "not noticed" else [SUSPENDED]
    status = counts(work, active=int(unsure == "active")) | {"conditions": conditions}
    pods = [pod(engine, running=10)] if unsure == "pods" else []
    run = observed(engine, work, stored(engine, work, status, suspend=True), pods)
    assert (run.phase, run.pause_requested) == (Phase.STOPPING, True)


@each
def test_one_that_was_paused_before_it_started_never_ran(work, engine):
    run = observed(engine, work, stored(engine, work, counts(work) | {"conditions": [SUSPENDED]}, suspend=True))
    assert (run.phase, run.started_at, run.exit_code, run.message) == (Phase.PAUSED, None, None, "never started")


@each
def test_what_the_status_kept_of_its_end_stands_when_nothing_else_is_known(work, engine):
    child = stored(engine, work, counts(work) | {"conditions": [SUSPENDED]}, suspend=True)
    times = {"startedAt": "2026-03-02T12:10:00Z", "finishedAt": "2026-03-02T12:31:00Z"}
    run = observed(engine, work, child, phase="Paused", exitCode=75, message="at step 7", **times)
    assert (run.phase, run.exit_code, run.message) == (Phase.PAUSED, 75, "at step 7")


@each
def test_one_without_pods_says_where_to_look(work, engine):
    run = observed(engine, work, stored(engine, work))
    assert (run.phase, run.trouble.reason) == (Phase.STARTING, TroubleReason.POD_MISSING)
    kind = engine.resource.kind
    assert run.trouble.cause == f"{kind} {run.name} has no pod"
    assert f"kubectl -n ml describe {kind.lower()} {run.name}" in run.trouble.fix
    assert observed(engine, work, stored(engine, work), at=0).trouble is None


@each
def test_an_object_that_was_deleted_is_stopping_while_pods_of_it_remain_and_then_paused(work, engine):
    going = pod(engine, running=10, deletionTimestamp="2026-03-02T12:30:00Z")
    run = observed(engine, work, None, [going], startedAt="2026-03-02T12:10:00Z")
    assert (run.phase, run.pause_requested) == (Phase.STOPPING, True)
    ended = pod(engine, terminated=(10, 31, 75))
    assert observed(engine, work, None, [ended], phase="Stopping").phase is Phase.PAUSED


@each
def test_reports_of_all_pods_are_one(work, engine):
    ends = [
        pod(engine, "a", terminated=(10, 31, 75), message=told(0.5, [60, 60], message="at step 5")),
        pod(engine, "b", terminated=(10, 31, 75), message=told(0.25, [30, 30], start=11)),
    ]
    child = stored(engine, work, counts(work) | {"conditions": [SUSPENDED]}, suspend=True)
    run = observed(engine, work, child, seen=ends)
    expected = {"JobTemplate": 4, "JobSet": 5, "TrainJob": 4}[work]
    assert run.report.progress.fraction == pytest.approx(0.75 / expected)
    assert run.report.energy.total_j == pytest.approx(180)
    assert run.message == "at step 5"


def test_any_job_of_a_set_may_be_enough():
    engine = BY_KIND["JobSet"]
    child = stored(engine, "JobSet", counts("JobSet") | {"conditions": [SUSPENDED]}, suspend=True)
    child["status"]["replicatedJobsStatus"][1]["succeeded"] = 1
    child["spec"]["successPolicy"] = {"operator": "Any", "targetReplicatedJobs": ["workers"]}
    assert observed(engine, "JobSet", child).phase is Phase.SUCCEEDED
    child["spec"]["successPolicy"] = {"operator": "Any", "targetReplicatedJobs": ["leader"]}
    assert observed(engine, "JobSet", child).phase is Phase.PAUSED


def test_a_job_without_completions_is_done_by_its_condition_alone():
    engine = BY_KIND["Job"]
    status = {"succeeded": 1, "conditions": [SUSPENDED]}
    child = stored(engine, "JobTemplate", status, suspend=True)
    del child["spec"]["completions"]
    assert observed(engine, "JobTemplate", child).phase is Phase.PAUSED

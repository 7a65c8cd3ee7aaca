"""A child is ours by namespace, controller ownerReference and deterministic name; a pod by its Job; by no label."""

import copy
from datetime import UTC, datetime, timedelta

import pytest
from lifecycle.cases import UID, greenjob

from windward.cluster.engines import JobEngine
from windward.cluster.kube_pods import pod_end, trouble_of
from windward.cluster.kube_runs import runs_of
from windward.domain.run import Phase, TroubleReason, run_name
from windward.manifests import RunFacts, render_job
from windward.manifests.pod import RuntimeImage
from windward_api.greenregion import GreenRegion

JOB = JobEngine()
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
REGION = GreenRegion.model_validate({"metadata": {"name": "north"}, "spec": {"gridZone": "SE"}})
DONE = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-03-02T08:00:00Z"}]}


def child(attempt=1, **more):
    body = render_job(RunFacts(greenjob(), attempt, REGION), RuntimeImage("w:1"))
    body["metadata"] |= {"uid": f"job-{attempt}", "creationTimestamp": "2026-03-02T07:00:00Z"}
    return body | more


def ended(code, name="main", message="", **times):
    return {"name": name, "state": {"terminated": {"exitCode": code, "message": message, **times}}}


def pod(*statuses, owner="job-1", namespace="ml", phase="Running", conditions=(), labels=None, names=("main",), **meta):
    owners = [{"kind": "Job", "uid": owner, "controller": True}] if owner else []
    whole = {"name": "p", "uid": "pod-1", "namespace": namespace, "labels": labels or {}, "ownerReferences": owners}
    return {
        "metadata": {**whole, "creationTimestamp": "2026-03-02T07:00:00Z", **meta},
        "spec": {"containers": [{"name": n} for n in names], "nodeName": "n1"},
        "status": {
            "phase": phase, "containerStatuses": list(statuses), "conditions": list(conditions),
            "startTime": "2026-03-02T07:00:00Z",
        },
    }  # fmt: skip


def phases(jobs=(), pods=(), **job):
    return [r.phase for r in runs_of(greenjob(**job), {JOB: jobs}, pods, {}, NOW)]


def forged(**changes):
    body = copy.deepcopy(child(status=DONE))
    for name, value in changes.items():
        body["metadata"][name] = value
    return body


OWNER = {"kind": "GreenJob", "uid": UID, "controller": True}


@pytest.mark.parametrize(
    "stranger",
    [
        forged(ownerReferences=[]),  # a copied label is all it has
        forged(ownerReferences=[OWNER | {"uid": "another"}]),
        forged(ownerReferences=[OWNER | {"kind": "CronJob"}]),
        forged(ownerReferences=[OWNER | {"controller": False}]),
        forged(namespace="theirs"),
        forged(name="prod"),
        forged(name=run_name("night", UID, 2)),  # another attempt than its label says
    ],
    ids=["no owner", "another's", "another kind", "not its controller", "another namespace", "any name", "attempt"],
)
def test_a_stranger_with_our_label_is_no_run(stranger):
    assert phases([stranger]) == []
    assert phases([child(), stranger], [pod(ended(75))]) == [Phase.PAUSED]


def test_the_child_that_was_rendered_is_one():
    assert phases([child(status=DONE)]) == [Phase.SUCCEEDED]


@pytest.mark.parametrize(
    "stranger",
    [
        pod(ended(0), owner="another-job"),
        pod(ended(0), owner=""),
        pod(ended(0), namespace="theirs"),
    ],
)
def test_a_strangers_pod_says_nothing_of_a_run(stranger):
    stranger["metadata"]["labels"] = child()["spec"]["template"]["metadata"]["labels"]
    assert phases([child()], [stranger]) == [Phase.STARTING]


def test_a_pod_whose_job_was_deleted_is_known_by_the_uid_that_the_status_kept():
    kept = {"name": run_name("night", UID, 1), "attempt": 1, "uid": "job-1", "region": "north", "phase": "Running"}
    state = {"name": "main", "state": {"running": {"startedAt": "2026-03-02T08:00:00Z"}}}
    leaving = pod(state, deletionTimestamp="2026-03-02T09:00:00Z")
    assert phases([], [leaving], status={"runs": [kept]}) == [Phase.STOPPING]
    assert phases([], [pod(state, owner="job-9")], status={"runs": [kept]}) == [Phase.LOST]


FAILED = {
    "failed": 1,
    "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "2026-03-02T08:00:00Z"}],
}
UNCOUNTED = {"uncountedTerminatedPods": {"succeeded": ["pod-1"]}}


@pytest.mark.parametrize(
    ("status", "suspend", "phase"),
    [
        ({"active": 1}, False, Phase.STOPPING),
        ({"active": 1}, True, Phase.STOPPING),
        ({"terminating": 1}, False, Phase.STOPPING),
        ({"uncountedTerminatedPods": {"failed": ["pod-1"]}}, False, Phase.STOPPING),
        (FAILED, False, Phase.PAUSED),
        ({}, True, Phase.PAUSED),
        ({}, False, Phase.STARTING),  # told before there was a pod, by an operator that died: one may be made yet
        ({"succeeded": 1}, True, Phase.SUCCEEDED),  # it ended with 0 while it was being paused and nobody watched
        (UNCOUNTED, False, Phase.SUCCEEDED),
        (DONE, False, Phase.SUCCEEDED),
    ],
)
def test_the_job_is_the_witness_of_a_pod_that_is_gone(status, suspend, phase):
    one = child(status=status)
    one["spec"]["suspend"] = suspend
    one["metadata"]["annotations"] = {"windward.dev/paused-at": "2026-03-02T07:59:00Z"}
    assert phases([one]) == [phase]
    kept = {"name": "x", "attempt": 1, "uid": "job-1", "region": "north", "phase": "Paused"}
    told = phases([one], status={"runs": [kept]})
    assert told == ([Phase.SUCCEEDED] if phase is Phase.SUCCEEDED else [Phase.PAUSED])


def test_a_pod_that_was_to_go_and_is_not_deleted_is_told_again():
    """The operator died between its note on the Job and the pod."""
    one = child(status={"active": 1})
    one["metadata"]["annotations"] = {"windward.dev/paused-at": "2026-03-02T07:59:00Z"}
    state = {"name": "main", "state": {"running": {"startedAt": "2026-03-02T08:00:00Z"}}}
    assert phases([one], [pod(state)]) == [Phase.RUNNING]
    assert phases([one], [pod(state, deletionTimestamp="2026-03-02T09:00:00Z")]) == [Phase.STOPPING]


@pytest.mark.parametrize(
    ("statuses", "phase", "code"),
    [
        ((ended(0),), "Succeeded", 0),
        ((ended(75),), "Failed", 75),
        ((ended(0), {"name": "log", "state": {"running": {}}}), "Running", None),  # a helper goes on
        ((ended(0), ended(3, "log")), "Failed", 3),  # a helper failed
        ((ended(75), ended(143, "log")), "Failed", 75),  # the main container's word counts
        (({"name": "main", "state": {"running": {}}}, ended(0, "log")), "Running", None),
        ((), "Failed", -1),
        ((), "Pending", None),
    ],
)
def test_a_pod_has_ended_when_all_its_containers_have(statuses, phase, code):
    end = pod_end(pod(*statuses, phase=phase, names=("main", "log")))
    assert (None if end is None else end.code) == code


def test_a_pod_that_was_paused_before_it_started_was_never_lost():
    """Nobody scheduled it; Kubernetes marks it failed when it is deleted."""
    one = child()
    one["metadata"]["annotations"] = {"windward.dev/paused-at": "2026-03-02T08:59:00Z"}
    (run,) = runs_of(greenjob(), {JOB: [one]}, [pod(phase="Failed")], {}, NOW)
    assert (run.phase, run.message, run.finished_at) == (Phase.PAUSED, "never started", NOW)
    kept = {"name": run.name, "attempt": 1, "uid": "job-1", "region": "north", "phase": "Paused",
            "finishedAt": "2026-03-02T08:59:30Z"}  # fmt: skip
    (again,) = runs_of(greenjob(status={"runs": [kept]}), {JOB: [one]}, [pod(phase="Failed")], {}, NOW)
    assert again.finished_at == datetime(2026, 3, 2, 8, 59, 30, tzinfo=UTC), "the time stands as it was first seen"
    assert phases([child()], [pod(phase="Failed")]) == [Phase.LOST]


def condition(kind, status, message="", at="2026-03-02T08:59:00Z"):
    return {"type": kind, "status": status, "message": message, "lastTransitionTime": at}


def waiting(reason, message=""):
    return {"name": "main", "state": {"waiting": {"reason": reason, "message": message}}}


READY = {"name": "main", "ready": True, "state": {"running": {"startedAt": "2026-03-02T08:00:00Z"}}}
R = TroubleReason


@pytest.mark.parametrize(
    ("one", "reason", "said"),
    [
        (
            pod(conditions=[condition("PodScheduled", "False", "0/3 nodes")]),
            R.UNSCHEDULABLE, "0/3 nodes since 03-02 08:59Z",
        ),
        (
            pod(conditions=[condition("PodScheduled", "False", 'persistentvolumeclaim "w" not found')]),
            R.CLAIM_MISSING, "create the claim",
        ),
        (pod(waiting("ErrImagePull", "no such host")), R.IMAGE_PULL_FAILED, "ErrImagePull: no such host"),
        (pod(waiting("InvalidImageName")), R.IMAGE_PULL_FAILED, "name an image"),
        (pod(waiting("CreateContainerConfigError", 'secret "s" not found')), R.CONTAINER_CONFIG_INVALID, 'secret "s"'),
        (pod(waiting("ContainerCreating")), R.CONTAINER_CONFIG_INVALID, "describe pod p"),
        (pod(READY, conditions=[condition("Ready", "False")]), R.NODE_LOST, "node n1 does not answer since"),
        (pod(READY, deletionTimestamp="2026-03-02T08:59:00Z"), R.NODE_LOST, "node n1 does not end pod p"),
        (pod(READY, deletionTimestamp="2026-03-02T08:59:50Z"), None, ""),
        (pod(READY, conditions=[condition("Ready", "True")]), None, ""),
        (pod(waiting("PodInitializing")), None, ""),
    ],
)  # fmt: skip
def test_what_keeps_a_run_from_getting_on_has_cause_fix_and_time(one, reason, said):
    trouble = trouble_of(one, NOW)
    assert (None if trouble is None else trouble.reason) == reason and said in str(trouble or "")
    (seen,) = runs_of(greenjob(), {JOB: [child()]}, [one], {}, NOW)
    assert seen.trouble == trouble and said in seen.message


def test_a_job_without_a_pod_says_so_within_half_a_minute():
    for age_s, told in ((5, False), (30, True)):
        created = datetime(2026, 3, 2, 7, tzinfo=UTC)
        (seen,) = runs_of(greenjob(), {JOB: [child()]}, [], {}, created + timedelta(seconds=age_s))
        assert (seen.trouble is not None and seen.trouble.reason is R.POD_MISSING) is told


@pytest.mark.parametrize("attempt", ["", "x", "٣", "9" * 30, "-1", "0"])
def test_a_label_that_is_no_attempt_is_no_run(attempt):
    one = child()
    one["metadata"]["labels"]["windward.dev/attempt"] = attempt
    assert phases([one]) == []

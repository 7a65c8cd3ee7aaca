"""From a managed workload and its pods to its runs: a table of what a cluster may show."""

from dataclasses import replace
from datetime import timedelta

import pytest
from managed.bodies import NOON, condition, job, kueue_workload, pod, run, seen

from windward.cluster.kube_pods import MOST_MESSAGES, keep_end, pod_end
from windward.cluster.managed_runs import is_held, is_released, runs_of
from windward.domain.run import Phase, TroubleReason

PAUSED = {"windward.dev/held-at": "2026-05-01T12:30:00Z u-1"}
GATED = {"kueue.x-k8s.io/admission-gated-by": "other.example/gate, windward.dev/greenjob"}
ADMITTED = {"Admitted": (5, "Admitted", "", "True"), "QuotaReserved": (5, "QuotaReserved", "", "True")}
NO_QUOTA = {"QuotaReserved": (5, "Pending", "insufficient quota for cpu in flavor north", "False")}
EVICTED = {"Evicted": (40, "Preempted", "by a higher priority", "True"), "Admitted": (40, "", "", "False")}


def minutes(n):
    return NOON + timedelta(minutes=n)


def phases(observed):
    return [(r.attempt, r.phase) for r in runs_of(observed)]


def test_a_suspended_job_that_never_ran_has_no_run_and_is_held_by_nobody():
    shown = seen(job())
    assert (runs_of(shown), is_released(shown), is_held(shown)) == ((), False, False)


def test_a_number_that_was_claimed_and_not_started_is_no_run():
    assert phases(seen(job(kept={"attempt": 1, "attemptRegion": "north"}))) == []


def test_a_released_job_is_its_claimed_run_in_the_region_that_was_claimed():
    body = job(kept={"attempt": 1, "attemptRegion": "north"}, suspend=False)
    (only,) = runs_of(seen(body, [pod(pending=True)]))
    assert (only.attempt, only.phase, only.region, only.started_at) == (1, Phase.STARTING, "north", None)


def test_a_job_that_its_user_started_is_adopted_as_run_1():
    (only,) = runs_of(seen(job(suspend=False), [pod(running=10)]))
    assert (only.attempt, only.phase, only.started_at) == (1, Phase.RUNNING, minutes(10))


def test_a_run_starts_with_its_first_pod():
    (only,) = runs_of(seen(job(suspend=False), [pod("a", running=12), pod("b", running=10)]))
    assert only.started_at == minutes(10)


def test_between_two_pods_a_run_goes_on():
    kept = {"attempt": 1, "runs": [run(1, "Running", started=10)]}
    (only,) = runs_of(seen(job(kept=kept, suspend=False), [pod(terminated=(10, 20, 1))]))
    assert (only.phase, only.started_at) == (Phase.RUNNING, minutes(10))


def test_what_is_suspended_and_still_has_pods_is_stopping():
    kept = {"attempt": 1, "runs": [run(1, "Running", started=10)]}
    (only,) = runs_of(seen(job(PAUSED, kept=kept), [pod(running=10)]))
    assert only.phase is Phase.STOPPING


@pytest.mark.parametrize(("code", "told"), [(75, 75), (143, 143), (None, None)])
def test_a_pause_has_the_exit_code_that_a_watch_saw_and_none_where_it_saw_none(code, told):
    kept = {"attempt": 1, "runs": [run(1, "Stopping", started=10)]}
    ends = [pod_end(pod(terminated=(10, 31, code)))] if code is not None else []
    status = {"conditions": [condition("Suspended", 30)]}
    (only,) = runs_of(seen(job(PAUSED, kept=kept, status=status), ends=ends))
    assert (only.phase, only.pause_requested, only.exit_code) == (Phase.PAUSED, True, told)
    assert (only.started_at, only.finished_at) == (minutes(10), minutes(31 if code else 30))


def test_a_suspension_that_is_not_ours_is_its_users_and_the_job_waits_for_them():
    kept = {"attempt": 1, "runs": [run(1, "Running", started=10)]}
    shown = seen(job(kept=kept, status={"conditions": [condition("Suspended", 30)]}))
    assert phases(shown) == [(1, Phase.PAUSED)]
    assert not runs_of(shown)[0].pause_requested
    assert is_held(shown)


def test_what_its_user_resumed_is_the_next_run():
    kept = {"attempt": 1, "runs": [run(1, "Paused", started=10, finished=30)]}
    shown = seen(job(kept=kept, suspend=False), [pod("b", running=40)])
    assert phases(shown) == [(1, Phase.PAUSED), (2, Phase.RUNNING)]
    assert runs_of(shown)[1].started_at == minutes(40)


def test_pods_of_an_earlier_run_are_not_counted_again():
    kept = {"attempt": 2, "runs": [run(1, "Paused", started=10, finished=30), run(2, "Running", started=50)]}
    earlier, now = pod("a", terminated=(10, 20, 0)), pod("b", running=50)
    assert runs_of(seen(job(kept=kept, suspend=False), [earlier, now]))[1].started_at == minutes(50)


def test_a_complete_job_succeeded_and_a_failed_one_says_why():
    done = job(suspend=False, status={"conditions": [condition("Complete", 55)]}, kept={"attempt": 1})
    (only,) = runs_of(seen(done, [pod(terminated=(10, 54, 0))]))
    assert (only.phase, only.exit_code, only.started_at, only.finished_at) == (
        Phase.SUCCEEDED, 0, minutes(10), minutes(54),
    )  # fmt: skip
    why = condition("Failed", 55, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    (only,) = runs_of(seen(job(suspend=False, status={"conditions": [why]}), [pod(terminated=(10, 54, 3))]))
    assert (only.phase, only.exit_code) == (Phase.FAILED, 3)
    assert only.message == "BackoffLimitExceeded: Job has reached the specified backoff limit"


def test_progress_is_the_share_of_completions():
    body = job(suspend=False, completions=8, parallelism=2, status={"succeeded": 6})
    assert runs_of(seen(body, [pod(running=10)]))[0].progress == 0.75


def test_a_gated_workload_waits_and_is_not_released():
    shown = seen(job(GATED), workload=kueue_workload(), queued=True)
    assert (runs_of(shown), is_released(shown), is_held(shown)) == ((), False, False)


def test_without_a_gate_its_queue_may_start_it():
    shown = seen(job(), workload=kueue_workload(**NO_QUOTA), queued=True)
    assert (runs_of(shown), is_released(shown)) == ((), True)


def test_a_released_workload_without_quota_waits_in_kueues_words():
    body = job(kept={"attempt": 1, "attemptRegion": "north"})
    (only,) = runs_of(seen(body, workload=kueue_workload(**NO_QUOTA), queued=True))
    assert only.phase is Phase.STARTING
    assert only.trouble is not None
    assert only.trouble.reason is TroubleReason.AWAITING_QUOTA
    assert only.trouble.cause == "Pending: insufficient quota for cpu in flavor north"
    assert only.trouble.since == minutes(5)


def test_an_admitted_workload_runs_whatever_kueue_does_to_suspend():
    body = job(kept={"attempt": 1}, suspend=False)
    assert phases(seen(body, [pod(running=10)], workload=kueue_workload(**ADMITTED), queued=True)) == [
        (1, Phase.RUNNING)
    ]


def test_a_workload_that_its_queue_evicted_is_paused_and_may_start_again():
    kept = {"attempt": 1, "runs": [run(1, "Running", started=10)]}
    shown = seen(job(kept=kept), workload=kueue_workload(**EVICTED), queued=True)
    (only,) = runs_of(shown)
    assert (only.phase, only.pause_requested, only.message) == (Phase.PAUSED, True, "Preempted: by a higher priority")
    assert (is_released(shown), is_held(shown)) == (True, False)


def test_a_workload_that_an_administrator_deactivated_is_theirs_and_one_that_we_did_is_ours():
    off = kueue_workload(active=False)
    assert is_held(seen(job(), workload=off, queued=True))
    ours = seen(job(PAUSED), workload=off, queued=True)
    assert (is_held(ours), is_released(ours)) == (False, False)


def test_a_status_that_was_copied_with_a_manifest_is_none_of_the_new_object():
    body = job(kept={"attempt": 3, "runs": [run(3, "Succeeded", started=1, finished=2)]})
    body["metadata"]["uid"] = "another"
    assert runs_of(seen(body)) == ()


def test_the_last_words_of_very_many_pods_are_not_all_kept():
    ends = {}
    for n in range(MOST_MESSAGES + 2):
        keep_end(ends, replace(pod_end(pod(f"p{n}", terminated=(1, 2, 0))), message="x" * 4096))
    assert len(ends) == MOST_MESSAGES + 2, "that they ended is known of all"
    assert sum(len(e.message) for e in ends.values()) == 4096 * MOST_MESSAGES
    first = next(iter(ends.values()))
    keep_end(ends, first)
    assert ends[first.pod_uid].message == first.message, "seen twice, kept"

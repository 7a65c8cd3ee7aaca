"""`reconcile` and `conclude`: the rules around the decision: refusals, receipts, statuses, wake-ups."""

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.cases import DONE, HOUR, MINUTE, T0, observed, planned, run
from lifecycle.test_accounting import BOTH, REGIONS, row

from windward.domain.observed import CreateRun, DeleteJob, Finish, PauseRun
from windward.domain.run import Phase
from windward.lifecycle.accounting import account
from windward.lifecycle.deleted_jobs import LONGEST, DeletedJobs
from windward.lifecycle.reconcile import (
    SETTLE_EVERY,
    SETTLE_SOON,
    Facts,
    Memory,
    Outcome,
    Reporting,
    conclude,
    reconcile,
    wake_at,
)

NOW = planned((0, 2))  # its window is open
LATER = planned((3, 5))
AT_END = Facts(reporting=Reporting.AT_END)
SECOND = timedelta(seconds=1)


def step(job, plan, facts=None, memory=None, now=T0 + MINUTE, outcome=None):
    """One cycle without a cluster: verdict, and what it leaves."""
    facts = facts or Facts()
    verdict = reconcile(job, plan, facts, memory or Memory(), now)
    return verdict, conclude(job, plan, facts, verdict, outcome or Outcome(), now)


def ended(ttl=None, **accounting):
    account = {"energyJoules": "3600", **accounting}
    status = {"conditions": [DONE], "finishedAt": "2026-03-02T08:00:00Z", "accounting": account}
    return observed(run(phase=Phase.SUCCEEDED, end_h=2), status=status, ttlSecondsAfterFinished=ttl)


def kinds(verdict):
    return [type(a) for a in verdict.actions]


def test_an_open_window_creates_a_run_and_reports_it():
    verdict, conclusion = step(observed(), NOW, outcome=Outcome(created=True))
    assert kinds(verdict) == [CreateRun] and verdict.report and not verdict.settle
    assert conclusion.recorded and conclusion.status.attempt == 1
    assert any(e.reason == "Started" for e in conclusion.events)


def test_a_refused_run_is_asked_for_again_ever_more_rarely_and_at_once_after_a_success():
    job, memory, now, gaps = observed(), Memory(), T0 + MINUTE, []
    for _ in range(8):
        verdict, conclusion = step(job, NOW, memory=memory, now=now, outcome=Outcome(refused="quota"))
        assert kinds(verdict) == [CreateRun] and "quota" in str(conclusion.status.conditions)
        memory = conclusion.memory
        gaps.append(memory.refusal.retry_at - now)
        early, _ = step(job, NOW, memory=replace(memory, seen=None), now=memory.refusal.retry_at - SECOND)
        assert CreateRun not in kinds(early)
        now = memory.refusal.retry_at
    assert gaps == [timedelta(seconds=s) for s in (10, 20, 40, 80, 160, 300, 300, 300)]
    _, conclusion = step(job, NOW, memory=memory, now=now, outcome=Outcome(created=True))
    assert conclusion.memory.refusal is None


def test_a_refusal_keeps_no_run_from_being_paused():
    job = observed(run(start_h=0), suspend=True)
    _, before = step(observed(), NOW, outcome=Outcome(refused="no"))
    verdict, _ = step(job, NOW, memory=before.memory, now=T0 + MINUTE + SECOND)
    assert kinds(verdict) == [PauseRun]


def test_the_same_objects_are_not_looked_at_twice_until_something_is_due():
    job = observed()
    _, conclusion = step(job, LATER)
    memory = conclusion.memory
    same = reconcile(job, LATER, Facts(), memory, T0 + HOUR)
    assert same == type(same)(memory) and same.memory is memory
    assert kinds(reconcile(job, LATER, Facts(), memory, T0 + 3 * HOUR)) == [CreateRun]
    for changed in (
        {"facts": Facts(fault="a step failed")},
        {"facts": Facts(issues=("another",))},
        {"job": observed()},
    ):
        case = {"job": job, "facts": Facts()} | changed
        again = reconcile(case["job"], LATER, case["facts"], memory, T0 + HOUR)
        assert again.memory is not memory, changed


def test_a_status_is_made_when_what_it_rests_on_changed_and_not_otherwise():
    job = observed()
    _, first = step(job, LATER)
    seen = observed(status=first.status.model_dump(by_alias=True, mode="json", exclude_none=True))
    _, second = step(seen, LATER, memory=first.memory, now=T0 + 2 * MINUTE)
    assert second.status is None and not second.recorded
    moved = planned((4, 6))
    _, third = step(seen, moved, memory=second.memory, now=T0 + 3 * MINUTE)
    assert third.status.plan.windows[0].start == T0 + 4 * HOUR and third.recorded


def test_an_end_goes_with_its_receipt():
    job = observed(run(phase=Phase.SUCCEEDED, end_h=2))
    made = Outcome(account=account(job, [row(0, 2)], BOTH, REGIONS), receipt="abc")
    verdict, conclusion = step(job, None, now=T0 + 2 * HOUR, outcome=made)
    assert kinds(verdict) == [Finish] and verdict.settle
    assert conclusion.status.accounting.receipt == "abc" and conclusion.status.finished_at == T0 + 2 * HOUR


def test_where_only_ends_are_reported_no_provisional_receipt_is_made_and_nothing_between():
    verdict, conclusion = step(observed(), NOW, AT_END, outcome=Outcome(created=True))
    assert kinds(verdict) == [CreateRun] and not verdict.report and conclusion.status is None
    job = observed(run(phase=Phase.SUCCEEDED, end_h=2))
    verdict, conclusion = step(job, None, AT_END, now=T0 + 2 * HOUR)
    assert verdict.report and not verdict.settle and not conclusion.recorded and conclusion.status is not None


@pytest.mark.parametrize(("pending", "after"), [(False, SETTLE_EVERY), (True, SETTLE_SOON)])
def test_an_open_receipt_is_made_again_every_hour_and_soon_where_hours_are_pending(pending, after):
    now, job = T0 + 3 * HOUR, ended()  # it ended an hour ago
    verdict, conclusion = step(job, None, now=now, outcome=Outcome(pending=pending))
    assert verdict.settle
    memory = replace(conclusion.memory, seen=None)
    assert not step(job, None, memory=memory, now=now + after - SECOND)[0].settle
    assert step(job, None, memory=memory, now=now + after)[0].settle


def test_a_final_receipt_is_never_made_again():
    assert not step(ended(settled=True), None, now=T0 + 90 * HOUR)[0].settle


def test_the_time_to_live_waits_for_the_receipt():
    assert kinds(step(ended(ttl=60, settled=True), None, now=T0 + 3 * HOUR)[0]) == [DeleteJob]
    assert kinds(step(ended(ttl=60), None, now=T0 + 3 * HOUR)[0]) == []
    assert kinds(step(ended(ttl=60), None, now=T0 + 31 * 24 * HOUR)[0]) == [DeleteJob], "not for ever"


def test_the_next_wake_up_is_the_next_edge_of_the_plan():
    job, plan = observed(), planned((1, 2), (5, 6))
    assert [wake_at(job, plan, T0 + h * HOUR) for h in (0, 1, 2, 5.5)] == [
        T0 + HOUR, T0 + 2 * HOUR, T0 + 5 * HOUR, T0 + 6 * HOUR
    ]  # fmt: skip
    assert wake_at(job, None, T0) is None and wake_at(job, plan, T0 + 11 * HOUR) is None


def test_deleted_jobs_are_settled_on_until_their_receipt_is_final_or_long_gone():
    jobs, job = DeletedJobs(), ended()
    jobs.keep([job], T0)
    jobs.keep([], T0)
    assert jobs.due(T0) == [] and jobs.due(T0 + SETTLE_SOON) == [job]
    jobs.settled(job.uid, False, False, T0 + SETTLE_SOON)
    assert jobs.due(T0 + SETTLE_EVERY) == [] and jobs.due(T0 + SETTLE_EVERY + SETTLE_SOON) == [job]
    jobs.settled(job.uid, True, False, T0 + 2 * HOUR)
    assert len(jobs) == 0
    jobs.keep([job], T0)
    jobs.keep([], T0)
    assert jobs.due(T0 + LONGEST + HOUR) == [] and len(jobs) == 0
    jobs.keep([ended(settled=True)], T0)
    jobs.keep([], T0)
    assert len(jobs) == 0, "a final receipt needs nothing more"

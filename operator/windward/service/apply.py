"""Performs verdicts: the only place that turns decisions on a GreenJob into writes. It holds no rule on when to act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from windward.cluster import Cluster, Refused
from windward.domain.fleet import Region
from windward.domain.forecast import Forecast
from windward.domain.observed import Action, CreateRun, DeleteJob, Hold, Observed, PauseRun
from windward.domain.plan import JobPlan
from windward.lifecycle.reconcile import Facts, Memory, Outcome, Reporting, Verdict, conclude, reconcile
from windward.lifecycle.work import expected_intensity_g_per_kwh
from windward.manifests import RunFacts
from windward.service.accountant import Accountant
from windward.service.planned import plan_body
from windward_api.greenregion import GreenRegion


@dataclass(frozen=True, slots=True)
class CycleContext:
    """What all jobs of one cycle share.

    Attributes:
        regions: as the planner sees them, by name.
        objects: the GreenRegions that they come from.
        forecasts: by zone.
    """

    cluster: Cluster
    accountant: Accountant
    regions: Mapping[str, Region]
    objects: Mapping[str, GreenRegion]
    forecasts: Mapping[str, Forecast]


def reconcile_job(
    context: CycleContext, observed: Observed, plan: JobPlan | None, facts: Facts, memory: Memory, now: datetime
) -> tuple[Memory, Verdict, Outcome]:
    """Reconciles one job: computes its verdict, performs it and writes its status. Returns memory, verdict and outcome.

    Raises:
        ClusterError, LedgerError: a write failed; the next cycle observes the result and continues from it.
    """
    verdict = reconcile(observed, plan, facts, memory, now)
    outcome = _perform(context, observed, plan, facts, verdict, now)
    conclusion = conclude(observed, plan, facts, verdict, outcome, now)
    if conclusion.recorded:
        _record(context, observed, plan, verdict.actions, now)
    if conclusion.status is not None:
        context.cluster.write_status(observed.job, conclusion.status, conclusion.events)
    return conclusion.memory, verdict, outcome


def _perform(
    context: CycleContext, observed: Observed, plan: JobPlan | None, facts: Facts, verdict: Verdict, now: datetime
) -> Outcome:
    outcome, job = Outcome(), observed.job
    for action in verdict.actions:
        match action:
            case CreateRun():
                outcome = _create(context, observed, plan, action, now)
            case PauseRun():
                context.cluster.stop_run(job, action.name)
            case Hold():
                context.cluster.hold(job)
            case DeleteJob():
                context.cluster.delete_job(job.metadata.namespace, job.metadata.name)
            case _:  # an end is written into the status
                pass
    return _settle(context, observed, facts, outcome, now) if verdict.settle else outcome


def _create(
    context: CycleContext, observed: Observed, plan: JobPlan | None, action: CreateRun, now: datetime
) -> Outcome:
    """Writes the attempt number, with a precondition, before it creates the child."""
    job = context.cluster.claim_attempt(observed, action.attempt, action.region)
    region = context.regions.get(action.region)
    forecast = context.forecasts.get(region.zone) if region is not None else None
    intensity = expected_intensity_g_per_kwh(region, forecast, plan, now)
    run = RunFacts(job, action.attempt, context.objects[action.region], intensity, action.level)
    try:
        context.cluster.create_run(run)
    except Refused as e:
        return Outcome(refused=str(e))
    return Outcome(created=True)


def _settle(context: CycleContext, observed: Observed, facts: Facts, outcome: Outcome, now: datetime) -> Outcome:
    """Records the receipt when a job ends, and again while its intensities may be revised."""
    settlement = context.accountant.settle(
        observed,
        context.regions,
        observed.job.status.finished_at or now,
        provisional=facts.reporting is Reporting.EACH_CHANGE,
    )
    return replace(outcome, account=settlement.account, receipt=settlement.receipt, pending=settlement.pending)


def _record(
    context: CycleContext, observed: Observed, plan: JobPlan | None, actions: tuple[Action, ...], now: datetime
) -> None:
    """Writes the decision and the plan that it follows into the ledger."""
    meta = observed.job.metadata
    body = {
        "actions": [{"do": type(a).__name__, **{f: getattr(a, f) for f in a.__dataclass_fields__}} for a in actions],
        "plan": plan_body(plan) if plan is not None else None,
    }
    kind = type(actions[0]).__name__ if actions else "Planned"
    context.accountant.ledger.record_decision(meta.uid, meta.namespace, meta.name, now, kind, body)

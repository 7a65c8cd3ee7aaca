"""GreenJobs, runs and plans for tables, in a few words each."""

from datetime import UTC, datetime, timedelta

from windward.domain.observed import Observed
from windward.domain.plan import JobPlan, Reason, Window
from windward.domain.run import Phase, Run, run_name
from windward_api.contract import EnergyComponent, EnergySeries, Outcome, Progress, Report
from windward_api.greenjob import GreenJob

T0 = datetime(2026, 3, 2, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
UID = "0badcafe-0000-4000-8000-000000000001"
DONE = {"type": "Complete", "status": "True", "reason": "Succeeded"}
BROKEN = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}


def greenjob(status=None, metadata=None, **spec):
    whole = {
        "completeWithin": "12h",
        "duration": "2h",
        "placement": {"regions": ["north", "south"], "home": "south"},
        "power": {"watts": 360},
        "template": {"spec": {"containers": [{"name": "main", "image": "x", "command": ["true"]}]}},
    } | spec
    meta = {"name": "night", "namespace": "ml", "uid": UID, "creationTimestamp": "2026-03-02T06:00:00Z"}
    return GreenJob.model_validate(
        {
            "metadata": meta | (metadata or {}),
            "spec": {k: v for k, v in whole.items() if v is not None},
            "status": status or {},
        }
    )


SLOW = {"watts": 360, "levels": [{"name": "slow", "watts": 120, "duration": "4h"}]}  # half as fast, a third of the draw


def run(attempt=1, phase=Phase.RUNNING, region="north", start_h=0.0, end_h=None, code=None, **more):
    live = phase.live
    codes = {Phase.PAUSED: 75, Phase.SUCCEEDED: 0, Phase.FAILED: 1}
    return Run(
        run_name("night", UID, attempt), attempt, region, phase,
        pod_uid=more.pop("pod_uid", f"pod-{attempt}"),
        started_at=None if phase is Phase.STARTING else T0 + start_h * HOUR,
        finished_at=None if live else T0 + (start_h + 1 if end_h is None else end_h) * HOUR,
        exit_code=code if code is not None else codes.get(phase),
        pause_requested=more.pop("pause_requested", phase is Phase.PAUSED),
        **more,
    )  # fmt: skip


def observed(*runs, **job):
    return Observed(greenjob(**job), runs)


def planned(*spans, reason=Reason.CLEANER_WINDOW, region="north", grams=100.0, **more):
    """A plan with windows [(from hour, to hour)] or [(from, to, region)]."""
    windows = tuple(
        Window(s[2] if len(s) > 2 else region, T0 + s[0] * HOUR, T0 + s[1] * HOUR, grams / len(spans)) for s in spans
    )
    return JobPlan(
        "ml/night", reason, windows, grams if spans else None, 250.0, T0 + 9.9 * HOUR, bool(spans), "Because.", **more
    )


def report(fraction=0.5, joules=(), start_h=0.0, step_s=600.0, outcome=Outcome.PAUSED, method="measured", **more):
    energy = None
    if joules:
        part = EnergyComponent(name="gpu", method=method, source="nvml", joules=tuple(joules))
        energy = EnergySeries(start=T0 + start_h * HOUR, step_s=step_s, components=(part,))
    return Report(outcome=outcome, progress=Progress(fraction=fraction, **more), energy=energy)

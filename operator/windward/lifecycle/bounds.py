"""Checks what a container and the kubelet report of a run against its child's lifetime and the power of hardware."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from windward.domain.run import Run
from windward_api.contract import EnergySeries

SKEW = timedelta(minutes=5)  # by which clocks of nodes and of the API server may differ
_EDGE_S = 60.0  # a meter's first and last step, and a slow clock, may reach so far beyond a run


def within_bounds(run: Run, created_at: datetime, now: datetime, most_power_w: float) -> Run:
    """Returns the run with its times moved into the lifetime of its child, and without an implausible energy report.

    The run's message names what was set aside. Energy without a report counts as declared.

    Args:
        created_at: when its child was created, by the API server's clock.
        most_power_w: more than the work's hardware can draw.
    """
    run = _timed(run, created_at, now)
    if run.report is None or run.report.energy is None:
        return run
    ran_s = run.ran_for(now).total_seconds() / run.time_scale
    real_start = run.started_real or run.started_at
    why = _implausible(run.report.energy, ran_s, real_start, most_power_w)
    if why is None:
        return run
    note = f"its energy report was set aside: {why}"
    report = run.report.model_copy(update={"energy": None})
    return replace(run, report=report, message="; ".join(x for x in (note, run.message) if x)[:512])


def _timed(run: Run, created_at: datetime, now: datetime) -> Run:
    """Times that lie outside of the child's life by more than clocks differ are moved to its ends."""
    started, finished = _moved(run.started_at, created_at, now), _moved(run.finished_at, created_at, now)
    if started is not None and finished is not None and finished < started:
        finished = started
    if (started, finished) == (run.started_at, run.finished_at):
        return run
    note = "its container's times lie outside of its life, and count from its creation to now at most"
    message = "; ".join(x for x in (note, run.message) if x)[:512]
    return replace(run, started_at=started, finished_at=finished, message=message)


def _moved(moment: datetime | None, created_at: datetime, now: datetime) -> datetime | None:
    if moment is None or created_at - SKEW <= moment <= now + SKEW:
        return moment
    return min(max(moment, created_at), max(now, created_at))


def _implausible(energy: EnergySeries, ran_s: float, real_start: datetime | None, most_power_w: float) -> str | None:
    """Why a series cannot be the energy of a run of `ran_s` real seconds; None where it can."""
    steps = max((len(c.joules) for c in energy.components), default=0)
    if steps == 0:
        return None
    slack_s = _EDGE_S + energy.step_s  # the last step may be partial
    if (steps - 1) * energy.step_s > ran_s + _EDGE_S:
        return f"it covers {(steps - 1) * energy.step_s:.0f} s or more of a run of {ran_s:.0f} s"
    if real_start is not None and abs((energy.start - real_start).total_seconds()) > ran_s + SKEW.total_seconds():
        return f"it begins at {energy.start:%Y-%m-%d %H:%MZ}, outside of the run"
    most_j = most_power_w * (ran_s + slack_s)
    if energy.total_j > most_j:
        return f"{energy.total_j:.3g} J in {ran_s:.0f} s is more than its hardware can draw ({most_power_w:.0f} W)"
    return None

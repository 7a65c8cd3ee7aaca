"""Decides when the energy of a run can go into the ledger; computes what a job has emitted so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from windward.domain.energy import EnergyInterval
from windward.domain.fleet import Region
from windward.domain.observed import Observed
from windward.domain.run import Phase, Run
from windward.domain.series import Series
from windward.lifecycle.accounting import Account
from windward.lifecycle.work import power_w

LAST_REPORT = timedelta(seconds=15)  # within which the report of a stopped run may still come


def is_final(run: Run, now: datetime) -> bool:
    """Returns whether a run has ended and no report can follow. Ledger rows are never changed, and the report of a run
    that was asked to stop may arrive shortly after its pod is gone."""
    if run.phase.live:
        return False
    unreported = run.report is None and run.phase in (Phase.PAUSED, Phase.LOST)
    return not unreported or run.finished_at is None or now >= run.finished_at + LAST_REPORT


def has_unbooked_energy(observed: Observed, rows: Sequence[EnergyInterval]) -> bool:
    """Returns whether a run computed and none of its energy is in the ledger yet."""
    booked = {r.attempt for r in rows}
    return any(
        r.started_at is not None and r.started_at != r.finished_at and r.attempt not in booked for r in observed.runs
    )


def emitted_g(
    observed: Observed,
    account: Account | None,
    regions: Mapping[str, Region],
    series: Mapping[str, Series],
    now: datetime,
) -> float:
    """Returns the grams emitted so far: those of the ledger, plus declared watts x time of live runs. Hours of unknown
    intensity count as zero; the account reports them as unknown.

    Args:
        series: zone -> intensities.
    """
    grams = (account.emissions_g or 0.0) if account is not None else 0.0
    for run in observed.live:
        region = regions.get(run.region)
        known = series.get(region.zone) if region is not None else None
        if region is None or known is None or run.started_at is None or not run.started_at < now:
            continue
        if known.covers(run.started_at, now):
            hours = (now - run.started_at) / timedelta(hours=1)
            mean = region.effective(known).mean(run.started_at, now)
            grams += power_w(observed.job.spec, run.level) / 1000 * hours * mean * region.pue
    return grams

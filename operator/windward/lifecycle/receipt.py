"""The receipt: what a stranger needs to compute every gram of a job again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from windward.domain.fleet import OnSite, Region
from windward.domain.observed import Observed
from windward.domain.run import Phase, Run
from windward.domain.series import Series
from windward.lifecycle.accounting import Account, Piece, reference
from windward.lifecycle.decide import end_of
from windward.lifecycle.work import home_of
from windward_api.scalars import format_time

FORMULA = "grams = joules / 3.6e6 x intensity (g/kWh, mean over the interval) x PUE"
BASELINE = (
    "the useful work, which is what was kept, at the mean power that was seen, unbroken from submission, in the home "
    "region; work that failed for good has no baseline"
)
LEVELS = "a run at a power level counts there as if it had run as declared: its time x speed, its power x draw"
DEMO_MARK = "DEMO DATA: recorded intensities of another year; not for reporting"


def receipt_of(
    observed: Observed,
    account: Account,
    intensities: Mapping[str, Series],
    regions: Mapping[str, Region],
    finished_at: datetime,
) -> dict[str, Any]:
    """The receipt as JSON: totals, baseline, and every interval with what it was multiplied by."""
    meta = observed.job.metadata
    demo = any(s.demo for s in intensities.values())
    scales = sorted({p.row.time_scale for p in account.pieces})
    out: dict[str, Any] = {
        "apiVersion": "cli.windward.dev/v1",
        "kind": "Receipt",
        "job": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid, "generation": meta.generation},
        "submittedAt": format_time(meta.creation_timestamp) if meta.creation_timestamp else None,
        "finishedAt": format_time(finished_at),
        "finishBy": format_time(observed.finish_by),
        "lateSeconds": max(0.0, (finished_at - observed.finish_by).total_seconds()),
        "outcome": _outcome(observed),
        "failedRuns": sum(r.phase is Phase.FAILED for r in observed.runs),
        "energyJoules": account.energy_j,
        "emissionsGrams": account.emissions_g,
        "runNowGrams": account.run_now_g,
        "savedGrams": account.saved_g,
        "meanPowerWatts": account.mean_power_w,
        "runTimeSeconds": account.run_time_s,
        "method": account.method,
        "settled": account.settled,
        "formula": FORMULA,
        "baseline": _baseline(observed, account, regions),
        "work": _work(observed, account),
        "runs": [_run(r) for r in observed.runs],
        "intensity": [_source(s) for _, s in sorted(intensities.items())],
        "intervals": [_interval(p) for p in account.pieces],
    }
    if scales and scales != [1.0]:
        out["timeScale"] = scales[-1]
        out["note"] = (
            f"clock at {scales[-1]:g} x real time: a measured watt counts over {scales[-1]:g} times the seconds it ran"
        )
    own = {p.row.region: regions[p.row.region].on_site for p in account.pieces if p.row.region in regions}
    if any(own.values()):
        out["onSite"] = [_on_site(name, o) for name, o in sorted(own.items()) if o is not None]
    if demo:
        out["demo"] = DEMO_MARK
    return out


def _outcome(observed: Observed) -> str:
    end = end_of(observed)
    return "Unfinished" if end is None else "Succeeded" if end.succeeded else "Failed"


def _run(r: Run) -> dict[str, Any]:
    out = {"name": r.name, "attempt": r.attempt, "region": r.region, "phase": str(r.phase), "exitCode": r.exit_code}
    return out | ({"powerLevel": r.level} if r.level else {})


def _on_site(region: str, own: OnSite) -> dict[str, Any]:
    """The declaration that is part of this region's intensities: share x own + (1 - share) x grid."""
    return {
        "region": region,
        "intensityGramsPerKwh": own.intensity_g_per_kwh,
        "hoursUtc": [{"from": a, "to": b, "share": share} for a, b, share in own.spans],
        "method": "declared",
    }


def _baseline(observed: Observed, account: Account, regions: Mapping[str, Region]) -> dict[str, Any] | None:
    home = regions.get(home_of(observed.job.spec))
    submitted = observed.job.metadata.creation_timestamp
    if home is None or submitted is None or not account.pieces or _outcome(observed) == "Failed":
        return None
    same = reference(observed, [p.row for p in account.pieces])
    out = {
        "what": BASELINE,
        "region": home.name,
        "zone": home.zone,
        "pue": home.pue,
        "start": submitted.isoformat(),
        "end": (submitted + timedelta(seconds=same.useful_s)).isoformat(),
        "usefulSeconds": same.useful_s,
        "meanPowerWatts": same.power_w,
    }
    levels = [{"attempt": v.attempt, "powerLevel": v.level, "speed": v.speed, "draw": v.draw} for v in same.levels]
    return out | ({"levels": levels, "levelsNote": LEVELS} if levels else {})


def _work(observed: Observed, account: Account) -> dict[str, Any]:
    told = [r.report.progress for r in observed.runs if r.report is not None and r.report.progress is not None]
    units = max((t.units_done for t in told), default=0.0)
    return {
        "unitsDone": units,
        "unit": told[-1].unit if told else "",
        "joulesPerUnit": account.energy_j / units if units else None,
        "metrics": dict(told[-1].metrics) if told else {},
    }


def _source(series: Series) -> dict[str, Any]:
    return {
        "zone": series.zone,
        "source": series.source,
        "kind": str(series.kind),
        "issuedAt": format_time(series.issued_at),
        "attribution": series.attribution,
    }


def _interval(piece: Piece) -> dict[str, Any]:
    row = piece.row
    return {
        "attempt": row.attempt,
        "start": row.start.isoformat(),
        "end": row.end.isoformat(),
        "component": row.component,
        "joules": row.joules,
        "method": row.method,
        "source": row.source,
        "region": row.region,
        "zone": row.zone,
        "pue": row.pue,
        "intensityGramsPerKwh": piece.intensity_g_per_kwh,
        "emissionsGrams": piece.emissions_g,
    }

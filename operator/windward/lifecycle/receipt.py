"""The receipt of a job: its account with every input that is needed to recompute it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from windward.domain.fleet import OnSite, Region
from windward.domain.observed import Observed
from windward.domain.run import Phase, Run
from windward.domain.series import Series
from windward.lifecycle.accounting import Account, WeighedInterval
from windward.lifecycle.baseline import Baseline, Kept, Levers, counted_duration, levers_of
from windward.lifecycle.decide import end_of
from windward.lifecycle.work import home_of, power_w
from windward_api.scalars import format_time

FORMULA = "grams = joules / 3.6e6 x intensity (g/kWh, mean over the interval) x PUE"
BASELINE = (
    "the useful work, which is what was kept, with the energy of its stretches as declared, unbroken from submission, "
    "in the home region; work that failed for good has no baseline"
)
KEPT = (
    "useful seconds: (end - start) x share x speed; useful joules: those of the stretch x share x speed x draw; a "
    "power level counts as if it had run as declared"
)
DEMO_MARK = "DEMO DATA: recorded intensities of another year; not for reporting"
SIMULATED_MARK = "SIMULATED: no job ran; stands in no total of real ones"

REHEARSAL_MARK = "REHEARSAL: the hours that it counts with are not those in which it ran; not for reporting"


def receipt_of(
    observed: Observed,
    account: Account,
    intensities: Mapping[str, Series],
    regions: Mapping[str, Region],
    finished_at: datetime,
    *,
    simulated: bool = False,
) -> dict[str, Any]:
    """Returns the receipt as JSON: totals, baseline, and every interval with its intensity and PUE.

    Args:
        simulated: whether the runs were simulated; the receipt is marked so.
    """
    meta = observed.job.metadata
    demo = any(s.demo for s in intensities.values())
    scales = sorted({p.row.time_scale for p in account.intervals})
    sources = [_source(s) for _, s in sorted(intensities.items())]
    vintages = {s["zone"]: s["vintage"] for s in sources}
    levers = _levers_of(account, intensities, regions)
    out: dict[str, Any] = {
        "apiVersion": "cli.windward.dev/v1",
        "kind": "Receipt",
        "job": {"namespace": meta.namespace, "name": meta.name, "uid": meta.uid, "generation": meta.generation},
        "submittedAt": format_time(meta.creation_timestamp) if meta.creation_timestamp else None,
        "finishedAt": format_time(finished_at),
        "finishBy": format_time(observed.finish_by),
        "lateSeconds": _late_s(finished_at, observed.finish_by),
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
        "baseline": None if account.baseline is None else _baseline(account.baseline, vintages),
        "levers": None if levers is None else _levers(levers),
        "work": _work(observed, account),
        "declared": _declared(observed, account),
        "runs": [_run(r) for r in observed.runs],
        "intensity": sources,
        "intervals": [_interval(p, vintages) for p in account.intervals],
    }
    if scales and scales != [1.0]:
        out["timeScale"] = scales[-1]
        out["note"] = (
            f"clock at {scales[-1]:g} x real time: a measured watt counts over {scales[-1]:g} times the seconds it ran"
        )
    elif any(_rehearsed(r) for r in observed.runs):
        out["rehearsal"] = REHEARSAL_MARK
    names = {p.row.region for p in account.intervals} | ({account.baseline.region.name} if account.baseline else set())
    own = {name: regions[name].on_site for name in names if name in regions}
    if any(own.values()):
        out["onSite"] = [_on_site(regions[name], o) for name, o in sorted(own.items()) if o is not None]
    if demo:
        out["demo"] = DEMO_MARK
    if simulated:
        out["simulated"] = SIMULATED_MARK
    return out


def _levers_of(account: Account, intensities: Mapping[str, Series], regions: Mapping[str, Region]) -> Levers | None:
    if account.baseline is None or account.emissions_g is None:
        return None
    return levers_of(account.baseline, [p.row for p in account.intervals], account.emissions_g, intensities, regions)


def _late_s(finished_at: datetime, finish_by: datetime) -> float:
    """By how much a job was late, from times rounded down to whole seconds, as the receipt shows them."""
    return max(0.0, (finished_at.replace(microsecond=0) - finish_by.replace(microsecond=0)).total_seconds())


def _rehearsed(run: Run) -> bool:
    """Whether a run's planned time is another than the real one, by more than a machine's clock is set."""
    if run.started_at is None or run.started_real is None:
        return False
    return abs(run.started_at - run.started_real) > timedelta(minutes=1)


def _outcome(observed: Observed) -> str:
    end = end_of(observed)
    return "Unfinished" if end is None else "Succeeded" if end.succeeded else "Failed"


def _declared(observed: Observed, account: Account) -> dict[str, Any]:
    """What the manifest says of the work, on which the baseline rests. Of a duration that it does not say, the source
    is named."""
    spec = observed.job.spec
    levels = spec.power.levels if spec.power is not None else ()
    takes = counted_duration(observed, [p.row for p in account.intervals])
    source = {} if spec.duration is not None else {"durationSource": str(observed.durations.source)}
    return source | {
        "home": home_of(spec),
        "durationSeconds": takes.total_seconds(),
        "overheadSeconds": observed.job.overhead().total_seconds(),
        "powerWatts": power_w(spec),
        "levels": [
            {"name": v.name, "watts": float(v.watts), "durationSeconds": v.duration.total_seconds()} for v in levels
        ],
    }


def _run(r: Run) -> dict[str, Any]:
    out = {
        "name": r.name, "attempt": r.attempt, "region": r.region, "phase": str(r.phase), "exitCode": r.exit_code,
        "progress": r.done_share,
    }  # fmt: skip
    return out | ({"powerLevel": r.level} if r.level else {})


def _on_site(region: Region, own: OnSite) -> dict[str, Any]:
    """The declaration that is part of this region's intensities: share x own + (1 - share) x grid."""
    return {
        "region": region.name,
        "zone": region.zone,
        "intensityGramsPerKwh": own.intensity_g_per_kwh,
        "hoursUtc": [{"from": a, "to": b, "share": share} for a, b, share in own.spans],
        "method": "declared",
    }


def _baseline(baseline: Baseline, vintages: Mapping[str, str]) -> dict[str, Any]:
    home = baseline.region
    return {
        "what": BASELINE,
        "region": home.name,
        "zone": home.zone,
        "pue": home.pue,
        "start": baseline.start.isoformat(),
        "end": baseline.end.isoformat(),
        "usefulSeconds": baseline.useful_s,
        "energyJoules": baseline.energy_j,
        "meanPowerWatts": baseline.power_w,
        "intensityGramsPerKwh": baseline.intensity_g_per_kwh,
        "quality": str(baseline.quality),
        "vintage": vintages[home.zone],
        "emissionsGrams": baseline.emissions_g,
        "kept": [_kept(k) for k in baseline.kept],
        "keptNote": KEPT,
    }


def _kept(k: Kept) -> dict[str, Any]:
    out = {"attempt": k.attempt, "start": k.start.isoformat(), "end": k.end.isoformat(), "share": k.share}
    return out | ({"powerLevel": k.level, "speed": k.speed, "draw": k.draw} if k.level else {})


def _levers(levers: Levers) -> dict[str, Any]:
    return {
        "hoursGrams": levers.hours_g,
        "placeGrams": levers.place_g,
        "powerGrams": levers.power_g,
        "overheadGrams": levers.overhead_g,
    }


def _work(observed: Observed, account: Account) -> dict[str, Any]:
    progress = [r.report.progress for r in observed.runs if r.report is not None and r.report.progress is not None]
    units = max((t.units_done for t in progress), default=0.0)
    return {
        "unitsDone": units,
        "unit": progress[-1].unit if progress else "",
        "joulesPerUnit": account.energy_j / units if units else None,
        "metrics": dict(progress[-1].metrics) if progress else {},
    }


def _source(series: Series) -> dict[str, Any]:
    """A zone's intensities as they were used, with the hash that the intervals name: [start, end, g/kWh, quality]."""
    periods = [
        [float(a), float(b), float(g), str(q)]
        for s in series.stretches
        for a, b, g, q in zip(s.edges[:-1], s.edges[1:], s.intensity_g_per_kwh, s.quality, strict=True)
    ]
    out = {
        "zone": series.zone,
        "source": series.source,
        "kind": str(series.kind),
        "issuedAt": format_time(series.issued_at),
        "attribution": series.attribution,
        "periods": periods,
    }
    text = json.dumps(out, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return out | {"vintage": hashlib.sha256(text.encode()).hexdigest()}


def _interval(interval: WeighedInterval, vintages: Mapping[str, str]) -> dict[str, Any]:
    row = interval.row
    return {
        "attempt": row.attempt,
        "podUid": row.pod_uid,
        "start": row.start.isoformat(),
        "end": row.end.isoformat(),
        "component": row.component,
        "joules": row.joules,
        "method": row.method,
        "source": row.source,
        "region": row.region,
        "zone": row.zone,
        "pue": row.pue,
        "intensityGramsPerKwh": interval.intensity_g_per_kwh,
        "quality": None if interval.quality is None else str(interval.quality),
        "vintage": vintages.get(row.zone),
        "emissionsGrams": interval.emissions_g,
    }

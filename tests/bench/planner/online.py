"""The product's own loop over forecasts as they were issued: its controller, its cache of issues, its planner.

Nothing here decides anything: jobs arrive in `windward.simulation`, which drives `Controller`, `Grid`, `Ahead` and
`plan` as an operator does, every hour and at each planned start. Issues of then and, behind their end, Windward's
forecast are all that it knows; actuals come as late as their provider publishes them.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bench.planner.fleets import trace
from bench.planner.tools import bound_of
from planning.instances import windows

from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.grid.port import ForecastInvalid, InvalidReason, NoForecast
from windward.simulation import POLICIES, Arrival, Foresight, Publication, Result, simulate
from windward.simulation.arrivals import UNIT
from windward_api.greenjob import GreenJob
from windward_api.greenregion import GreenRegion

WANTED = ("DE", "US-CAL-CISO", "US-TEX-ERCO")
KIND = Kind(Signal.AVERAGE, Scope.DIRECT, Basis.PRODUCTION)  # of carbon_direct/ and forecast/
DAYS = 12
TUNED = (35, 63, 91, 119, 147)  # days after the first issue
HOLD_OUT = (21, 49, 77, 105, 133)
HOUR = timedelta(hours=1)
FORECAST = Path(__file__).resolve().parents[1] / "forecast.yaml"


@dataclass(frozen=True)
class Recorded:
    """Zones as they were measured, and as they had been forecast; a `Provider` whose issues `issue_of` gives.

    Attributes:
        measured: zone -> hours on end, from long before the first issue where that is known.
        issued: zone -> hour of issue, counted from the epoch -> its 24 values.
    """

    measured: dict[str, Series]
    issued: dict[str, dict[int, np.ndarray]]
    name: str = "bench"
    kind: Kind = KIND
    revised_for: timedelta = timedelta(0)

    def zones(self) -> tuple[str, ...]:
        return tuple(self.measured)

    def history(self, zone: str, start: datetime, end: datetime) -> Series:
        found = self.measured[zone].clip(start, end)
        if found is None:
            raise ForecastInvalid(zone, InvalidReason.EMPTY, f"nothing is recorded from {start} to {end}")
        return found

    def issue(self, zone: str, now: datetime) -> Series:
        """The newest issue that was out, from the hour that contains `now` on."""
        hour = int(now.timestamp()) // 3600
        at = max((k for k in self.issued[zone] if hour - 24 < k <= hour), default=None)
        if at is None:
            raise NoForecast(zone, f"no issue reaches to {now}")
        start, issued_at = (datetime.fromtimestamp(3600 * h, UTC) for h in (hour, at))
        left = self.issued[zone][at][hour - at :]
        more = {"quality": Quality.FORECAST, "source": "bench", "issued_at": issued_at, "fetched_at": now}
        return Series.regular(zone, self.kind, start, HOUR, left, **more)

    def hours(self, first: datetime, count: int) -> np.ndarray:
        """(Z, count) g/kWh from `first` on."""
        return np.array([s.clip(first, first + count * HOUR).intensity_g_per_kwh for s in self.measured.values()])

    @property
    def begin(self) -> datetime:
        """The first hour at which every zone has an issue."""
        return datetime.fromtimestamp(3600 * max(min(known) for known in self.issued.values()), UTC)

    @property
    def end(self) -> datetime:
        return min(s.end for s in self.measured.values())


def recorded(data: Path) -> Recorded:
    """The zones of forecast/ that have hourly issues, with the hours before them from carbon_direct/."""
    measured, issued = {}, {}
    paths = {p.name.removesuffix(".csv.gz"): p for p in sorted((data / "forecast").glob("*.csv.gz"))}
    for name in [z for z in WANTED if z in paths] or list(paths):
        rows = _rows(paths[name])
        if not rows or "forecast_gco2_kwh" not in rows[0]:
            continue
        actual = {_hour(r["target_utc"]): float(r["actual_gco2_kwh"]) for r in rows}
        before = data / "carbon_direct" / paths[name].name
        if before.exists():
            past = {_hour(r["timestamp_utc"]): float(r["carbon_intensity_gco2_kwh"]) for r in _rows(before)}
            actual = past | actual
        hours = sorted(actual)
        if hours[-1] - hours[0] + 1 != len(hours):
            raise ValueError(f"{name}: hours are missing between {hours[0]} and {hours[-1]}")
        start = datetime.fromtimestamp(3600 * hours[0], UTC)
        measured[name] = Series.regular(
            name, KIND, start, HOUR, [actual[h] for h in hours],
            quality=Quality.MEASURED, source="bench", issued_at=start,
        )  # fmt: skip
        by_issue: dict[int, list[float]] = {}
        for r in rows:
            by_issue.setdefault(_hour(r["issued_utc"]), []).append(float(r["forecast_gco2_kwh"]))
        issued[name] = {k: np.array(v) for k, v in by_issue.items()}
    return Recorded(measured, issued)


def _rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def _hour(text: str) -> int:
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) // 3600


def lags(zones: tuple[str, ...]) -> dict[str, timedelta]:
    """How late each zone's actuals are published, as forecast.yaml says with its source."""
    said = yaml.safe_load(FORECAST.read_text())["publication_lag"]
    return {z: timedelta(hours=said[f"forecast/{z}"]["hours"]) for z in zones}


@dataclass(frozen=True)
class Fleet:
    """Jobs that arrive on full hours, counted from `begin`; of each the columns of an `Instance`."""

    begin: datetime
    arrive: np.ndarray
    slack: np.ndarray
    slots: np.ndarray
    units: np.ndarray
    energy: np.ndarray  # kWh an hour
    allowed: np.ndarray
    home: np.ndarray
    cap: float
    zones: tuple[str, ...] = field(default=())


def fleet_of(data: Path, w: Recorded, day: int, count: int, seed: int, util: float = 0.6) -> Fleet | None:
    """`count` jobs of the trace squeezed into twelve days from so many days after the first issue; None where the
    recording ends before the last of them must have."""
    begin = w.begin + timedelta(days=day)
    if begin + timedelta(days=DAYS + 4) > w.end:
        return None
    dice = np.random.default_rng([seed, day * 24])
    _, submit, duration, units = trace(data)
    fit = np.flatnonzero((duration >= 1800) & (duration <= 24 * 3600))
    pick = np.sort(dice.choice(fit, count, replace=count > len(fit)))
    slots = np.maximum(1, np.ceil(duration[pick] / 3600 - 1e-9)).astype(np.int64)
    at = submit[pick]
    arrive = ((at - at[0]) / max(1.0, at[-1] - at[0]) * (DAYS * 24 - 1)).astype(np.int64)
    slack = np.where(duration[pick] < 7200, 6, 24).astype(np.int64)
    held = np.clip(np.where(units[pick] > 0, units[pick], 1), 1, 8)
    regions = len(w.zones())
    home = dice.integers(0, regions, count)
    allowed = np.zeros((count, regions), bool)
    allowed[dice.random(count) < 0.7] = True
    allowed[np.arange(count), home] = True
    watts = dice.choice([150.0, 250.0, 300.0, 400.0], count)
    cap = float(np.ceil(max((slots * held).sum() / (DAYS * 24) / regions / util, held.max())))
    return Fleet(begin, arrive, slack, slots, held, held * watts / 1000.0, allowed, home, cap, w.zones())


def arrivals_of(fleet: Fleet, pausable: bool) -> list[Arrival]:
    """The fleet as GreenJobs: finished by arrival + slack + length, of which the product keeps 5 % in reserve."""
    names = [z.lower() for z in fleet.zones]
    out = []
    for i in range(len(fleet.arrive)):
        at, units = fleet.begin + int(fleet.arrive[i]) * HOUR, f"{int(fleet.units[i])}"
        resources = {"requests": {UNIT: units}, "limits": {UNIT: units}}
        regions = [n for n, may in zip(names, fleet.allowed[i], strict=True) if may]
        spec: dict[str, Any] = {
            "completeWithin": f"{int(fleet.slots[i] + fleet.slack[i])}h",
            "duration": f"{int(fleet.slots[i])}h",
            "placement": {"regions": regions, "home": names[int(fleet.home[i])]},
            "power": {"watts": max(1, round(1000 * float(fleet.energy[i])))},
            "interruption": {"policy": "Checkpoint", "overhead": "15m"} if pausable else {},
            "ttlSecondsAfterFinished": 7200,
            "template": {"spec": {"containers": [{"name": "main", "image": "simulated", "resources": resources}]}},
        }
        meta = {"name": f"job-{i:06d}", "namespace": "bench", "uid": f"{i:08x}-0000-4000-8000-000000000000",
                "generation": 1, "creationTimestamp": at.isoformat()}  # fmt: skip
        body = {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenJob", "metadata": meta, "spec": spec}
        out.append(Arrival(at, GreenJob.model_validate(body)))
    return out


def regions_of(fleet: Fleet, bounded: bool) -> list[GreenRegion]:
    capacity = [{"resource": UNIT, "count": int(fleet.cap)}] if bounded else []
    return [
        GreenRegion.model_validate(
            {"apiVersion": "windward.dev/v1alpha1", "kind": "GreenRegion",
             "metadata": {"name": z.lower(), "uid": f"region-{z.lower()}"},
             "spec": {"gridZone": z, "capacity": capacity}}
        ) for z in fleet.zones
    ]  # fmt: skip


def operated(
    w: Recorded,
    fleet: Fleet,
    policies: tuple[str, ...] = ("windward",),
    *,
    foresight: Foresight = Foresight.OWN,
    published: bool = True,
    pausable: bool = False,
) -> Result:
    """What the product did with a fleet.

    Args:
        published: whether it had the issues of then; else Windward's own forecast alone.
        pausable: jobs may pause, and regions have no bound.
    """
    publication = Publication(w.issue if published else None, lags(w.zones()))
    made = simulate(
        "bench", arrivals_of(fleet, pausable), regions_of(fleet, not pausable), w, [POLICIES[p] for p in policies],
        foresight=foresight, issue_every=HOUR, publication=publication,
    )  # fmt: skip
    for o in made.outcomes:
        assert o.conserved and o.unweighed == 0 and o.failed + o.unfinished == 0, o
    return made


def bound_g(w: Recorded, fleet: Fleet, compiled: bool) -> float:
    """Dual bound of the fleet with everything known, capacity kept: no plan that is in time emits less.

    Hourly starts are no restriction of it: a start between two hours is their mixture, which the relaxation has.
    """
    horizon = int((fleet.arrive + fleet.slack + fleet.slots).max())
    instance = windows(
        earliest=fleet.arrive, latest=fleet.arrive + fleet.slack, slots=fleet.slots, units=fleet.units.astype(float),
        energy_kwh=fleet.energy, allowed=fleet.allowed, intensity_g_per_kwh=w.hours(fleet.begin, horizon),
        cap=np.full((len(fleet.zones), horizon), fleet.cap),
    )  # fmt: skip
    return bound_of(instance, compiled, 300)

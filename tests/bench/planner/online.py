"""A fleet planned hour by hour on forecasts as they were issued, against the bound of one who knew everything."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from bench.planner.fleets import trace

from windward.planning.fleet import kernels
from windward.planning.fleet.instance import Instance, windows
from windward.planning.fleet.prices import ascend
from windward.planning.fleet.rolling import Arrivals, ghosts, shifted, with_change_price
from windward.planning.fleet.solve import ROLLING, Budget, solve

WANTED = ("DE", "US-CAL-CISO", "US-TEX-ERCO")
HORIZON = 60
DAYS = 12
TUNED = (7, 35, 63, 91, 119, 147)  # days after 1 July 2021
HOLD_OUT = (21, 49, 77, 105, 133)


@dataclass(frozen=True)
class World:
    """Zones over the same hours: what was measured and what had been forecast.

    Attributes:
        actual: (Z, H) g/kWh.
        issued: (Z, H, 24) forecast[z, k, i] for hour k + i, issued at k; nan where nothing was issued at k.
    """

    names: tuple[str, ...]
    actual: np.ndarray
    issued: np.ndarray


def world(data: Path) -> World:
    """The hours that all forecast zones share."""
    rows: dict[str, list[tuple[int, int, float, float]]] = {}
    for path in sorted((data / "forecast").glob("*.csv.gz")):
        with gzip.open(path, "rt") as file:
            reader = csv.DictReader(file)
            if "forecast_gco2_kwh" not in (reader.fieldnames or []):
                continue
            rows[path.name.removesuffix(".csv.gz")] = [
                (_hour(r["issued_utc"]), _hour(r["target_utc"]), float(r["forecast_gco2_kwh"]),
                 float(r["actual_gco2_kwh"])) for r in reader
            ]  # fmt: skip
    names = tuple(z for z in WANTED if z in rows) or tuple(sorted(rows)[:3])
    begin = max(min(t for _, t, _, _ in rows[z]) for z in names)
    end = min(max(t for _, t, _, _ in rows[z]) for z in names) + 1
    actual = np.full((len(names), end - begin), np.nan)
    issued = np.full((len(names), end - begin, 24), np.nan)
    for z, name in enumerate(names):
        for at, target, said, was in rows[name]:
            if begin <= target < end:
                actual[z, target - begin] = was
            if begin <= at < end and 0 <= target - at < 24:
                issued[z, at - begin, target - at] = said
    return World(names, actual, issued)


def _hour(text: str) -> int:
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()) // 3600


View = Callable[[World, int, int], np.ndarray]


@dataclass
class Known:
    """Issued values from an hour on, and where they end: (Z,) number of known hours."""

    values: list[np.ndarray]


def issued_at(w: World, z: int, k: int, horizon: int) -> np.ndarray:
    """Values issued for hours k, k + 1, .. that are known at k."""
    for back in range(48):
        if k - back >= 0 and not np.isnan(w.issued[z, k - back, 0]):
            return np.asarray(w.issued[z, k - back, back:][:horizon])
    return np.zeros(0)


def blended(w: World, k: int, horizon: int, *, fade: float = 0.95, keep: float = 0.7) -> np.ndarray:
    """Issue with nowcast, then half yesterday's shape and half the week's mean of that hour, shrunk to the mean."""
    out = np.zeros((len(w.names), horizon))
    for z in range(len(w.names)):
        said = issued_at(w, z, k, horizon)
        n = len(said)
        was = issued_before(w, z, k)
        e = np.clip(w.actual[z, k - 1] / max(was, 1e-6) - 1.0, -0.5, 0.5) if was > 0 else 0.0
        head = said * (1.0 + e * fade ** np.arange(1, n + 1))
        past = np.concatenate([w.actual[z, :k], head])
        day = past[-24:]
        tail = np.zeros(horizon - n)
        for i in range(horizon - n):
            hour = k + n + i
            weekly = np.mean(
                [w.actual[z, hour - 24 * d] for d in range(1, 12) if hour - 24 * d < k and hour - 24 * d >= 0][:7]
            )
            tail[i] = 0.5 * day[i % 24] + 0.5 * weekly
        whole = np.concatenate([head, tail])
        mean = whole.mean()
        whole[n:] = mean + keep * (tail - mean)
        out[z] = np.maximum(whole, 0.0)
    return out


def issued_before(w: World, z: int, k: int) -> float:
    """What the issue before said of the last hour."""
    said = issued_at(w, z, k - 1, 1)
    return float(said[0]) if len(said) else 0.0


def perfect(w: World, k: int, horizon: int) -> np.ndarray:
    return np.pad(w.actual[:, k : k + horizon], ((0, 0), (0, max(0, k + horizon - w.actual.shape[1]))), mode="edge")


@dataclass(frozen=True)
class Policy:
    """What is tried: docs/planning.md 7 has the figures."""

    view: View = blended
    move: float = 0.015  # of a job's grams
    delay: float = 0.001  # of intensity an hour ahead
    ghost_days: int = 3
    ghost_share: float = 0.8
    budget: Budget = ROLLING


@dataclass
class Fleet:
    """Jobs over hours counted from the fortnight's first."""

    arrive: np.ndarray
    slack: np.ndarray
    slots: np.ndarray
    units: np.ndarray
    energy: np.ndarray
    allowed: np.ndarray
    home: np.ndarray
    cap: float
    began: int
    instance: Instance = field(repr=False, default=None)  # type: ignore[assignment]


def fleet_of(data: Path, w: World, began: int, count: int, seed: int, util: float = 0.6) -> Fleet:
    """`count` jobs of the trace squeezed into twelve days from hour `began`."""
    dice = np.random.default_rng([seed, began])
    _, submit, duration, units = trace(data)
    fit = np.flatnonzero((duration >= 1800) & (duration <= 24 * 3600))
    pick = np.sort(dice.choice(fit, count, replace=count > len(fit)))
    slots = np.maximum(1, np.ceil(duration[pick] / 3600 - 1e-9)).astype(np.int64)
    at = submit[pick]
    arrive = ((at - at[0]) / max(1.0, at[-1] - at[0]) * (DAYS * 24 - 1)).astype(np.int64)
    slack = np.where(duration[pick] < 7200, 6, 24).astype(np.int64)
    held = np.clip(np.where(units[pick] > 0, units[pick], 1), 1, 8)
    regions = len(w.names)
    home = dice.integers(0, regions, count)
    allowed = np.zeros((count, regions), bool)
    allowed[dice.random(count) < 0.7] = True
    allowed[np.arange(count), home] = True
    watts = dice.choice([150.0, 250.0, 300.0, 400.0], count)
    cap = float(np.ceil((slots * held).sum() / (DAYS * 24) / regions / util))
    fleet = Fleet(arrive, slack, slots, held.astype(float), held * watts / 1000.0, allowed, home, cap, began)
    horizon = int((arrive + slack + slots).max())
    fleet.instance = windows(
        earliest=arrive, latest=arrive + slack, slots=slots, units=fleet.units, energy_kwh=fleet.energy,
        allowed=allowed,
        intensity_g_per_kwh=w.actual[:, began : began + horizon], cap=np.full((regions, horizon), cap),
    )  # fmt: skip
    return fleet


@dataclass
class Outcome:
    """What a policy did with a fleet."""

    share: float
    bound_saving: float
    misses: int
    changes: float
    wait_h: float


def simulate(w: World, fleet: Fleet, policy: Policy, compiled: bool = True) -> Outcome:
    """Plan every hour, start what is due, count what it emitted."""
    n, regions = len(fleet.arrive), len(w.names)
    length = fleet.instance.cap.shape[2] + 30
    used = np.zeros((1, regions, length + HORIZON + 60))
    started = np.full(n, -1, np.int64)
    where = np.full(n, -1, np.int64)
    plan_region, plan_start = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    changes = 0
    mu: np.ndarray | None = None
    for hour in range(length):
        waiting = np.flatnonzero((fleet.arrive <= hour) & (started < 0))
        if not len(waiting) and hour > fleet.arrive[-1]:
            break
        if not len(waiting):
            mu = shifted(mu, 1) if mu is not None else None
            continue
        belief = policy.view(w, fleet.began + hour, HORIZON)
        instance, real = _instance(fleet, policy, belief, hour, waiting, used, plan_region, plan_start)
        warm = shifted(mu, 1) if mu is not None else None
        made = solve(instance, policy.budget, warm=warm, compiled=compiled)
        mu = made.mu
        for at, j in enumerate(waiting[:real].tolist()):
            lane = int(made.lane[at])
            if lane < 0:
                continue
            r, s = int(instance.region[lane]), hour + int(made.start[at])
            if plan_start[j] > hour - 1 and plan_start[j] >= 0 and (r, s) != (plan_region[j], plan_start[j]):
                changes += 1
            plan_region[j], plan_start[j] = r, s
            if s == hour:
                started[j], where[j] = hour, r
                used[0, r, hour : hour + fleet.slots[j]] += fleet.units[j]
    return _outcome(w, fleet, started, where, changes, used)


def _instance(
    fleet: Fleet, policy: Policy, belief: np.ndarray, hour: int, waiting: np.ndarray, used: np.ndarray,
    plan_region: np.ndarray, plan_start: np.ndarray,
) -> tuple[Instance, int]:  # fmt: skip
    """Waiting jobs, then ghosts, on what the running ones leave."""
    latest = (fleet.arrive + fleet.slack)[waiting] - hour
    latest = np.where(latest < 0, 2, latest)
    came = fleet.arrive <= hour
    seen = Arrivals(
        fleet.arrive[came], fleet.slack[came], fleet.slots[came], fleet.units[came], fleet.energy[came],
        fleet.allowed[came],
    )  # fmt: skip
    g = ghosts(seen, hour, HORIZON, days=policy.ghost_days, share=policy.ghost_share)
    priced = belief * (1.0 + policy.delay * np.arange(HORIZON))
    instance = windows(
        earliest=np.concatenate([np.zeros(len(waiting), np.int64), g.slot]),
        latest=np.concatenate([latest, g.slot + g.slack]),
        slots=np.concatenate([fleet.slots[waiting], g.slots]),
        units=np.concatenate([fleet.units[waiting], g.units]),
        energy_kwh=np.concatenate([fleet.energy[waiting], g.energy_kwh]),
        allowed=np.concatenate([fleet.allowed[waiting], g.allowed]),
        intensity_g_per_kwh=priced,
        cap=fleet.cap - used[0, :, hour : hour + HORIZON],
    )
    ahead = np.where(plan_start[waiting] >= hour, plan_start[waiting] - hour, -1)
    price = policy.move * fleet.energy[waiting] * fleet.slots[waiting] * belief.mean()
    none = np.full(len(g.slot), -1, np.int64)
    return with_change_price(
        instance, np.concatenate([plan_region[waiting], none]), np.concatenate([ahead, none]),
        np.concatenate([price, np.zeros(len(none))]),
    ), len(waiting)  # fmt: skip


def _outcome(w: World, fleet: Fleet, started: np.ndarray, where: np.ndarray, changes: int, used: np.ndarray) -> Outcome:
    assert np.all(started >= 0), "a job never ran"
    assert used.max() <= fleet.cap + 1e-9, "a slot is overused"
    total = np.concatenate([np.zeros((len(w.names), 1)), np.cumsum(w.actual, axis=1)], axis=1)

    def grams(r: np.ndarray, s: np.ndarray) -> float:
        a = fleet.began + s
        return float((fleet.energy * (total[r, a + fleet.slots] - total[r, a])).sum())

    plan_g, now_g = grams(where, started), grams(fleet.home, fleet.arrive)
    bound_g = bound_of(fleet)
    return Outcome(
        100 * (now_g - plan_g) / (now_g - bound_g),
        100 * (1 - bound_g / now_g),
        int((started > fleet.arrive + fleet.slack).sum()),
        changes / len(started),
        float((started - fleet.arrive).mean()),
    )


def bound_of(fleet: Fleet) -> float:
    """Dual bound of the fleet with everything known."""
    return ascend(fleet.instance, kernels.pick(fleet.instance, True), 300, theta=0.7).bound_g

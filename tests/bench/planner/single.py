"""Cases of one job at a time: against GAIA, with pauses, and with power caps."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from bench.planner.fleets import trace, zone, zones
from bench.planner.levels import fill, whole
from bench.planner.tools import Missing, Settings, rounded, timed

from windward.domain.fleet import Level, Region, Work
from windward.domain.series import Basis, Kind, Quality, Scope, Series, Signal
from windward.planning.capacity import Occupancy
from windward.planning.pauses import best_pauses
from windward.planning.windows import best_window, site_of

KIND = Kind(Signal.AVERAGE, Scope.LIFE_CYCLE, Basis.CONSUMPTION)
T0 = datetime(2022, 1, 1, tzinfo=UTC)
GAIA_START, GAIA_HOURS, TICK_S = 3000, 720, 5


def series(name: str, values: np.ndarray, first_hour: int = 0) -> Series:
    """Hourly values from so many hours after T0 on."""
    start = T0 + timedelta(hours=first_hour)
    return Series.regular(
        name, KIND, start, timedelta(hours=1), values, quality=Quality.RECORDED, source="trace", issued_at=T0
    )


def work(hours_h: float, **more: Any) -> Work:
    length = timedelta(hours=hours_h)
    return Work("ns/a", T0, T0 + timedelta(days=400), length, length, T0, 1000.0, ("a",), "a", **more)


def window_exact(s: Settings) -> dict[str, Any]:
    """window-exact: GAIA's own jobs and its best policies on every zone; grams against ours"""
    if s.gaia is None or not (s.gaia / "src" / "run.py").exists():
        raise Missing("GAIA is not there: give GAIA=folder of umassos/GAIA")
    jobs = [
        (float(r["arrival_time"]), float(r["length"]), int(float(r["cpus"])))
        for r in csv.DictReader((s.gaia / "src" / "cluster_traces" / "pai_1k.csv").open())
    ]
    names = sorted(p.name.removesuffix(".csv.gz") for p in s.need("carbon").glob("*.csv.gz"))
    names = [n for n in names if not s.gaia_zones or n in s.gaia_zones.split(",")]
    worst, lowest, seconds = [], [], []
    for name in names:
        values = zone(s.data, name)[GAIA_START : GAIA_START + GAIA_HOURS]
        (ours, low), t = timed(s.runs, lambda v=values: _ours(v, jobs))  # type: ignore[misc]
        theirs = [_gaia(s, name, policy) for policy in ("carbon", "suspend-resume")]
        worst.append(ours / theirs[0])
        lowest.append(abs(low / theirs[1] - 1))
        seconds.append(t)
        print(f"    {name}: ours {ours:.4f} / {low:.8f}, GAIA {theirs[0]:.4f} / {theirs[1]:.8f}", flush=True)
    return rounded(
        {"zones": len(names), "worst_over_gaia": max(worst), "mean_over_gaia": np.mean(worst),
         "k_lowest_relative": max(lowest), "seconds": np.median(seconds)}
    )  # fmt: skip


def _ours(values: np.ndarray, jobs: list[tuple[float, float, int]]) -> tuple[float, float]:
    """Our best windows, and the cheapest moments, in GAIA's unit (kg per kWh x h x cpu)."""
    known = series("a", values)
    at = site_of(work(1.0), Region("a", "a"), known)
    free, zero = Occupancy({"a": at.region}), T0.timestamp()
    total, low = 0.0, 0.0
    edges = np.arange(GAIA_HOURS + 1) * 3600.0
    for arrival, length, cpus in jobs:
        length, begin = int(length / TICK_S) * TICK_S, int(arrival / TICK_S) * TICK_S
        wait = (6 if length < 7200 else 24) * 3600
        found = best_window(at, work(length / 3600), length, zero + begin, zero + begin + wait, free)
        assert found is not None
        total += cpus * found.grams / 1000.0
        span = np.clip(edges, begin, begin + length + wait)
        width = np.diff(span)
        order = np.argsort(values, kind="stable")
        taken = np.clip(length - (np.cumsum(width[order]) - width[order]), 0.0, width[order])
        low += cpus * float((taken * values[order]).sum()) / 3.6e6
    return total, low


def _gaia(s: Settings, name: str, policy: str) -> float:
    """GAIA's carbon cost, remembered by its code, jobs and intensities: one zone takes it minutes."""
    assert s.gaia is not None
    parts = [p.read_bytes() for p in sorted((s.gaia / "src").rglob("*.py"))]
    parts += [(s.gaia / "src" / "cluster_traces" / "pai_1k.csv").read_bytes(), zone(s.data, name).tobytes()]
    key = hashlib.sha256(b"".join([*parts, policy.encode()])).hexdigest()[:24]
    path = s.mip_cache / f"gaia-{key}.json"
    if not path.exists():
        cost = _run_gaia(s, name, policy)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(cost))
    return float(json.loads(path.read_text()))


def _run_gaia(s: Settings, name: str, policy: str) -> float:
    """Run GAIA, unchanged, in a copy of its folder; its carbon cost."""
    assert s.gaia is not None
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "gaia"
        shutil.copytree(s.gaia / "src", root / "src")
        (root / "results" / "simulation" / "pai_1k").mkdir(parents=True)
        (root / "src" / "traces").mkdir(exist_ok=True)
        rows = ["carbon_intensity_avg", *["0"] * 17544, *(f"{v:.4f}" for v in zone(s.data, name))]
        (root / "src" / "traces" / "Z.csv").write_text("\n".join(rows) + "\n")
        command = [s.gaia_python, "src/run.py", "-c", "Z", "-t", "pai_1k", "-i", str(GAIA_START), "--scheduling-policy",
                   policy, "--carbon-policy", "oracle", "-w", "6x24"]  # fmt: skip
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"GAIA does not run: {done.stderr.strip().splitlines()[-1]}")
        (found,) = (root / "results" / "simulation" / "pai_1k").glob(f"{policy}-{GAIA_START}-oracle-*.csv")
        return float(next(csv.DictReader(found.open()))["carbon_cost"])


def interrupt(s: Settings) -> dict[str, Any]:
    """interrupt: saving of pauses over one window, by running hours that each resume costs"""
    names = zones(s.data)
    dice = np.random.default_rng(s.seeds[0])
    _, _, duration, _ = trace(s.data)
    lengths = dice.choice(duration[(duration >= 5400) & (duration <= 86400)], 60)
    begins = dice.integers(0, 8760 - 80, 60)
    out: dict[str, Any] = {}
    worse = 0
    for overhead_h in (0.0, 0.05, 0.25, 0.5, 1.0):
        now = one = paused = 0.0
        for i, (length, begin) in enumerate(zip(lengths, begins, strict=True)):
            known = series("a", zone_cached(s.data, names[i % len(names)])[begin : begin + 80])
            job = work(np.ceil(length / 900) / 4, interruptible=True, overhead=timedelta(hours=overhead_h))
            at = site_of(job, Region("a", "a"), known)
            free, zero, n = Occupancy({"a": at.region}), T0.timestamp(), job.remaining.total_seconds()
            window = best_window(at, job, n, zero, zero + 86400, free)
            broken = best_pauses([at], job, zero, zero + n + 86400, free, coarsest=900)
            assert window is not None and broken is not None
            now += at.grams(zero, zero + n)
            one += window.grams
            paused += min(broken.grams, window.grams)
            worse += broken.grams > window.grams * (1 + 1e-9)
        out[f"overhead_{overhead_h:g}h"] = [100 * (1 - one / now), 100 * (1 - paused / now)]
    out["worse_than_one_window_on_the_grid"] = worse
    return rounded(out)


_ZONES: dict[tuple[Path, str], np.ndarray] = {}


def zone_cached(data: Path, name: str) -> np.ndarray:
    if (data, name) not in _ZONES:
        _ZONES[data, name] = zone(data, name)
    return _ZONES[data, name]


def curves(folder: Path) -> dict[str, tuple[Level, ...]]:
    """Measured curves of power limits, 100 W of host added: `gpu network` -> levels, speed 1 at the highest limit."""
    out = {}
    for path in sorted(folder.glob("summary_power_*.csv")):
        groups: dict[tuple[str, ...], list[tuple[float, float, float]]] = {}
        for row in csv.DictReader(path.open()):
            key = (row["network"], row["batch_size"], row["optimizer"])
            groups.setdefault(key, []).append(
                (float(row["power_limit"]), float(row["time_per_epoch"]), float(row["average_power"]))
            )
        best: dict[str, tuple[int, tuple[str, ...]]] = {}
        for key, points in groups.items():
            best[key[0]] = max(best.get(key[0], (0, key)), (len(points), key))
        for network, (_, key) in sorted(best.items()):
            points = sorted(p for p in groups[key] if all(map(np.isfinite, p)))
            if len(points) < 3:
                continue
            full = min(time for _, time, _ in points)
            points = points[: [time for _, time, _ in points].index(full) + 1]  # limits above the fastest only burn
            gpu = path.stem.removeprefix("summary_power_")
            out[f"{gpu} {network}"] = tuple(Level(full / time, watts + 100.0) for _, time, watts in points)
    return out


def power_cap(s: Settings) -> dict[str, Any]:
    """power-cap: 12 h of work on measured curves; saving of caps, of shifting and of both, by slack"""
    found = curves(s.curves)
    if not found:
        raise Missing(f"no summary_power_*.csv in {s.curves}")
    names = zones(s.data)
    dice = np.random.default_rng(s.seeds[0])
    begins = dice.integers(0, 8760 - 40, 40)
    out: dict[str, Any] = {"curves": len(found)}
    gaps, worse = [], 0
    for slack in (0.1, 0.5, 1.0):
        cap, shift, both = [], [], []
        for levels in found.values():
            sums = np.zeros(4)
            for i, begin in enumerate(begins):
                hours = int(np.ceil(12 * (1 + slack) - 1e-9))
                values = zone_cached(s.data, names[i % len(names)])[begin : begin + hours]
                one = _at_full(levels, values)
                exact, discrete = fill(levels, values, 1.0, 12.0), whole(levels, values, 1.0, 12.0)
                moved = whole([levels[-1]], values, 1.0, 12.0)
                slow = _slow(levels, values)
                assert exact is not None and discrete is not None and moved is not None
                gaps.append(discrete.grams / exact.grams - 1)
                worse += discrete.grams > min(moved.grams, slow) * (1 + 1e-9)
                sums += (one, slow, moved.grams, discrete.grams)
            saved = 100 * (1 - sums[1:] / sums[0])
            cap.append(saved[0])
            shift.append(saved[1])
            both.append(saved[2])
        out[f"slack_{slack:g}"] = [np.mean(cap), np.mean(shift), np.mean(both), np.max(both)]
    return rounded({"hull_gap": 100 * float(np.max(gaps)), "hull_gap_mean": 100 * float(np.mean(gaps)),
                    "joint_worse": worse, **out})  # fmt: skip


def _at_full(levels: tuple[Level, ...], values: np.ndarray) -> float:
    """Grams of running at once at the highest limit."""
    return float(values[:12].sum()) * levels[-1].power_w / 1000.0


def _slow(levels: tuple[Level, ...], values: np.ndarray) -> float:
    """Grams of running at once, without a break, at the best level that is done in time."""
    best = np.inf
    for level in levels:
        hours = 12.0 / level.speed
        if hours <= len(values) + 1e-9:
            part = np.clip(hours - np.arange(len(values)), 0.0, 1.0)
            best = min(best, float((values * part).sum()) * level.power_w / 1000.0)
    return best

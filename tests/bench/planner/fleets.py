"""Fleets for the planner's bench, drawn from job traces and zones' intensities: docs/planning.md says how.

Homes, permissions, watts and move energy are drawn (no public trace has them); durations and arrivals are the trace's.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from planning.instances import windows

from windward.planning.arrays.instance import Instance

SUITE = ("DE", "GB", "US-CAL-CISO", "US-TEX-ERCO", "US-MIDA-PJM")


def column(path: Path, *names: str) -> list[np.ndarray]:
    """Columns of a gzip CSV as floats."""
    with gzip.open(path, "rt") as file:
        rows = csv.DictReader(file)
        out = [[float(row[n]) for n in names] for row in rows]
    return list(np.array(out).T)


def zone(data: Path, name: str, folder: str = "carbon") -> np.ndarray:
    """Hourly intensity of a zone, g/kWh."""
    return column(data / folder / f"{name}.csv.gz", "carbon_intensity_gco2_kwh")[0]


def zones(data: Path, wanted: tuple[str, ...] = SUITE) -> tuple[str, ...]:
    """The wanted zones that the folder has; if none, its first five."""
    there = sorted(p.name.removesuffix(".csv.gz") for p in (data / "carbon").glob("*.csv.gz"))
    return tuple(z for z in wanted if z in there) or tuple(there[:5])


def trace(data: Path, prefer: str = "azure-vm") -> tuple[Path, np.ndarray, np.ndarray, np.ndarray]:
    """Submit seconds, duration seconds, units of a job trace: the preferred one, else the first."""
    path = data / "jobs" / f"{prefer}.csv.gz"
    path = path if path.exists() else sorted((data / "jobs").glob("*.csv.gz"))[0]
    with gzip.open(path, "rt") as file:
        names = csv.DictReader(file).fieldnames or []
    size = "cpus" if "cpus" in names else "gpus"
    return (path, *column(path, "submit_s", "duration_s", size))


@dataclass(frozen=True)
class Made:
    """A fleet as an instance, with what the comparisons need."""

    instance: Instance
    now_g: np.ndarray  # (N,) grams of running at submission, at home
    earliest: np.ndarray
    home: np.ndarray


def draw(
    data: Path,
    count: int,
    seed: int,
    *,
    util: float = 0.6,
    days: int = 12,
    most_units: int = 8,
    hours: tuple[float, float] = (0.5, 24.0),
    cap: float | None = None,
    roaming: float = 0.7,
) -> Made:
    """A fleet of `count` jobs over `days` days of 2022, capacity = mean load / util in every region.

    70 % of the jobs may go to 3 drawn regions, the others stay at home; slack 6 h under 2 h of work, else 24 h.
    """
    _, submit, duration, units = trace(data)
    fit = np.flatnonzero((duration >= hours[0] * 3600) & (duration <= hours[1] * 3600))
    return _drawn(data, count, seed, submit, duration, units, fit, days, most_units, cap, util, roaming)


def _drawn(
    data: Path, count: int, seed: int, submit: np.ndarray, duration: np.ndarray, units: np.ndarray, fit: np.ndarray,
    days: int, most_units: int, cap: float | None, util: float, roaming: float,
) -> Made:  # fmt: skip
    dice = np.random.default_rng(seed)
    names = zones(data)
    intensity = np.array([zone(data, z) for z in names])
    regions = len(names)
    pick = np.sort(dice.choice(fit, count, replace=count > len(fit)))
    slots = np.maximum(1, np.ceil(duration[pick] / 3600 - 1e-9)).astype(np.int64)
    at = submit[pick]
    earliest = ((at - at[0]) / max(1.0, at[-1] - at[0]) * (days * 24 - 1)).astype(np.int64)
    slack = np.where(duration[pick] < 7200, 6, 24)
    latest = earliest + slack
    held = np.clip(np.where(units[pick] > 0, units[pick], 1), 1, most_units)
    home = dice.integers(0, regions, count)
    allowed = np.zeros((count, regions), bool)
    others = np.argsort(dice.random((count, regions)), axis=1)[:, : min(3, regions)]
    roams = dice.random(count) < roaming
    np.put_along_axis(allowed, others, roams[:, None], axis=1)
    allowed[np.arange(count), home] = True
    watts = dice.choice([150.0, 250.0, 300.0, 400.0], count)
    horizon = int((latest + slots).max())
    offset = int(dice.integers(0, intensity.shape[1] - horizon))
    window = intensity[:, offset : offset + horizon]
    if cap is None:
        cap = np.ceil((slots * held).sum() / (days * 24) / regions / util)
    energy = held * watts / 1000.0
    move = dice.uniform(0.0, 0.04, count)
    instance = windows(
        earliest=earliest, latest=latest, slots=slots, units=held.astype(float), energy_kwh=energy, allowed=allowed,
        intensity_g_per_kwh=window, cap=np.full((regions, horizon), float(cap)), home=home, move_kwh=move,
    )  # fmt: skip
    total = np.concatenate([np.zeros((regions, 1)), np.cumsum(window, axis=1)], axis=1)
    now_g = energy * (total[home, earliest + slots] - total[home, earliest])
    return Made(instance, now_g, earliest, home)


def openb(data: Path, count: int, seed: int, *, cap: float = 8.0, days: int = 12) -> Made | None:
    """Deferrable pods of the accelerator trace on 5 x 8 units; None where the folder has no such trace."""
    path = data / "jobs" / "alibaba-openb-gpu-2023.csv.gz"
    if not path.exists():
        return None
    submit, duration, units = column(path, "submit_s", "duration_s", "gpus")
    fit = np.flatnonzero((duration >= 1800) & (duration <= 24 * 3600))
    return _drawn(data, count, seed, submit, duration, units, fit, days, 8, cap, 0.6, 0.7)

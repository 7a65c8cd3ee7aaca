"""Carbon intensity over time, with everything that must not be mixed written on it.

One instant of one zone reads 75, 60 or 20 g/kWh depending on what is counted, so the kind of a series is part
of its type: series of different kinds are never joined (`MixedKinds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from windward.domain.clock import utc

Floats = npt.NDArray[np.float64]


class Signal(StrEnum):
    """Average: of all generation. Marginal: of the plants that answer to one more kilowatt-hour."""

    AVERAGE = "Average"
    MARGINAL = "Marginal"


class Scope(StrEnum):
    """Direct: combustion only. LifeCycle: with fuel supply and plant construction (gCO2e)."""

    DIRECT = "Direct"
    LIFE_CYCLE = "LifeCycle"


class Basis(StrEnum):
    """Production: the zone's own plants. Consumption: with imports and exports traced."""

    PRODUCTION = "Production"
    CONSUMPTION = "Consumption"


@dataclass(frozen=True, slots=True)
class Kind:
    """What an intensity counts."""

    signal: Signal
    scope: Scope
    basis: Basis

    def __str__(self) -> str:
        scope = {"Direct": "direct", "LifeCycle": "life-cycle"}[self.scope]
        return f"{self.signal.lower()} {scope} {self.basis.lower()}"


class Quality(StrEnum):
    """Where a value comes from, best first."""

    MEASURED = "measured"  # the provider's settled or provisional actual
    FORECAST = "forecast"  # issued by the provider for a future period
    ESTIMATED = "estimated"  # filled by rule: the provider's own estimate, or another year's same hour
    RECORDED = "recorded"  # a recorded trace replayed: its actuals stand in for a forecast


def distinct(values: Floats) -> Floats:
    """The different values, ascending. (`np.unique` would load all of masked arrays to ask whether these are.)"""
    ordered: Floats = np.sort(values)
    new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return np.asarray(ordered[new])


class MixedKinds(ValueError):
    """Two series that count different things, or of different zones, were about to be joined."""


@dataclass(frozen=True, eq=False)
class Series:
    """Intensity of one zone over consecutive periods; piecewise constant.

    A series has no hole: it ends where one begins, and `after_gap` holds what is known behind it. So nothing that
    computes with a series meets a missing value, and nothing that is known is lost.

    Attributes:
        zone: grid zone in Electricity Maps' naming, for example `DE`.
        kind: what is counted.
        edges: period boundaries, n + 1 strictly increasing epoch seconds (UTC); period i is [edges[i], edges[i+1]).
        intensity_g_per_kwh: n values in gCO2e/kWh, finite and >= 0 (0 is a legal marginal value).
        quality: n values.
        source: provider and data set, for example `neso` or `trace:2022`.
        issued_at: when the provider issued (or, failing that, when we fetched) these values.
        fetched_at: when we received them.
        attribution: the licence line that must accompany the data wherever it shows.
        demo: True for bundled demonstration data: watermarked everywhere, in no report.
        after_gap: the stretches behind holes, in order, each itself without one; empty where there is no hole.
    """

    zone: str
    kind: Kind
    edges: Floats
    intensity_g_per_kwh: Floats
    quality: tuple[Quality, ...]
    source: str
    issued_at: datetime
    fetched_at: datetime
    attribution: str = ""
    demo: bool = False
    after_gap: tuple[Series, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.intensity_g_per_kwh)
        if n == 0 or len(self.edges) != n + 1 or len(self.quality) != n:
            raise ValueError(f"{self.zone}: {len(self.edges)} edges and {len(self.quality)} qualities for {n} values")
        if not np.all(np.diff(self.edges) > 0):
            raise ValueError(f"{self.zone}: period starts must increase")
        if not np.all(np.isfinite(self.intensity_g_per_kwh)) or np.any(self.intensity_g_per_kwh < 0):
            raise ValueError(f"{self.zone}: intensities must be finite and not negative")
        for before, after in pairwise((self, *self.after_gap)):
            if after.after_gap or not before.edges[-1] < after.edges[0]:
                raise ValueError(f"{self.zone}: the stretches behind a hole must follow each other")

    @property
    def stretches(self) -> tuple[Series, ...]:
        """The series as stretches without holes, in order; itself alone where it has no hole."""
        return (self, *self.after_gap) if not self.after_gap else (replace(self, after_gap=()), *self.after_gap)

    @property
    def gaps(self) -> tuple[tuple[datetime, datetime], ...]:
        """The holes, each as (start, end)."""
        return tuple((before.end, after.start) for before, after in pairwise((self, *self.after_gap)))

    @classmethod
    def of_stretches(cls, stretches: Sequence[Series]) -> Series:
        """One series of stretches in order, with a hole between each two."""
        return replace(stretches[0], after_gap=tuple(stretches[1:]))

    def part(self, first: int, stop: int) -> Series:
        """Periods `first` to `stop` - 1 of the stretch before any hole. Nothing needs to be checked again.

        Raises:
            ValueError: there is no such period.
        """
        if not 0 <= first < stop <= len(self.quality):
            raise ValueError(f"{self.zone}: no periods {first} to {stop} of {len(self.quality)}")
        part = object.__new__(Series)
        part.__dict__.update({f.name: getattr(self, f.name) for f in fields(self)})
        part.__dict__["edges"] = self.edges[first : stop + 1]
        part.__dict__["intensity_g_per_kwh"] = self.intensity_g_per_kwh[first:stop]
        part.__dict__["quality"] = self.quality[first:stop]
        part.__dict__["after_gap"] = ()
        return part

    def __eq__(self, other: object) -> bool:
        """Equal content, bit for bit; the generated comparison would raise on arrays."""
        return self._content == other._content if isinstance(other, Series) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._content)

    @cached_property
    def _content(self) -> tuple[object, ...]:
        arrays = (self.edges.tobytes(), self.intensity_g_per_kwh.tobytes())
        meaning = (self.zone, self.kind, self.quality, self.source, self.attribution, self.demo)
        return (*arrays, *meaning, self.issued_at, self.fetched_at, self.after_gap)

    @classmethod
    def regular(
        cls,
        zone: str,
        kind: Kind,
        start: datetime,
        step: timedelta,
        values_g_per_kwh: Sequence[float] | Floats,
        *,
        quality: Quality | Sequence[Quality],
        source: str,
        issued_at: datetime,
        fetched_at: datetime | None = None,
        attribution: str = "",
        demo: bool = False,
    ) -> Series:
        """A series of equal steps from `start`."""
        values = np.asarray(values_g_per_kwh, dtype=np.float64)
        edges = utc(start).timestamp() + step.total_seconds() * np.arange(len(values) + 1, dtype=np.float64)
        qualities = (quality,) * len(values) if isinstance(quality, Quality) else tuple(quality)
        return cls(
            zone,
            kind,
            edges,
            values,
            qualities,
            source,
            utc(issued_at),
            utc(fetched_at or issued_at),
            attribution,
            demo,
        )

    @cached_property
    def start(self) -> datetime:
        return datetime.fromtimestamp(float(self.edges[0]), UTC)

    @cached_property
    def end(self) -> datetime:
        """End of the last period before a hole or of all."""
        return datetime.fromtimestamp(float(self.edges[-1]), UTC)

    @cached_property
    def _cumulative(self) -> Floats:
        """Integral of intensity from the first edge to each edge, in g/kWh x h."""
        hours = np.diff(self.edges) / 3600.0
        return np.concatenate([[0.0], np.cumsum(self.intensity_g_per_kwh * hours)])

    def integral(self, t: Floats | float) -> Floats:
        """Integral of the intensity from the series' start to each epoch second in `t`, in g/kWh x h.

        A load of P watts over [a, b] emits P / 1000 x (integral(b) - integral(a)) grams. Outside the series the
        integral stays flat, as over a hole; callers check coverage first (`covers`).
        """
        if self.after_gap:
            return np.asarray(sum(s.integral(t) for s in self.stretches), dtype=np.float64)
        return np.asarray(np.interp(t, self.edges, self._cumulative), dtype=np.float64)

    def covers(self, start: datetime, end: datetime) -> bool:
        """Whether all of [start, end] is known, without a hole."""
        return any(s.start <= start and end <= s.end for s in (self, *self.after_gap))

    def at(self, moment: datetime) -> float | None:
        """Intensity at `moment` in g/kWh, or None where the series knows nothing."""
        t = utc(moment).timestamp()
        if not self.edges[0] <= t < self.edges[-1]:
            return next((v for s in self.after_gap if (v := s.at(moment)) is not None), None)
        return float(self.intensity_g_per_kwh[int(np.searchsorted(self.edges, t, side="right")) - 1])

    def mean(self, start: datetime, end: datetime) -> float:
        """Mean intensity in g/kWh over [start, end].

        Raises:
            ValueError: the series does not cover the interval.
        """
        if end <= start or not self.covers(start, end):
            raise ValueError(f"{self.zone}: {start} to {end} is not within {self.start} to {self.end}")
        a, b = utc(start).timestamp(), utc(end).timestamp()
        area = self.integral(np.array([a, b]))
        return float(area[1] - area[0]) / ((b - a) / 3600.0)

    def quality_over(self, start: datetime, end: datetime) -> tuple[Quality, ...]:
        """Of the periods that overlap [start, end)."""
        behind = [s for s in self.after_gap if s.start <= start]
        if behind:
            return behind[-1].quality_over(start, end)
        i = max(int(np.searchsorted(self.edges, utc(start).timestamp(), side="right")) - 1, 0)
        return self.quality[i : int(np.searchsorted(self.edges, utc(end).timestamp(), side="left"))]

    def clip(self, start: datetime, end: datetime) -> Series | None:
        """The periods that overlap [start, end), whole; None where there are none. Holes in between stay holes."""
        if self.after_gap:
            parts = [part for s in self.stretches if (part := s.clip(start, end)) is not None]
            return Series.of_stretches(parts) if parts else None
        a, b = utc(start).timestamp(), utc(end).timestamp()
        keep = np.flatnonzero((self.edges[1:] > a) & (self.edges[:-1] < b))
        if len(keep) == 0:
            return None
        return self.part(int(keep[0]), int(keep[-1]) + 1)

"""Merges several series of one zone and kind by priority."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from windward.domain.clock import utc
from windward.domain.series import Floats, MixedKinds, Series, distinct

Ints = npt.NDArray[np.int64]


def overlay(layers: Sequence[Series], start: datetime, end: datetime) -> Series | None:
    """Merge the layers over [start, end); an earlier layer takes precedence over a later one.

    Returns:
        Whole periods from the first known one up to `end`; None where no layer covers any. Hours that no layer covers
        are a hole (check `covers`, see `Series.after_gap`). Periods of a lower layer are cut where a higher one begins;
        each keeps its quality. Source and attribution name every layer used; issue and fetch time are those of the
        highest layer used.

    Raises:
        MixedKinds: the layers are of several zones or kinds.
    """
    if not layers:
        return None
    if len({(layer.zone, layer.kind) for layer in layers}) > 1:
        raise MixedKinds(f"cannot lay {', '.join(sorted({f'{x.zone} ({x.kind})' for x in layers}))} over each other")
    a, b = utc(start).timestamp(), utc(end).timestamp()
    layers = [stretch for layer in layers for stretch in layer.stretches]
    if layers[0].edges[0] <= a < b <= layers[0].edges[-1]:
        return _whole_periods(layers[0], a, b)  # the first layer covers it all
    edges = distinct(np.concatenate([layer.edges for layer in layers]))
    middle = (edges[:-1] + edges[1:]) / 2
    owner = np.full(len(middle), -1)
    period = np.zeros(len(middle), dtype=np.int64)
    for rank in reversed(range(len(layers))):
        known = layers[rank].edges
        inside = (known[0] <= middle) & (middle < known[-1])
        owner[inside] = rank
        period[inside] = np.searchsorted(known, middle[inside], side="right") - 1
    # One period of one layer may have been split by another layer's edges: join it again before anything is cut.
    head = np.concatenate([[True], (owner[1:] != owner[:-1]) | (period[1:] != period[:-1])])
    edges = np.append(edges[:-1][head], edges[-1])
    owner, period = owner[head], period[head]
    wanted = np.flatnonzero((edges[1:] > a) & (edges[:-1] < b) & (owner >= 0))
    if len(wanted) == 0:
        return None
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
    return Series.of_stretches([_run(layers, edges, owner, period, int(r[0]), int(r[-1]) + 1) for r in runs])


def _run(layers: Sequence[Series], edges: Floats, owner: Ints, period: Ints, i: int, j: int) -> Series:
    """The series of cells i to j - 1, which are contiguous."""
    cells = list(zip(owner[i:j].tolist(), period[i:j].tolist(), strict=True))
    return _assembled(layers, edges[i : j + 1], cells)


def _whole_periods(series: Series, a: float, b: float) -> Series:
    """The periods that touch [a, b)."""
    i = int(np.searchsorted(series.edges, a, side="right")) - 1
    j = int(np.searchsorted(series.edges, b, side="left"))
    return series.part(i, j)


def _assembled(layers: Sequence[Series], edges: Floats, cells: list[tuple[int, int]]) -> Series:
    used = [layers[rank] for rank in sorted({rank for rank, _ in cells})]
    return replace(
        used[0],
        edges=edges,
        intensity_g_per_kwh=np.array([layers[rank].intensity_g_per_kwh[p] for rank, p in cells]),
        quality=tuple(layers[rank].quality[p] for rank, p in cells),
        source=_each_once((layer.source for layer in used), "+"),
        attribution=_each_once((layer.attribution for layer in used), "; "),
        demo=any(layer.demo for layer in used),
    )


def _each_once(names: Iterable[str], mark: str) -> str:
    """Joins distinct names; names that are joined already are split first, so that repeated overlays do not grow."""
    return mark.join(dict.fromkeys(part for name in names for part in name.split(mark) if part))

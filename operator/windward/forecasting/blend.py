"""A published issue, put right by what was measured since, and continued beyond its end by our own forecast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.domain.series import MixedKinds, Quality, Series
from windward.forecasting.join import joined
from windward.forecasting.past import HOUR_S

_FADE = 0.9  # of an error, from hour to hour: what is wrong now is hardly wrong tomorrow
_CARRY = 0.95  # of the step between issue and own forecast, past the issue's end
_CARRY_FROM_S = 6 * HOUR_S  # of the issue's last hours, whose mean step is carried
_MOST_ERROR = 0.5


def nowcast(issue: Series, history: Series | None) -> Series:
    """`issue` with its newest error faded out over the hours that are not yet measured.

    The error e is measured / issued - 1 in the last measured period that the issue speaks of, at most one half either
    way; the hour i hours later, i = 1, 2, ..., is multiplied by 1 + e 0.9^i. Without such a period nothing changes. The
    quality stays what it was: it is still the provider's forecast, and the source says what was done to it.

    Raises:
        MixedKinds: zone or kind of the two differ.
    """
    if history is None:
        return issue
    _same(issue, history)
    until = float(history.edges[-1])
    middle = (max(float(history.edges[-2]), until - HOUR_S) + until) / 2
    at = int(np.searchsorted(issue.edges, middle, side="right")) - 1
    if not 0 <= at < len(issue.intensity_g_per_kwh) or issue.intensity_g_per_kwh[at] < 1.0:
        return issue
    error = float(history.intensity_g_per_kwh[-1] / issue.intensity_g_per_kwh[at]) - 1
    error = min(max(error, -_MOST_ERROR), _MOST_ERROR)
    hours = (issue.edges[:-1] - until) / HOUR_S + 1
    factor = np.where(issue.edges[1:] > until, 1 + error * _FADE ** np.maximum(hours, 0.0), 1.0)
    return replace(issue, intensity_g_per_kwh=issue.intensity_g_per_kwh * factor, source=f"nowcast:{issue.source}")


def blend(issue: Series, history: Series | None, own: Series) -> Series:
    """The published hours, nowcast, then our own: from the issue's start to the later of the two ends.

    What the issue says over its last six hours more or less than ours is carried on, fading by a twentieth each hour: a
    published forecast knows the weather of its last day, and the weather goes on beyond it.

    Raises:
        MixedKinds: zone or kind of the three differ.
        ValueError: `own` begins after the issue's end.
    """
    _same(issue, own)
    issue = nowcast(issue, history)
    end = float(issue.edges[-1])
    if own.edges[0] > end:
        raise ValueError(f"{own.zone}: nothing is known between {issue.end} and {own.start}")
    if own.edges[-1] <= end:
        return issue
    a = max(end - _CARRY_FROM_S, float(own.edges[0]), float(issue.edges[0]))
    step = 0.0
    if a < end:
        span = np.array([a, end])
        step = float(np.diff(issue.integral(span))[0] - np.diff(own.integral(span))[0]) / ((end - a) / HOUR_S)
    first = int(np.searchsorted(own.edges, end, side="right")) - 1
    edges = np.concatenate([[end], own.edges[first + 1 :]])
    hours = (edges[:-1] - end) / HOUR_S + 1
    values = np.maximum(own.intensity_g_per_kwh[first:] + step * _CARRY**hours, 0.0)
    tail = replace(
        issue,
        edges=edges,
        intensity_g_per_kwh=values,
        quality=(Quality.ESTIMATED,) * len(values),
        source=f"{issue.source}+{own.source}",
        demo=issue.demo or own.demo,
    )
    return joined(issue, tail)


def _same(issue: Series, other: Series) -> None:
    if (issue.zone, issue.kind) != (other.zone, other.kind):
        raise MixedKinds(f"cannot blend {issue.zone} ({issue.kind}) with {other.zone} ({other.kind})")

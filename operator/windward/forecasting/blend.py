"""Corrects a published issue by its latest measured error, and continues it beyond its end by our own forecast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from windward.domain.series import MixedKinds, Quality, Series
from windward.forecasting.join import joined
from windward.forecasting.past import HOUR_S

_FADE = 0.9  # factor on an error per hour: today's error says little about tomorrow
_CARRY = 0.95  # factor per hour on the step between issue and own forecast, beyond the issue's end
_CARRY_FROM_S = 6 * HOUR_S  # length of the issue's end over which the mean step is taken
_MOST_ERROR = 0.5


def nowcast(issue: Series, history: Series | None) -> Series:
    """Returns `issue` corrected by its newest error, which fades over the hours that are not yet measured.

    The error e is measured / issued - 1 in the last measured period that the issue covers, clipped to [-0.5, 0.5]; the
    value i hours later, i = 1, 2, ..., is multiplied by 1 + e 0.9^i. Without such a period the issue is returned as it
    is. Quality is kept, as it is still the provider's forecast; the source becomes `nowcast:...`.

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
    """Returns the issue, nowcast, followed by our own forecast, up to the later of the two ends.

    The mean step between issue and own forecast over the issue's last six hours is added to the own values, less 5 %
    each hour: a published forecast includes the weather of its last day, which persists for a while.

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
